"""SQLite's catalogue: which tables there are, and how the rows of each can be addressed. And opening the file.

Always qualify a column: SQLite takes an unknown bare name in quotes for a text.
"""

import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.errors import of_the_statement, translated
from strandline.errors import TaskError, UnreachableError, UsageError

if TYPE_CHECKING:
    from sqlite3 import Connection, OperationalError

__all__ = [
    "Catalogued",
    "Column",
    "catalogue",
    "connect",
    "does_not_work",
    "last_id",
    "make_views",
    "queried",
    "transaction",
]

VERSION_MIN = (3, 37, 0)
"""``PRAGMA table_list`` appeared in it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it was declared."""

    name: str
    declared: str
    """The declared type, upper case; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Catalogued:
    """A table or view of the file."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    is_view: bool
    without_rowid: bool
    rowid_alias: str | None
    """The INTEGER PRIMARY KEY column, which is the rowid itself and so survives VACUUM."""
    indexed: frozenset[str]
    """Columns that lead an index in binary order over all rows, the rowid's alias included."""
    collations: tuple[str, ...]
    """By which the index of the primary key orders its columns. Empty where the rowid is the key."""
    key_is_total: bool
    """Whether no row can lack a part of its primary key; SQLite allows that by default."""
    query: str = ""
    """What makes its rows, where the file has no such table: a view then, of each connection that reads it."""

    @property
    def relation(self) -> str:
        """In SQL."""
        return f"temp.{quote(_view(self.name))}" if self.query else f"main.{quote(self.name)}"


def connect(path: str, *, busy_timeout_s: float) -> "Connection":
    """Open the file read-only, for one reader.

    Raises:
        UnreachableError: there is no such file, or it cannot be opened.
        UsageError: it is not an SQLite database.
    """
    if sqlite3.sqlite_version_info < VERSION_MIN:
        raise UsageError(
            f"SQLite {sqlite3.sqlite_version} is too old to read the catalogue with",
            hint="use a Python that comes with SQLite 3.37 or newer",
        )
    if not Path(path).exists():
        raise UnreachableError(
            f"there is no SQLite file {path!r}",
            hint=f"check `path`; it is taken relative to the directory {str(Path.cwd())!r}",
        )
    if Path(path).is_dir():
        raise UnreachableError(f"{path!r} is a directory, no SQLite file", hint="name the file in it in `path`")
    uri = f"file:{urllib.parse.quote(str(Path(path).absolute()))}?mode=ro"
    with translated(path):
        connection = sqlite3.connect(
            uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except BaseException:
            connection.close()
            raise
    return connection


def catalogue(connection: "Connection") -> tuple[dict[str, Catalogued], dict[str, TaskError]]:
    """Every table and view whose rows can be read, by name; and those whose rows cannot, each with the reason.

    SQLite's own tables, and the shadow tables behind virtual ones, are left out.
    """
    found: dict[str, Catalogued] = {}
    broken: dict[str, TaskError] = {}
    rows = connection.execute("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'").fetchall()
    for name, kind, without_rowid in sorted(rows):
        if kind not in {"table", "view", "virtual"} or name.lower().startswith("sqlite_"):
            continue
        if kind == "virtual":
            broken[name] = TaskError(f"table {name!r} is virtual, so another program makes its rows", hint=_AS_A_VIEW)
            continue
        try:
            entry = _entry(connection, name, is_view=kind == "view", without_rowid=bool(without_rowid))
        except sqlite3.OperationalError as error:
            if not of_the_statement(error):
                raise
            broken[name] = does_not_work(name, kind, error)
        else:
            found[name] = entry
    return found, broken


_AS_A_VIEW = "leave it out (`skip_tables`), or make a table of what it shows"


def does_not_work(name: str, kind: str, error: "OperationalError") -> TaskError:
    """Why the rows of a table or view cannot be read."""
    return TaskError(
        f"{kind} {name!r} does not work: {error}", hint=f"fix the {kind}, drop it, or leave it out (`skip_tables`)"
    )


def _entry(connection: "Connection", name: str, *, is_view: bool, without_rowid: bool) -> Catalogued:
    info = connection.execute(
        'SELECT name, upper(type), pk, "notnull" FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid', [name]
    ).fetchall()
    columns = ", ".join(f"t.{quote(column)}" for column, *_ in info)
    connection.execute(f"SELECT {columns} FROM main.{quote(name)} AS t LIMIT 0")  # a function of one may be missing
    key = [column for _, column in sorted((pk, column) for column, _, pk, _ in info if pk)]
    alias = None if is_view or without_rowid else _rowid_alias(connection, name, info)
    indexed = _indexed(connection, name) | ({alias} if alias else set())
    return Catalogued(
        name=name,
        columns=tuple(Column(column, declared) for column, declared, *_ in info),
        primary_key=tuple(key),
        is_view=is_view,
        without_rowid=without_rowid,
        rowid_alias=alias,
        indexed=frozenset(indexed),
        collations=() if alias else _collations(connection, name),
        key_is_total=all(notnull for _, _, pk, notnull in info if pk),
    )


def queried(connection: "Connection", name: str, query: str) -> Catalogued:
    """A table that a query of the spec makes, of this connection too.

    Raises:
        UsageError: it is no query, or it does not work.
    """
    try:
        _make_view(connection, name, query)
        entry = _view_entry(connection, name, query)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if isinstance(error, sqlite3.OperationalError) and not of_the_statement(error):
            raise
        raise UsageError(
            f"table {name!r}: its `query` does not work: {error}", hint="it has to be one SELECT, without parameters"
        ) from error
    return entry


def make_views(connection: "Connection", entries: Iterable[Catalogued]) -> None:
    """Make the views of those that a query makes, of this connection."""
    for entry in entries:
        if entry.query:
            _make_view(connection, entry.name, entry.query)


def _make_view(connection: "Connection", name: str, query: str) -> None:
    # in the schema of the connection: the file is opened for reading only, and what this takes is one SELECT, whatever stands there
    connection.execute(f"CREATE TEMP VIEW {quote(_view(name))} AS {query}")


def _view(name: str) -> str:
    """Not the table's own name, which would be meant where the query asks a table of that name."""
    return f"strandline_query {name}"


def _view_entry(connection: "Connection", name: str, query: str) -> Catalogued:
    columns = connection.execute("SELECT name, upper(type) FROM pragma_table_xinfo(?) ORDER BY cid", [_view(name)])
    entry = Catalogued(
        name=name,
        columns=tuple(Column(*column) for column in columns),
        primary_key=(),
        is_view=True,
        without_rowid=False,
        rowid_alias=None,
        indexed=frozenset(),
        collations=(),
        key_is_total=True,
        query=query,
    )
    connection.execute(f"SELECT * FROM {entry.relation} LIMIT 0")
    return entry


def _rowid_alias(connection: "Connection", name: str, info: Sequence[tuple[str, str, int, int]]) -> str | None:
    """The column that is the rowid: the only primary key, declared INTEGER, and without an index of its own."""
    key = [(column, declared) for column, declared, pk, _ in info if pk]
    if len(key) != 1 or key[0][1] != "INTEGER":
        return None
    own_index = connection.execute("SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'", [name]).fetchone()
    return None if own_index else key[0][0]


def _indexed(connection: "Connection", name: str) -> set[str]:
    sql = """
        SELECT x.name FROM pragma_index_list(?) AS i, pragma_index_xinfo(i.name) AS x
        WHERE x.seqno = 0 AND x.cid >= 0 AND upper(x.coll) = 'BINARY' AND NOT i.partial
    """
    return {column for (column,) in connection.execute(sql, [name])}


def _collations(connection: "Connection", name: str) -> tuple[str, ...]:
    sql = """
        SELECT x.coll FROM pragma_index_list(?) AS i, pragma_index_xinfo(i.name) AS x
        WHERE i.origin = 'pk' AND x.key AND x.cid >= 0 ORDER BY x.seqno
    """
    return tuple(collation for (collation,) in connection.execute(sql, [name]))


def last_id(connection: "Connection", name: str) -> int | None:
    """The greatest id that AUTOINCREMENT ever handed out; none where the table has no AUTOINCREMENT."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchone():
        return None
    row: Any = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", [name]).fetchone()
    return None if row is None or not isinstance(row[0], int) else row[0]


@contextmanager
def transaction(connection: "Connection") -> Iterator[None]:
    """One view of the file for several statements. Short: in the journal modes other than WAL it holds up writers."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
