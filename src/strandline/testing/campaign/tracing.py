"""Syncs under strace, which kills them, or makes their calls fail."""

import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from strandline.testing.campaign.chains import Chain
from strandline.testing.campaign.processes import Ended, Running

__all__ = ["AVAILABLE", "Traced", "run", "traced"]

AVAILABLE = shutil.which("strace") is not None
Traced: TypeAlias = tuple[str, int, str]
"""A system call: its name, its number in its thread, and the line that strace writes."""


@contextmanager
def traced(running: Running, log: Path, *options: str) -> Iterator[None]:
    """Attach to a sync that waits to begin, and let it go."""
    assert running.wait_until_stopped(), "the sync did not wait"
    command = ["strace", "-f", "-y", "-o", str(log), "-p", str(running.pid), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        assert "attached" in said, said
        running.send(signal.SIGCONT)
        yield
        strace.communicate(timeout=60)


def run(chain: Chain, *options: str) -> tuple[Ended, list[Traced]]:
    """A sync to its end; how it ended, and each call that was traced."""
    log = chain.bench.root / "strace.log"
    running = chain.start(waits=True)
    with traced(running, log, *options):
        ended = running.wait()
    counts, calls = Counter[tuple[str, ...]](), list[Traced]()
    for line in log.read_text(errors="replace").splitlines():
        if found := re.match(r"(\d+) +(\w+)\(", line):
            counts[found.groups()] += 1
            calls.append((found[2], counts[found.groups()], line))
    return ended, calls
