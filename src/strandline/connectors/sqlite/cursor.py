"""The cursor of an SQLite table, checked when it comes back."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from strandline.connectors.sql.cursor import SavedCursor, Strict
from strandline.errors import TaskError

__all__ = ["Definition", "Origin", "Pass", "Saved", "Seen", "Witness", "decoded", "encoded"]


class Definition(Strict):
    """What the rows of a table depend on (``definition``)."""

    views: dict[str, str] = Field({})
    """The view, and those below it, each with a hash of its text."""
    tables: dict[str, list[str]] = Field({})
    """The table, or those below the view, each with a mark for each column."""
    roots: dict[str, int] = Field({})
    """The root page of each table."""


class Origin(Strict):
    """The file as it was when the rows were read (``origin``)."""

    file: str
    """Its device and inode."""
    writes: int | None = None
    """Its change counter, which grows with every transaction, in WAL mode with some."""
    schema_version: int
    """Grows with every change of the schema, and with ``VACUUM``."""
    sequence: int | None = None
    """The greatest id that AUTOINCREMENT has handed out."""
    definition: Definition


class Witness(Strict):
    """A row that was delivered."""

    key: list[Any]
    """Of its primary key; without one, its incremental key."""
    height: Any
    content: str = ""
    """A hash of its values. Empty: of other columns than there are now."""


class Seen(Strict):
    """Some of the rows that were delivered: the newest, and some from everywhere (``witness``)."""

    columns: str = ""
    """A hash of the columns of which the contents are hashes."""
    rows: list[Witness] = Field([])


class Pass(Strict):
    """A pass that is under way, with the bounds that it decided before it read a row. Heights are encoded."""

    address: Literal["rowid", "key", "none"]
    """What tells rows apart."""
    by_key: bool
    """Whether rows come in the order of the incremental key, or else of their addresses."""
    until: list[Any] | None = None
    """The last address when the pass began; later ones are left to the next pass, or it might never end."""
    top: Any = None
    """Likewise the greatest key."""
    lower: Any = None
    """The high-water mark from which the pass reads. None: everything."""
    next: Any = None
    """The high-water mark from which later passes read, less the lag."""
    tracked: Any = None
    """From this height on, later passes may read again what this one delivers. None: all of it."""
    seen: Any = None
    """The greatest height that this pass has delivered so far."""
    stage: int = 0
    after: list[Any] | None = None
    """The position of the last row that was delivered in this stage."""


class Saved(SavedCursor):
    """The cursor. Between passes of a table without an incremental key there is none."""

    source: ClassVar[str] = "sqlite"

    version: Literal[1] = 1
    kind: str
    """Of the key, or `full`."""
    form: str = ""
    """How times are written in the key, by its values (``key_times``); empty: ids, or a version that did not look."""
    height: Any = None
    """Every row below it was delivered, within the limits of the guarantee. None: no row had a usable key."""
    seen: Any = None
    """The greatest height that any pass has delivered."""
    tracked: Any = None
    """Rows from this height on were marked when they were delivered."""
    shown: str = "–"
    """For people."""
    current: Pass | None = None
    origin: Origin | None = None
    """Where the rows came from. None: a version that did not ask."""
    witnesses: Seen = Seen()


def encoded(value: Any) -> Any:
    """A value of SQLite as JSON: exact, and telling 1 from 1.0."""
    if isinstance(value, float):
        return {"real": value.hex()}
    return {"blob": value.hex()} if isinstance(value, bytes) else value


def decoded(value: Any) -> Any:
    """What was ``encoded``.

    Raises:
        TaskError: it was not.
    """
    match value:
        case None | int() | str():
            return value
        case {"real": str(text)}:
            return float.fromhex(text)
        case {"blob": str(text)}:
            return bytes.fromhex(text)
    raise TaskError(f"the saved cursor holds {value!r}, which is no value of SQLite", hint="restore an older state")
