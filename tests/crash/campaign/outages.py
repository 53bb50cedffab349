"""The kinds `server` and `network`: a server goes away in the middle of a sync, or a connection to PostgreSQL at a COMMIT."""

import signal
import time

from campaign.keepers import KEEPERS
from services.proxy import CommitProxy, Loss
from strandline.testing.campaign.chains import Chain, name_of

CHAINS = 3
ENDINGS = {0, 1, 5}
"""The engine may get over it, or not."""
_COMMITS = ("destination.migrate", "destination.write", "states.save")
"""Calls in or after which a COMMIT is sent."""
_AWAY_S = 0.3


def servers(cell):
    """By what of the cell is kept on a server: how that one is stopped at once and started again, of a chain."""
    postgresql = "postgresql" in (cell.source, cell.destination)
    return [
        *([_stop_postgresql] if postgresql else []),
        *([_stop_api] if cell.source == "rest" else []),
        *([lambda chain: chain.bench.keeper(cell).crash()] if hasattr(KEEPERS[cell.backend], "crash") else []),
    ]


def _stop_postgresql(chain):
    """As by ``pg_ctl stop -m immediate``."""
    chain.bench.databases.server.stop(signal.SIGQUIT)
    chain.bench.databases.server.start()


def _stop_api(chain):
    """For as long as a sync needs to ask it again."""
    server = chain.world.origin.server
    server.stop()
    time.sleep(_AWAY_S)
    server.start()


def stop_server(bench, cell):
    """A server is stopped at any instant, and started again."""
    learned, _ = bench.learned(cell)
    for number in range(1, max(1, round(CHAINS * bench.share)) + 1):
        chance, chain = bench.chance(cell, "server", number), Chain(bench, cell, "server", number)
        for one in learned:
            chain.change()
            share = chance.random()
            case = chain.case(f"step {chain.step} at {share:.2f} of the sync")
            running = chain.start()
            time.sleep(share * one.seconds)
            chance.choice(servers(cell))(chain)
            yield _ended(chain, case, running)
            if case.bad:
                break
        chain.close()


def cut_connection(bench, cell):
    """A COMMIT, or the reply to one, never arrives."""
    learned, _ = bench.learned(cell)
    for number in range(1, max(1, round(2 * CHAINS * bench.share)) + 1):
        chance = bench.chance(cell, "network", number)
        with CommitProxy(bench.databases.server.port) as proxy:
            chain = Chain(bench, cell, "network", number, ports={"store": proxy.port})
            for one in learned:
                chain.change()
                yield (case := _cut(chain, proxy, one, chance))
                if case.bad:
                    break
            chain.close()


def _cut(chain, proxy, learned, chance):
    point = chance.choice([one for one in learned.points if one[0] in _COMMITS])
    loss = chance.choice([Loss.REPLY, Loss.REQUEST])
    case = chain.case(f"{name_of(chain.step, point)}, the next COMMIT: {loss.name.lower()} lost")
    running = chain.start(point=point, act="stop")
    running.wait_until_stopped()
    proxy.lose(loss)
    running.send(signal.SIGCONT)
    _ended(chain, case, running)
    case.reached = proxy.spare()
    return case


def _ended(chain, case, running):
    ended = running.wait()
    case.exits.append(ended.code)
    if ended.code not in ENDINGS or "Traceback" in ended.text:
        case.problems.append(f"the sync ended with {ended.code}: {ended.text[-600:]}")
    chain.recover(case)
    return case
