"""Syncs under strace, which kills them, or makes their calls fail."""

import re
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import contextmanager

AVAILABLE = shutil.which("strace") is not None


@contextmanager
def traced(running, log, *options):
    """Attach to a sync that waits to begin, and let it go."""
    assert running.wait_until_stopped(), "the sync did not wait"
    command = ["strace", "-f", "-y", "-o", str(log), "-p", str(running.pid), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        said = strace.stderr.readline()
        assert "attached" in said, said
        running.send(signal.SIGCONT)
        yield
        strace.communicate(timeout=60)


def run(chain, *options):
    """A sync to its end; how it ended, and (name, number in its thread, line) of each call that was traced."""
    log = chain.bench.root / "strace.log"
    running = chain.start(waits=True)
    with traced(running, log, *options):
        ended = running.wait()
    counts, calls = Counter(), []
    for line in log.read_text(errors="replace").splitlines():
        if found := re.match(r"(\d+) +(\w+)\(", line):
            counts[found.groups()] += 1
            calls.append((found[2], counts[found.groups()], line))
    return ended, calls
