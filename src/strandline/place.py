"""Which database it is: what tells that two things which have different names in a spec are one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Placed", "Reaches", "file_places"]


@runtime_checkable
class Placed(Protocol):
    """A source or destination that knows which database it reads or writes. Optional: without, nothing is compared.

    A source that writes into what it reads destroys it, and two destinations that are one store every row twice.
    """

    def places(self) -> Sequence[str]:
        """Names of the database and schema, for comparing only; looks at the outside and changes nothing.

        Two things that have one of these names in common are the same. A server is named by what no other one has (the
        system identifier), not by its address; a file by its device and inode, and by its path while it is not there.

        Raises:
            UnreachableError: it does not answer.
        """


@runtime_checkable
class Reaches(Protocol):
    """A source that may read a part of a place that is no place of its own. Optional: without, equal names decide.

    A prefix of tables in the file that it reads; a directory below the one whose files it reads.
    """

    def reaches(self, places: Sequence[str]) -> bool:
        """Whether it would read what is written into something of these names; looks at the outside and changes nothing."""


def file_places(path: str | Path) -> list[str]:
    """The names of a file, or of one that will be made there."""
    whole = Path(path).absolute()
    names = [f"path {whole.resolve()}"]
    try:
        found = whole.stat()
    except OSError:
        return names
    return [*names, f"inode {found.st_dev}:{found.st_ino}"]
