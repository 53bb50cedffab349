"""The kind `syscall`: a SIGKILL at system calls that the seed picks, inside of drivers and of the state backend."""

from campaign import tracing
from campaign.chains import Chain

CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,sendto,recvfrom"
CHAINS = 4


def strike(bench, cell):
    """A chain is learned under strace, and others are killed at one of its calls in each step."""
    learned = list(_learn(bench, cell))
    for number in range(1, max(1, round(CHAINS * bench.share)) + 1):
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


def _learn(bench, cell):
    """By step: how often each call is made by one thread."""
    chain = Chain(bench, cell, "syscall")
    for _ in range(chain.world.origin.steps):
        chain.change()
        ended, calls = tracing.run(chain, "-e", f"trace={CALLS}")
        assert ended.code == 0, ended.text
        names = {}
        for name, nth, _ in calls:
            names[name] = max(nth, names.get(name, 0))
        yield names
    chain.close()
