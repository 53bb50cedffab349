"""Syncs as processes: started from a warm nursery, waited for with a deadline."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DEADLINE_S", "Ended", "Nursery", "Running"]

DEADLINE_S = 100
"""A sync takes less than a second; what takes so long hangs."""
_ENVIRONMENT = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
"""No thread may run in a process that forks."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A sync that is over."""

    code: int
    """Its exit code, or the negative number of the signal that ended it."""
    seconds: float
    text: str
    """All that it printed."""

    @property
    def killed(self) -> bool:
        """By a ``SIGKILL``."""
        return self.code == -signal.SIGKILL


class Running:
    """A sync that goes on."""

    def __init__(self, nursery: "Nursery", pid: int, out: Path) -> None:
        self.pid = pid
        self._nursery, self._out, self._began_s = nursery, out, time.monotonic()

    def wait_until_stopped(self) -> bool:
        """Whether it has suspended itself; otherwise it has come to its end before."""
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            state = self._state()
            if state in "TZX":
                return state == "T"
            time.sleep(0.001)
        raise AssertionError(f"process {self.pid} neither stops nor ends: {self._out.read_text()}")

    def send(self, number: int) -> None:
        """A signal."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Until it is over."""
        hangs = threading.Event()
        timer = threading.Timer(DEADLINE_S, self._end, [hangs])
        timer.start()
        code = self._nursery.ask("wait", self.pid)
        timer.cancel()
        text = self._out.read_text(errors="replace")
        assert not hangs.is_set(), f"the sync hangs, and was killed after {DEADLINE_S} s: {text}"
        return Ended(code, time.monotonic() - self._began_s, text)

    def _end(self, hangs: threading.Event) -> None:
        hangs.set()
        self.send(signal.SIGUSR1)
        time.sleep(1)
        self.send(signal.SIGKILL)

    def _state(self) -> str:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "X"


class Nursery:
    """Starts syncs. For one thread at a time.

    Args:
        outputs: a directory for what they print.
        module: what is run; it calls ``strandline.testing.campaign.nursery.serve``.
        cwd: where ``module`` is found, if it is not installed.
    """

    def __init__(
        self, outputs: Path, *, module: str = "strandline.testing.campaign.nursery", cwd: Path | None = None
    ) -> None:
        self._outputs = outputs
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=cwd,
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._number = 0

    def ask(self, verb: str, argument: Any) -> int:
        """What the nursery replies."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({verb: argument}) + "\n")
        line = self._process.stdout.readline()
        assert line, "the process that forks syncs is gone"
        reply: int = json.loads(line)
        return reply

    def start(self, directory: Path, arguments: Sequence[str] = (), **request: Any) -> Running:
        """Begin a sync in ``directory``; ``request`` is what ``nursery.sync`` understands."""
        self._number += 1
        out = self._outputs / f"out-{self._number % 8}"
        pid = self.ask("fork", {"cwd": str(directory), "out": str(out), "arguments": [*arguments], **request})
        return Running(self, pid, out)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)
        self._process.stdout.close()
