"""One name for each DuckDB file of this process: its own lock keeps out no more than other processes."""

import os
import threading
import weakref
from pathlib import Path

from strandline.errors import UsageError

__all__ = ["FileName"]

_claimed: "weakref.WeakSet[FileName]" = weakref.WeakSet()
_lock = threading.Lock()


class FileName:
    """The name of a file, without symbolic links; claimed while the file is open under it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.real = os.path.realpath(path)
        self.identity: tuple[int, int] | None = None
        """Of the file when it was claimed: its device and inode."""

    def claim(self) -> None:
        """Of a file that exists. A second call does nothing.

        Raises:
            UsageError: it is open under another name, a hard link, and commits of one would undo those of the other.
        """
        try:
            found = Path(self.real).stat()
        except OSError:
            return
        with _lock:
            self.identity = (found.st_dev, found.st_ino)
            for other in _claimed:
                if other.identity == self.identity and other.real != self.real:
                    raise UsageError(
                        f"DuckDB {self.path} is the same file as {other.path}, which is open here",
                        hint="use one name for it in all specs",
                    )
            _claimed.add(self)

    def release(self) -> None:
        """The file is not open under this name any more. A second call does nothing."""
        with _lock:
            _claimed.discard(self)
