"""The kind `disk`: writes of the destination's file and of the state directory that find no space, and fsyncs that fail."""

from campaign import tracing
from campaign.chains import Chain
from campaign.worlds import STATE

FAULTS = {"ENOSPC": ("write", "pwrite64"), "EIO": ("fsync", "fdatasync")}
ROUNDS = 3


def strike(bench, cell):
    """In each step of a chain one call fails, once; each round begins with another place and fault.

    The engine may try again, and get over it. What is shared memory and no file (``-shm``) does not count.
    """
    places = [STATE, *(["/warehouse."] if cell.destination in {"duckdb", "sqlite"} else [])]
    faults = [(place, error) for error in FAULTS for place in places]
    learned = list(_learn(bench, cell))
    for number in range(1, max(1, round(ROUNDS * bench.share)) + 1):
        chance, chain = bench.chance(cell, "disk", number), Chain(bench, cell, "disk", number)
        for step, calls in enumerate(learned):
            chain.change()
            place, error = faults[(number + step) % len(faults)]
            chosen = [
                (name, nth)
                for name, nth, line in calls
                if name in FAULTS[error] and place in line and "-shm>" not in line
            ]
            if not chosen:
                chain.run()
                continue
            case = _fail(chain, place, error, *chance.choice(chosen))
            yield case
            if case.bad:
                break
        chain.close()


def _learn(bench, cell):
    chain = Chain(bench, cell, "disk")
    names = ",".join(name for one in FAULTS.values() for name in one)
    for _ in range(chain.world.origin.steps):
        chain.change()
        ended, calls = tracing.run(chain, "-e", f"trace={names}")
        assert ended.code == 0, ended.text
        yield calls
    chain.close()


def _fail(chain, place, error, name, nth):
    case = chain.case(f"step {chain.step} {error} of {name} {nth} in {place}")
    ended, calls = tracing.run(chain, "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={nth}")
    case.exits.append(ended.code)
    struck = [line for *_, line in calls if "(INJECTED)" in line]
    case.reached = any(place in line for line in struck)
    if ended.code not in {0, 1, 3, 5} or "Traceback" in ended.text:
        case.problems.append(f"the sync ended with {ended.code}: {ended.text[-600:]}")
    chain.recover(case)
    return case
