"""Makes a stored SQLite table fit: how SQLite tells what is there."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from strandline.connectors.arrow.widening import Fit, grown_from
from strandline.connectors.sql.dialect import KEY_PREFIX
from strandline.connectors.sql.migration import Found, Migrator
from strandline.connectors.sql.record import Record
from strandline.connectors.sqlite.attached import kept_text
from strandline.connectors.sqlite.dialect import MARK_PREFIX, folded
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.session import SQLiteSession
from strandline.connectors.sqlite.types_stored import fit
from strandline.destination import Change
from strandline.errors import TaskError
from strandline.table import SYNC_TIME

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["SQLiteMigrator"]


class SQLiteMigrator(Migrator):
    """SQLite does not tell cases apart, and keeps no identity of a table: an index does, see ``SQLiteDialect.keep``."""

    _session: SQLiteSession

    def _find(self) -> Found | None:
        """See ``Migrator``; without a mark where the table is not one of ours."""
        found = self._session.ask(
            "SELECT type, tbl_name, sql FROM main.sqlite_master WHERE lower(tbl_name) = lower(?) "
            f"AND (type IN ('table', 'view') OR type = 'index' AND name GLOB '{MARK_PREFIX}*')",
            self._table.name,
        )
        records = []
        for kind, of_table, ddl in found:
            self._session.dialect.check_name(self._table.name, of_table, is_view=kind == "view")
            if kind == "index":
                records.append(Record.parse(kept_text(ddl)))
        if not found:
            return None
        record = next((one for one in records if one.ours), Record(notes=self._believed(), ours=False))
        return Found(record, record.mark)

    def _believed(self) -> Mapping[str, str]:
        """The notes of a table that lost its mark, but has our columns: somebody has rebuilt it, or dropped an index."""
        actual = self._session.columns(self._table.name)
        kept = self._stored if SYNC_TIME in actual else {}
        # a column that now comes with nothing but nulls may be full of values from before
        notes = {name: stored.note for name, stored in kept.items() if stored.note not in {"", "null"}}
        return {name: note for name, note in notes.items() if actual.get(name) == kept[name].sql}

    def _folding(self) -> Mapping[str, str]:
        """See ``Migrator``. SQLite tells the collation of an index only, so one is made, in a table of the same text."""
        name, quote = self._table.name, self._quote
        ((created,),) = self._session.ask("SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?", name)
        keys = [key for key in self._table.primary_key if key in self._session.columns(name)]
        if not keys or "collate" not in created.lower():
            return {}
        with closing(sqlite3.connect(":memory:")) as copy:
            try:
                copy.execute(created)
                copy.execute(f"CREATE INDEX cq_keys ON {quote(name)} ({self._session.dialect.quoted(keys)})")
            except sqlite3.OperationalError as error:
                raise TaskError(f"{name}: which collations its columns have cannot be told ({error})") from error
            found = copy.execute("SELECT name, coll FROM pragma_index_xinfo('cq_keys') WHERE key").fetchall()
        return {column: collation for column, collation in found if collation.upper() != "BINARY"}

    def _dropped_with(self) -> Sequence[str]:
        """See ``Migrator``. Views stay: they know the table by its name."""
        found = self._session.ask(
            "SELECT type, name FROM main.sqlite_master WHERE lower(tbl_name) = lower(?) AND type IN ('index', 'trigger') "
            f"AND name NOT GLOB '{MARK_PREFIX}*' AND name NOT GLOB '{KEY_PREFIX}*' AND sql IS NOT NULL ORDER BY 1, 2",
            self._table.name,
        )
        return [f"{kind} {name}" for kind, name in found]

    def _fit(self, column: str, before: tuple[str, str], after: tuple[str, str]) -> Fit:
        """See ``Migrator``. JSON of a struct has room for more fields."""
        kind = self._table.schema.field(column).type
        if before[0] == after[0] == "JSON" and before[1] != after[1] and grown_from(before[1], kind):
            return Fit.SAME
        return fit(before, after)

    def _widen(self, column: str, before: str, after: str, verdict: Fit) -> Change:  # noqa: ARG002 -- they are known
        """SQLite changes no types, so another column takes the values over; from one of nothing but nulls there are none."""
        ddl = [f"DROP INDEX {self._quote(index)}" for index in self._own_indexes()]  # writing makes one again
        ddl += self._exchanged(column, takes=verdict is Fit.WIDEN)
        what = "nulls" if verdict is Fit.EMPTY else before
        kinds = f"{what} to {self._stored[column].sql or 'any'}"
        return Change("widen_column", self._table.name, column, kinds, tuple(ddl))

    def _exchanged(self, column: str, *, takes: bool = False) -> list[str]:
        """The DDL that puts a column of the wanted type in the place of one, whose values it ``takes``, or not."""
        name, spare = self._quote(column), self._quote(self._spare(column))
        return [
            f"ALTER TABLE {self._into} ADD COLUMN {spare} {self._stored[column].sql}".rstrip(),
            *([f"UPDATE {self._into} SET {spare} = CAST({name} AS REAL)"] if takes else []),
            f"ALTER TABLE {self._into} DROP COLUMN {name}",
            f"ALTER TABLE {self._into} RENAME COLUMN {spare} TO {name}",
        ]

    def _tied(self, columns: Collection[str], *, key: bool) -> Sequence[str]:
        """See ``Migrator``. SQLite says it when it is tried: in a copy of the tables without rows."""
        actual, found = self._session.columns(self._table.name), self._unique_in_old_key() if key else []
        found += self._defined(columns)
        for column in columns:
            with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
                self._copy_into(copy)
                try:
                    for statement in self._alter({column: actual[column]}, key=key):
                        copy.execute(statement)
                except sqlite3.Error as error:
                    found.append(f"something that SQLite tells of ({error})")
        return found

    def _defined(self, columns: Collection[str]) -> list[str]:
        """What somebody's own definition of the table says of these columns, and another column would not have."""
        known = self._session.ask(
            """SELECT name, "notnull", dflt_value FROM pragma_table_xinfo(?, 'main')""", self._table.name
        )
        found = [f"NOT NULL of column {name}" for name, filled, _ in known if filled and name in columns]
        found += [f"the default of column {name}" for name, _, value in known if value is not None and name in columns]
        ((text,),) = self._session.ask(
            "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?", self._table.name
        )
        words = re.findall(r"\bCHECK\s*\(|\bCOLLATE\b", text, re.IGNORECASE) if columns else ()
        return found + [f"{word.rstrip('( ').upper()} in the definition of the table" for word in dict.fromkeys(words)]

    def _copy_into(self, copy: "Connection") -> None:
        """What there is but rows; without virtual tables."""
        texts = self._session.ask(
            "SELECT sql FROM main.sqlite_master WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*' "
            "ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'view' THEN 2 WHEN 'index' THEN 3 ELSE 4 END, rowid"
        )
        for (text,) in texts:
            with suppress(sqlite3.Error):
                copy.execute(text)

    def _unique_in_old_key(self) -> list[str]:
        """Somebody's indexes that let an old key be there once only."""
        name = self._table.name
        old = {folded(column) for column in Record.parse(self._session.attached(name).note).primary_key}
        indexes = self._session.indexed(name, 'l."unique"')
        return [f"index {index}" for index, columns in indexes.items() if columns <= old]

    def _alter(self, columns: Mapping[str, str], *, key: bool) -> Sequence[str]:
        """See ``Migrator``. As in ``_widen``; indexes are made again, ours of an old key are not."""
        indexes = self._session.ask(
            "SELECT name, sql FROM main.sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL "
            f"AND name NOT GLOB '{MARK_PREFIX}*' ORDER BY rowid",
            self._table.name,
        )
        ddl = [f"DROP INDEX {self._quote(name)}" for name, _ in indexes]
        ddl += [statement for column in columns for statement in self._exchanged(column)]
        of_key = f"({self._session.dialect.quoted(self._table.primary_key)})"
        old = {name for name, text in indexes if key and name.startswith(KEY_PREFIX) and not text.endswith(of_key)}
        return [*ddl, *(text for name, text in indexes if name not in old)]

    def _spare(self, column: str) -> str:
        """The name of a column that is not there."""
        taken, name = set(map(folded, self._session.columns(self._table.name))), f"{column} of another type"
        while folded(name) in taken:
            name += "_"
        return name

    def _own_indexes(self) -> Sequence[str]:
        """Those that find rows by their key."""
        found = self._session.ask(
            "SELECT name FROM main.sqlite_master WHERE type = 'index' AND tbl_name = ? "
            f"AND name GLOB '{KEY_PREFIX}*' ORDER BY name",
            self._table.name,
        )
        return [name for (name,) in found]
