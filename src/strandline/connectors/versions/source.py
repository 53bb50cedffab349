"""What sources of tables that keep their versions have in common: Delta, Iceberg."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from strandline.connectors.sql.source_tables import task_id
from strandline.connectors.versions.cursor import Saved
from strandline.connectors.versions.history import History
from strandline.connectors.versions.reading import TableRead
from strandline.connectors.versions.settings import VersionedTable
from strandline.describe import how_by
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Cursor, Insert, SourceMessage
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import FULL_READ, Guarantee, Table
from strandline.table_settings import PerTable

__all__ = ["Found", "VersionsSource", "promised"]

_EXACT = "rows that were deleted are deleted, but in `append`"
_SWEPT = (
    "a {word} that has changed or removed rows does not name them: in `overwrite-delete-stale` the keys of the whole table are compared then, and "
    "rows that are gone are deleted; in `overwrite` they stay; in `append` the sync fails"
)
_KEYLESS = "at a {word} that has changed or removed rows, and does not name them, the sync fails; `mode: full` reads the table in full"
_GONE = "a table that was made again, and a {word} that was cleaned up before it was read, make `overwrite` modes read everything, and `append` fail"


def promised(word: str, *, feed: bool, keyed: bool) -> Guarantee:
    """Of a table that is read by its versions.

    Args:
        word: what a version is called.
        feed: whether the table says itself which rows change.
        keyed: whether it has a primary key.
    """
    limits = _EXACT if feed else _SWEPT if keyed else _KEYLESS
    return Guarantee(f"settled ({word}s)", f"{limits}; {_GONE}".format(word=word))


@dataclass(frozen=True, slots=True)
class Found:
    """A table that is there."""

    schema: "pa.Schema"
    version: int
    primary_key: tuple[str, ...] = ()
    """As far as somebody has said it."""
    feed: bool = False
    """Whether it says itself which rows change."""
    description: str = ""
    rows_about: int | None = None


class VersionsSource(ABC):
    """See ``strandline.source.Source``. Safe to share between threads: every read looks at its table anew."""

    word: str
    """What a version is called."""

    def __init__(self, where: str, settings: PerTable[VersionedTable]) -> None:
        self._where, self._settings = where, settings
        self._versions: dict[str, int] = {}

    @abstractmethod
    def found(self) -> Mapping[str, Found | TaskError]:
        """Every table by name; or why one cannot be read."""

    @abstractmethod
    def history(self, name: str, version: int) -> History:
        """A table up to a version.

        Raises:
            CursorExpiredError: there is no such version any more.
        """

    def tables(self) -> Sequence[Table]:
        """Every table, by name; each that cannot be read with the reason."""
        found = self.found()
        if not found:
            raise UsageError(
                f"there are no tables in {self._where}", hint="`path` is a table, or a directory of tables"
            )
        columns = {name: one.schema.names for name, one in found.items() if isinstance(one, Found)}
        self._settings.check(dict.fromkeys(found, ""), where=self._where, columns=columns)
        self._versions = {name: one.version for name, one in found.items() if isinstance(one, Found)}
        return [self._table(name, found[name]) for name in sorted(found)]

    def how(self, table: Table, *, mirror: bool) -> str:
        """By what the versions say; see ``strandline.describe.TellsHow``."""
        by_keys = mirror and table.primary_key and not table.guarantee.limits.startswith(_EXACT)
        return how_by(self.word, {"deletes": "sweep, where rows were changed" if by_keys else ""})

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """Each table is a task, which reads the version at which its columns were looked at."""
        if not self._versions.keys() >= {table.name for table in tables}:
            self.tables()
        return [
            Task(task_id(table.name), (table,), payload={"version": self._versions[table.name]})
            for table in tables
            if table.name in self._versions
        ]

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """A pass over one table; see ``reading``."""
        table = task.tables[0]
        saved = None if reading.cursor is None else Saved.parsed(reading.cursor, table.name)
        history = self.history(table.name, _version(task, saved))
        yield from TableRead(history, table, reading).messages(saved)

    def read_keys(self, task: Task, table: str, keys: "pa.RecordBatch", reading: Reading) -> Iterator[Insert]:
        """The rows of these primary keys; see ``strandline.source.ReadsKeys``."""
        saved = None if reading.cursor is None else Saved.parsed(reading.cursor, table)
        version = saved.version if saved is not None and saved.version is not None else _version(task, saved)
        for batch in TableRead(self.history(table, version), task.tables[0], reading).rows_of(keys):
            yield Insert(table, batch)

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:  # noqa: B027 -- for all formats
        """Nothing to do: a lake does not know its readers."""

    def close(self) -> None:  # noqa: B027 -- likewise
        """Nothing to do."""

    def _table(self, name: str, found: Found | TaskError) -> Table:
        if isinstance(found, TaskError):
            return Table(name, pa.schema([("unreadable", pa.null())]), unreadable=found)
        try:
            settings = self._settings.of(name)
        except UsageError as error:
            return Table(name, found.schema, unreadable=self._settings.under_globs(error, name))
        key = found.primary_key if settings.primary_key is None else tuple(settings.primary_key)
        full = settings.mode == "full"
        try:
            return Table(
                name,
                found.schema,
                key,
                incremental=not full,
                description=found.description,
                guarantee=FULL_READ if full else promised(self.word, feed=found.feed, keyed=bool(key)),
                access="" if full else f"by the files of each new {self.word}",
                rows_about=found.rows_about,
                refills=False,  # rows that gain a value in it are in files of a later version
            )
        except UsageError as error:
            return Table(name, found.schema, unreadable=self._settings.under_globs(error, name))


def _version(task: Task, saved: Saved | None) -> int:
    """The one that a pass reads."""
    if saved is not None and saved.current is not None:
        return saved.current.until
    return int(task.payload["version"])
