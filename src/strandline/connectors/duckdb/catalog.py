"""What lies in the schemas of a DuckDB file: read once, and kept up to date.

DuckDB looks a single table up by a scan of its whole catalog, so that each look at one of a thousand tables costs as much as a
look at all of them. So all are read at once, and what is known is shared by the sessions of a file. No other process can change
a file that this one has open. What this process changes itself is read again; and while anybody else in this process is
connected, or was, since the last look, nothing is taken for known.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from strandline.connectors.sql.dialect import Statement, quote

__all__ = ["Catalogs", "ForeignKey", "Relation", "Sight"]

_Fetch = Callable[[Statement], Sequence[Sequence[Any]]]
_DDL = re.compile(
    r'(?:CREATE TABLE|DROP TABLE|ALTER TABLE|COMMENT ON TABLE|COMMENT ON COLUMN) "((?:[^"]|"")*)"\."((?:[^"]|"")*)"(?!.* RENAME )',
    re.DOTALL,
)
_HARMLESS = ("SELECT", "INSERT", "UPDATE", "DELETE", "SET", "CREATE TEMP TABLE")


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """It refers from the table that has it to another one of the schema."""

    name: str
    columns: tuple[str, ...]
    to_table: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, or a view."""

    name: str
    is_view: bool = False
    comment: str = ""
    sql: str = ""
    """What would create it."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Their types by name, in order."""
    comments: Mapping[str, str] = field(default_factory=dict)
    """Of columns."""
    generated: frozenset[str] = frozenset()
    """Columns that nobody can write."""
    indexes: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()


class _Known:
    """What is in a schema. Never changed."""

    def __init__(self, relations: Mapping[str, Relation]) -> None:
        self.relations = relations
        """By folded name."""
        self.referring = [one for one in relations.values() if one.foreign_keys]

    def after(self, changed: Mapping[str, Relation | None]) -> "_Known":
        """``None``: it was dropped."""
        both = {**self.relations, **changed}
        return _Known({name: one for name, one in both.items() if one is not None})


def _read(fetch: _Fetch, schema: str, name: str | None = None) -> dict[str, Relation]:
    """Everything in a schema, or what has one name."""

    def rows(columns: str, of: str, called: str = "table_name", order: str = "") -> Sequence[Sequence[Any]]:
        where = f"database_name = current_database() AND schema_name = ?{'' if name is None else f' AND lower({called}) = ?'}"
        values = (schema,) if name is None else (schema, name)
        return fetch(Statement(f"SELECT {called}, {columns} FROM {of}() WHERE {where}{order}", values))

    found = {str(view): Relation(str(view), is_view=True) for view, _ in rows("1", "duckdb_views", "view_name")}
    for table, comment, sql in rows("comment, sql", "duckdb_tables"):
        found[table] = Relation(str(table), comment=comment or "", sql=sql or "")
    columns: dict[str, list[Sequence[Any]]] = {}
    for table, *column in rows(
        "column_name, data_type, comment, column_default", "duckdb_columns", order=" ORDER BY table_name, column_index"
    ):
        columns.setdefault(table, []).append(column)
    indexes: dict[str, list[str]] = {}
    for table, index in rows("index_name", "duckdb_indexes", order=" ORDER BY 1, 2"):
        indexes.setdefault(table, []).append(index)
    keys: dict[str, list[ForeignKey]] = {}
    for table, kind, key, names, to_table, to in rows(
        "constraint_type, constraint_name, constraint_column_names, referenced_table, referenced_column_names",
        "duckdb_constraints",
        order=" ORDER BY 1, 3",
    ):
        if kind == "FOREIGN KEY":
            keys.setdefault(table, []).append(ForeignKey(key, tuple(names), to_table, tuple(to)))
    return {
        one.name.lower(): replace(
            one,
            columns={str(column): str(kind) for column, kind, *_ in columns.get(one.name, ())},
            comments={str(column): note for column, _, note, _ in columns.get(one.name, ()) if note},
            generated=frozenset(
                column
                for column, kind, _, default in columns.get(one.name, ())
                if default and _makes(one.sql, column, kind)
            ),
            indexes=tuple(indexes.get(one.name, ())),
            foreign_keys=tuple(keys.get(one.name, ())),
        )
        for one in found.values()
    }


def _makes(sql: str, column: str, kind: str) -> bool:
    """Whether a table generates a column, which has the expression as its default. Before 2.0, only this text tells."""
    names = "|".join(re.escape(name) for name in (column, quote(column)))
    return re.search(rf"[(,]\s*(?:{names}) {re.escape(kind)} GENERATED ALWAYS AS\(", sql) is not None


class Catalogs:
    """What is known of each schema of a file, as of its last commit. Shared by threads.

    It counts our connections, to notice those of others in this process: DuckDB numbers all of them, and says how many there are.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._version = 0
        self._known: dict[str, _Known] = {}
        self._made = self._open = 0
        self._others: int | None = None
        """How many numbers others had taken at the last look; ``None``: nobody has looked."""

    def opened(self, make: Callable[[], Any]) -> Any:
        """A connection of ours; a cursor is one to DuckDB."""
        with self._lock:
            connection = make()
            self._made += 1
            self._open += 1
            return connection

    def close(self, connection: Any) -> None:
        """One of ours."""
        with self._lock:
            self._open -= 1
            connection.close()

    def check(self, connection: Any) -> None:
        """Forget everything if somebody else is connected, or was since the last look."""
        with self._lock:
            look = connection.cursor()
            self._made += 1
            query = "SELECT current_connection_id(), count FROM duckdb_connection_count()"
            ((number, count),) = look.execute(query).fetchall()
            look.close()
            before, self._others = self._others, int(number) - self._made
            if self._others != before or int(count) != self._open + 1:
                self.forget()

    def forget(self) -> None:
        """Everything."""
        with self._lock:
            self._version += 1
            self._known = {}

    def known(self, schema: str) -> tuple[_Known | None, int]:
        """With what ``keep`` needs to know of when that was."""
        with self._lock:
            return self._known.get(schema), self._version

    def keep(self, schema: str, known: _Known, version: int) -> None:
        """What was read; nothing if something was committed since."""
        with self._lock:
            if version == self._version:
                self._known[schema] = known

    def changed(self, schema: str, changed: Mapping[str, Relation | None]) -> None:
        """By a commit, before anybody else may write."""
        with self._lock:
            self._version += 1
            if schema in self._known:
                self._known[schema] = self._known[schema].after(changed)


class Sight:
    """What one session sees of the catalog: what is known, and what it has changed itself. Used by one thread."""

    def __init__(self, cursor: Any, fetch: _Fetch, schema: str, catalogs: Catalogs) -> None:
        self._cursor, self._fetch, self._schema, self._catalogs = cursor, fetch, schema, catalogs
        self._seen: _Known | None = None
        """As it was at the first look, so that two looks of one transaction never see what two commits have left."""
        self._changed: dict[str, Relation | None] = {}
        self._unread: set[str] = set()
        """What it has changed and not looked at since."""
        self._lost = False
        """It has changed nobody knows what."""

    def of(self, name: str) -> Relation | None:
        """What has this name, in any case."""
        folded = name.lower()
        if self._lost:
            return _read(self._fetch, self._schema, folded).get(folded)
        if folded in self._unread:
            self._changed[folded] = _read(self._fetch, self._schema, folded).get(folded)
            self._unread.discard(folded)
        if folded in self._changed:
            return self._changed[folded]
        return self._all().relations.get(folded)

    def referring(self, table: str) -> list[tuple[str, ForeignKey]]:
        """The foreign keys that refer to a table, with the tables that have them."""
        known = _Known(_read(self._fetch, self._schema)) if self._lost else self._all()
        changed = {name: self.of(name) for name in {*self._changed, *self._unread}}
        relations = known.after(changed).referring if changed else known.referring
        found = [(one.name, key) for one in relations for key in one.foreign_keys if key.to_table == table]
        return sorted(found, key=lambda both: (both[0], both[1].name))

    def _all(self) -> _Known:
        if self._seen is None:
            self._catalogs.check(self._cursor)
            known, version = self._catalogs.known(self._schema)
            if known is None:
                known = _Known(_read(self._fetch, self._schema))
                # what was read after changes of its own nobody else may know of
                if not (self._changed or self._unread):
                    self._catalogs.keep(self._schema, known, version)
            self._seen = known
        return self._seen

    def about_to_run(self, text: str) -> None:
        """A statement, which may change the catalog."""
        if text.startswith(_HARMLESS):
            return
        ddl = _DDL.match(text)
        schema, name = (part.replace('""', '"') for part in ddl.groups()) if ddl else ("", "")
        if schema != self._schema:
            self._lost = True
            return
        self._unread.add(name.lower())
        self._changed.pop(name.lower(), None)

    def begin(self) -> None:
        """A transaction has begun, and nobody else changes anything until it ends."""
        self._seen = None

    def settle(self) -> None:
        """The transaction is about to be committed."""
        for name in [] if self._lost else list(self._unread):
            self.of(name)

    def end(self, *, committed: bool) -> None:
        """Of a transaction, while nobody else may write."""
        if committed and self._lost:
            self._catalogs.forget()
        elif committed and self._changed:
            self._catalogs.changed(self._schema, self._changed)
        self._changed, self._unread, self._lost = {}, set(), False
        self.begin()

    def close(self) -> None:
        """Of the session: what was changed outside of a transaction is not known."""
        if self._lost or self._changed or self._unread:
            self._catalogs.forget()
