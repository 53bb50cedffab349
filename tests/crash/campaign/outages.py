"""The kinds `server` and `network`: PostgreSQL goes away in the middle of a sync, or its connection does at a COMMIT."""

import signal
import time

from services.proxy import CommitProxy, Loss
from strandline.testing.campaign.chains import Chain, name_of

CHAINS = 3
ENDINGS = {0, 1, 5}
"""The engine may get over it, or not."""
_COMMITS = ("destination.migrate", "destination.write", "states.save")
"""Calls in or after which a COMMIT is sent."""


def roles(cell):
    """What of the cell is PostgreSQL."""
    kinds = {"origin": cell.source, "store": cell.destination}
    return [role for role, kind in kinds.items() if kind == "postgresql"]


def stop_server(bench, cell):
    """The server is stopped at once, as by ``pg_ctl stop -m immediate``, at any instant, and started again."""
    learned, _ = bench.learned(cell)
    server = bench.databases.server
    for number in range(1, max(1, round(CHAINS * bench.share)) + 1):
        chance, chain = bench.chance(cell, "server", number), Chain(bench, cell, "server", number)
        for one in learned:
            chain.change()
            share = chance.random()
            case = chain.case(f"step {chain.step} at {share:.2f} of the sync")
            running = chain.start()
            time.sleep(share * one.seconds)
            server.stop(signal.SIGQUIT)
            server.start()
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
