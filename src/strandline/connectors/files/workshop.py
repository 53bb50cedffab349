"""Where a run writes files that are not committed yet: a directory of its own, with a lock that ends with the process."""

import fcntl
import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from strandline.paths import PLAIN, make_directory, opened

__all__ = ["Workshop"]

_LOCK = ".lock"


class Workshop:
    """Safe to share between threads.

    Args:
        folder: has a directory for each run.
        age_min_s: what was written in less long ago is no dead run's, whatever its lock says.
    """

    def __init__(self, folder: Path, *, age_min_s: float = 0) -> None:
        self._folder, self._age_min_s = folder, age_min_s
        self._held: tuple[Path, int] | None = None
        """This run's directory, and the descriptor that holds its lock."""
        self._guard = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether there is a directory of this run, and still is: others may have cleaned up."""
        held = self._held
        if held is None:
            return False
        path, lock = held
        try:
            return os.path.samestat(os.lstat(path / _LOCK), os.fstat(lock))
        except FileNotFoundError:
            return False

    def open(self) -> None:
        """Make this run's directory. To be called alone, or a sweep may take it for a dead run's."""
        path = self._folder / secrets.token_hex(8)
        make_directory(path)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | PLAIN, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with self._guard:
            lost, self._held = self._held, (path, lock)
        if lost is not None:
            os.close(lost[1])

    def sweep(self) -> None:
        """Remove what dead runs have left. To be called alone, when all that was committed is in its place."""
        for path in self._folder.iterdir():
            if not _is_held(path / _LOCK) and not (self._age_min_s and _age_s(path) < self._age_min_s):
                shutil.rmtree(path, ignore_errors=True)

    def stage(self) -> Path:
        """A new file's path, hidden from whoever globs for data files."""
        if self._held is None:
            raise AssertionError("a workshop is opened before it is used")
        return self._held[0] / f"{secrets.token_hex(16)}.part"

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        with self._guard:
            held, self._held = self._held, None
        if held is None:
            return
        path, lock = held
        with suppress(OSError):
            # a file may be committed and not yet in its place: whatever is left, the next run looks after it
            if [one.name for one in path.iterdir()] == [_LOCK]:
                (path / _LOCK).unlink()
                path.rmdir()
        os.close(lock)


def _age_s(folder: Path) -> float:
    """How long ago something was written in a directory."""
    try:
        return time.time() - max(os.lstat(path).st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return 0  # unknown is not old


def _is_held(lock: Path) -> bool:
    """Whether a live process may hold it; only a lock that is gone, or that is had, is certainly nobody's."""
    try:
        with opened(lock, os.O_RDWR | PLAIN) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True
