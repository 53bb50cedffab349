"""The kind `syscall`: a SIGKILL at system calls that the seed picks, inside of drivers and of the state backend."""

from collections.abc import Iterator
from typing import Any

from strandline.testing.campaign import tracing
from strandline.testing.campaign.chains import Bench, Case, Chain

__all__ = ["strike"]

_CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,sendto,recvfrom"
_CHAINS = 4


def strike(bench: Bench, cell: Any) -> Iterator[Case]:
    """A chain is learned under strace, and others are killed at one of its calls in each step."""
    learned = list(_learn(bench, cell))
    for number in range(1, max(1, round(_CHAINS * bench.share)) + 1):
        chance, chain = bench.chance(cell, "syscall", number), Chain(bench, cell, "syscall", number)
        for names in learned:
            chain.change()
            name = chance.choice(sorted(names))
            nth = chance.randint(1, names[name])
            case = chain.case(f"step {chain.step} {name} {nth}")
            ended, _ = tracing.run(chain, "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={nth}")
            case.exits.append(ended.code)
            case.reached = ended.killed
            if not ended.killed and ended.code:
                case.problems.append(f"a sync ended with {ended.code}: {ended.text[-600:]}")
            chain.recover(case)
            yield case
            if case.bad:
                break
        chain.close()


def _learn(bench: Bench, cell: Any) -> Iterator[dict[str, int]]:
    """By step: how often each call is made by one thread."""
    chain = Chain(bench, cell, "syscall")
    for _ in range(chain.world.steps):
        chain.change()
        ended, calls = tracing.run(chain, "-e", f"trace={_CALLS}")
        assert ended.code == 0, ended.text
        names: dict[str, int] = {}
        for name, nth, _ in calls:
            names[name] = max(nth, names.get(name, 0))
        yield names
    chain.close()
