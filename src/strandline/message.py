"""What flows from a source to a destination, in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from strandline.errors import StrandlineError
from strandline.lazy import pa
from strandline.table import Table
from strandline.warned import Code

__all__ = [
    "Adopt",
    "Checkpoint",
    "Complete",
    "Cursor",
    "Delete",
    "Failure",
    "Forget",
    "Insert",
    "Notice",
    "Present",
    "Replace",
    "Schema",
    "SourceMessage",
    "Stale",
    "Swap",
    "Truncate",
    "WindowMessage",
]

Cursor: TypeAlias = Mapping[str, Any]
"""Where a task resumes: JSON values only, opaque to all but the source that made it.

A large mapping in it may be a ``strandline.parted.Parted``, so that a commit writes what has changed of it. From a state it comes back
as one, or as a plain mapping.
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """The table as it is from here on. A source sends it only when a table changed after ``tables()`` was asked."""

    table: Table


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows that are new or have changed. The last message about a key wins.

    ``batch`` may have fewer columns than the table: an absent column leaves the stored value as it is in the overwrite
    modes, and is null in append mode. A column that is there and null stores null.
    """

    table: str
    batch: "pa.RecordBatch"
    reread: bool = False
    """Some of these rows may have been delivered by an earlier pass, or may be read again by a later one.

    In append mode an atomic destination remembers the versions of these rows (the delivered set) and stores each
    version once. A source that re-reads must mark both sides: the rows it might read again, when it first reads them,
    and the rows it reads again. Within one pass a source never reads the same row version twice (checkpoints inside a
    pass are exact positions), so equal rows within a pass are several rows.
    """
    version: "pa.Array | None" = None
    """One value a row that tells versions of the row apart (binary(16)); the engine fills it from the row's content."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Rows of the task's scope that are gone at the source. ``keys`` has exactly the primary key's columns.

    A row that another source or partition has delivered since is theirs, and stays. Ignored in append mode.
    """

    table: str
    keys: "pa.RecordBatch"


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows of the table within the task's scope are gone at the source. Ignored in append mode."""

    table: str


@dataclass(frozen=True, slots=True)
class Present:
    """The key sweep: keys that exist at the source; the rest of the scope is removed at ``Complete``.

    It looks both ways. Keys that are not stored then are told in the receipt, and the engine asks the source for their rows
    (``strandline.source.ReadsKeys``); of a source that cannot look rows up, the table fails.

    In any number of batches, all of them after the table's rows, and no checkpoint between the first of them and the
    table's ``Complete``. Ignored in append mode.
    """

    table: str
    keys: "pa.RecordBatch"


@dataclass(frozen=True, slots=True)
class Replace:
    """The rows of some parents in the child table ``table`` are replaced: by those that follow, which may be none.

    What was stored of these parents, or sent of them before this message, is gone. A source sends it where it reads a parent
    together with all of its children: first this message, then their rows, then a checkpoint, and none between. So a child
    that a parent has no more goes in the commit in which the others come. A parent that was deleted, or has no children left,
    is named too; one whose children were not all read is not, since what is unknown is not gone.

    ``keys`` has the columns of ``table`` that refer to the parent's key, whichever they are, with one row a parent and no
    nulls. ``Table.parent`` says which table the parents are in. What belongs to rows of a child may be replaced by an ancestor's key,
    which it then carries: so it is for all that belongs to that ancestor. The rows that follow have all columns of the table. One
    whose primary key is stored is updated, so that nobody can tell it from one of an ``Insert`` alone; only in a table without
    a primary key, or with a ``version_order``, it is a new row.

    Rows of another source or partition stay. Nothing limits how many rows go: as with ``Delete``, it is the source that says
    so. The engine holds it back, with a warning, where a child that was not sent need not be gone: rows of the table were
    read with another filter, or the pass spares what it does not find. Ignored in append mode.
    """

    table: str
    keys: "pa.RecordBatch"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Every row yielded before this message is covered by ``cursor``.

    ``None`` is legal: a table that is read in full starts again from nothing in its next pass. Cheap; a source sends
    one after every batch or slice, since a window can only end here.
    """

    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class Complete:
    """This pass has read all of the table that it set out to read. Sent once a pass, before a last checkpoint."""

    table: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The table could not be read; other tables of the task may go on.

    The engine takes no cursor after it, fails the task, and deletes nothing of the table.
    """

    table: str
    error: StrandlineError


@dataclass(frozen=True, slots=True)
class Notice:
    """What a user should know of this read and cannot see otherwise: who holds the cursor back, what was left out.

    The engine shows it as a warning; it moves nothing and fails nothing. May come at any place of the stream.
    """

    table: str
    text: str
    code: str = Code.NOTICE
    """What it is about, for programs, in small letters with hyphens; a plugin's own, if none of ``Code`` fits."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Sent by the engine only: delete the scope's rows of ``table`` that are older than its pass. Never in append mode.

    The end of a pass over everything: what it did not deliver is gone at the source. No row is deleted if they are more
    than ``scope.share_max`` of the scope's.
    """

    table: str


@dataclass(frozen=True, slots=True)
class Swap:
    """Sent by the engine only: replace the scope's rows of ``table`` by all rows of ``hidden``, and drop ``hidden``.

    ``table`` is the name that messages use; ``hidden`` is the name of a stored table.

    The end of a full refresh. A reader sees the old rows until the window that holds this message is committed. Columns of
    other types and another primary key come with the rows.
    """

    table: str
    hidden: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Sent by the engine only: forget the delivered set of the stored ``table`` in this lineage; with ``drop``, drop it too.

    The end of a full refresh that is given up, and part of a ``state reset``. ``table`` is the name of a stored table, which
    need not be there. A destination that keeps nothing of the kind ignores it.
    """

    table: str
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Adopt:
    """Sent by the engine only: rows of the lineage (``source``, ``task``, ``destination``) are this window's from now on.

    A source or destination was called so before. Its rows of the stored table take the name of this source, and what was
    delivered is this lineage's; in the partition of the window's scope only. A destination that deletes no rows changes none:
    they keep the old name.

    In the same commit, the new owner is registered in the place of the old one, and the state of the lineage is given up: a run
    under the old name does not go on from it again.
    """

    table: str
    source: str
    task: str
    destination: str


SourceMessage: TypeAlias = (
    Schema | Insert | Delete | Truncate | Replace | Present | Checkpoint | Complete | Failure | Notice
)
"""What a source may yield."""
WindowMessage: TypeAlias = (
    Insert | Delete | Truncate | Replace | Present | Checkpoint | Complete | Stale | Swap | Forget | Adopt
)
"""What a destination is handed."""
