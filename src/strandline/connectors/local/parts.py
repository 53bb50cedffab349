"""The parts of one lineage's states (``strandline.parted``), each in a file under its name."""

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from strandline.parted import Part
from strandline.paths import FOLDER, PLAIN, make_directory, opened, replace_file

__all__ = ["LocalParts"]

_FOLDER = ".parts"


class LocalParts:
    """Beside the file of a lineage; no more than a look at them without the lock.

    Args:
        state: the lineage's file.
    """

    def __init__(self, state: Path) -> None:
        self._state = state

    @property
    def _folder(self) -> Path:
        """Asked for seldom: most states have no parts, and there may be ten thousand of them."""
        return self._state.parent / _FOLDER / self._state.stem

    def get(self, name: str) -> Part | None:
        """See ``strandline.state_format.PartOf``."""
        if not name.isalnum():
            return None
        try:
            with self._open() as folder, opened(name, os.O_RDONLY | PLAIN, directory=folder) as fd:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise ValueError("it is no plain file")
                content = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(error.strerror) from error
        return Part.read(name, content.decode("utf-8", "replace"))

    def add(self, parts: Mapping[str, Part]) -> None:
        """Make those durable that are not there yet."""
        if not parts:
            return
        make_directory(self._folder)
        with self._open() as folder:
            for name in parts.keys() - set(os.listdir(folder)):  # noqa: PTH208 -- of what is open
                replace_file(folder, name, parts[name].text().encode())

    def keep(self, named: Callable[[], Collection[str]]) -> None:
        """Remove all others, and what killed writers have left. Whatever cannot be removed harms nobody."""
        if not os.path.lexists(self._folder):
            return
        with suppress(OSError), self._open() as folder:
            left = set(os.listdir(folder))  # noqa: PTH208 -- of what is open
            spent = left - set(named())
            for name in spent:
                os.unlink(name, dir_fd=folder)
            if spent == left:
                self._folder.rmdir()

    @contextmanager
    def _open(self) -> Iterator[int]:
        with opened(self._folder, FOLDER | os.O_NOFOLLOW) as folder:
            yield folder
