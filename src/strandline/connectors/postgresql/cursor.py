"""The cursor of a PostgreSQL table, checked when it comes back."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from strandline.connectors.sql.cursor import SavedCursor, Strict

__all__ = ["Flight", "Heap", "Identity", "Pass", "Saved", "after", "under_way"]


class Identity(Strict):
    """Which history of transactions the numbers belong to."""

    system: str
    timeline: int
    database: str = ""
    """Its oid: the databases of a server share their transactions, and copies even the oids of their tables."""

    def is_another(self, saved: "Identity") -> bool:
        """Whether numbers of ``saved`` mean nothing here."""
        return self != saved.model_copy(update={"database": saved.database or self.database})


class Heap(Strict):
    """What stores rows: a table, or one partition, in one file."""

    oid: int
    file: int
    """Its relfilenode: another one after VACUUM FULL, CLUSTER, TRUNCATE or a rewrite."""
    pages: int
    since: str | None = None
    """Rows of transactions before this one were delivered by earlier passes. None: none were."""


class Pass(Strict):
    """A pass that is under way, with the bounds that it decided before it read a row."""

    before: str
    """The xmin of a snapshot taken before the first row was read: every transaction below it had ended."""
    heaps: list[Heap]
    """What is read one after the other."""
    leaves: list[int]
    """Every heap of the table when the pass began, also where they are read as one."""
    skipped: list[int] = Field([])
    """Heaps that were gone when their turn came."""
    whole: bool
    """Whether it reads everything: rows of transactions from ``before`` on are read at the end, in one snapshot."""
    height: str | None = None
    """By key: where later passes start."""
    flight: "Flight | None" = None
    heap: int = 0
    page: int = 0
    """The position: everything before this page of this heap was delivered."""
    seen: str | None = None


class Flight(Strict):
    """By key, `settle: wait`: a high-water mark that is trusted once nothing of what was in flight below it is left."""

    height: str
    started: str
    """When the server started; after a restart, nothing is left."""
    transactions: list[str]
    """Virtual transaction ids."""


class Saved(SavedCursor):
    """The cursor. Between passes of a table that is read in full there is none."""

    source: ClassVar[str] = "postgresql"

    version: Literal[1] = 1
    kind: Literal["full", "xid", "key"]
    identity: Identity
    xmin: str | None = None
    """By xid: every row of a transaction before this one was delivered."""
    xmax: str | None = None
    """By xid: no row of a transaction from this one on was delivered. By key: nor of one in ``flying``, but for rows that
    were marked."""
    flying: list[str] | None = None
    """By key: the transactions before ``xmax``, and parts of them, of which no row was delivered, since they had not ended.
    None: not known, as of version 0.1, or too many."""
    clear: str | None = None
    """By xid, append: below this transaction, no id that is handed out is also that of a row that was frozen 2^32 ids ago."""
    height: str | None = None
    """By key: every row below it was delivered, within the limits of the guarantee. None: nothing is settled yet."""
    seen: str | None = None
    """By key: rows above it were never delivered. None: any row may have been."""
    tracked: str | None = None
    """By key, with `lag`: from here on, rows were marked when they were delivered."""
    heaps: list[int] = Field([])
    """The heaps that were read; one that is new may hold old rows."""
    since: str | None = None
    """By key: every transaction before this one had ended when the last pass began. None: not known, as of version 0.1."""
    swept: bool = False
    """By xid: the last pass compared all keys. Not one over everything: what was gone then may have been spared."""
    rows: int | None = None
    """By xid: how many keys that comparison had. None: there was none, or it is not known, as of a version before 0.3."""
    files: list[int] = Field([])
    """By key: the files of the heaps when the last pass began."""
    sequence: int | None = None
    """By key: how far the key's sequence was."""
    plain: bool = False
    """By key: the versions of rows do not tell which transaction wrote them, since the role could not read it at first."""
    depends: dict[str, str] | None = None
    """What the rows that were delivered depended on beside themselves. None: not known, as of a cursor of version 0.1."""
    position: int = 0
    """Of the server's log: what was delivered had ended before it. A standby that is not there yet would contradict it."""
    flight: Flight | None = None
    shown: str = "–"
    """For people."""
    current: Pass | None = None


def under_way(saved: Saved) -> Pass:
    """The pass of a cursor that has one."""
    assert saved.current is not None
    return saved.current


def after(saved: Saved, **changes: Any) -> Saved:
    """``saved`` with the position of its pass moved."""
    return saved.model_copy(update={"current": under_way(saved).model_copy(update=changes)})
