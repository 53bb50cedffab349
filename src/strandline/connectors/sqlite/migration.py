"""Makes a stored SQLite table fit: how SQLite tells what is there."""

from collections.abc import Mapping, Sequence
from contextlib import closing

from strandline.connectors.arrow.widening import Fit, grown_from
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.migration import Found, Migrator
from strandline.connectors.sql.record import Record
from strandline.connectors.sqlite.attached import kept_text
from strandline.connectors.sqlite.columns import Columns, folded
from strandline.connectors.sqlite.destination_types import fit
from strandline.connectors.sqlite.dialect import KEY_PREFIX, MARK_PREFIX
from strandline.connectors.sqlite.session import SQLiteSession
from strandline.destination import Change, MigrateMode
from strandline.errors import TaskError
from strandline.lazy import sqlite3
from strandline.table import SYNC_TIME

__all__ = ["SQLiteMigrator"]


class SQLiteMigrator(Migrator):
    """SQLite does not tell cases apart, and keeps no identity of a table: an index does, see ``SQLiteDialect.keep``."""

    def __init__(self, session: SQLiteSession, columns: Columns, mode: MigrateMode) -> None:
        super().__init__(session, columns.table, columns.stored, mode)

    def _find(self) -> Found | None:
        """See ``Migrator``; without a mark where the table is not one of ours."""
        name, session = self._table.name, self._session
        found = session.fetch(
            Statement(
                "SELECT type, tbl_name, sql FROM main.sqlite_master WHERE lower(tbl_name) = lower(?) "
                f"AND (type IN ('table', 'view') OR type = 'index' AND name GLOB '{MARK_PREFIX}*')",
                (name,),
            )
        )
        records = []
        for kind, of_table, ddl in found:
            if kind == "view":
                raise TaskError(f"{name!r} is a view in the database", hint="rename the view, or the table")
            if of_table != name:
                raise TaskError(
                    f"table {name!r} and the stored {of_table!r} are one table to SQLite, which does not tell cases apart",
                    hint="rename one of the two",
                )
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

    def _twin(self, column: str, actual: Mapping[str, str]) -> str:
        """See ``Migrator``."""
        return {folded(stored): stored for stored in actual}.get(folded(column), "")

    def _folding(self) -> Mapping[str, str]:
        """See ``Migrator``. SQLite tells the collation of an index only, so one is made, in a table of the same text."""
        name, quote = self._table.name, self._quote
        ((created,),) = self._session.fetch(
            Statement("SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?", (name,))
        )
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
        found = self._session.fetch(
            Statement(
                "SELECT type, name FROM main.sqlite_master WHERE lower(tbl_name) = lower(?) AND type IN ('index', 'trigger') "
                f"AND name NOT GLOB '{MARK_PREFIX}*' AND name NOT GLOB '{KEY_PREFIX}*' AND sql IS NOT NULL ORDER BY 1, 2",
                (self._table.name,),
            )
        )
        return [f"{kind} {name}" for kind, name in found]

    def _wanted(self) -> Mapping[str, str]:
        """See ``Migrator``."""
        return {name: stored.sql for name, stored in self._stored.items()}

    def _fit(self, column: str, before: tuple[str, str], after: tuple[str, str]) -> Fit:
        """See ``Migrator``. JSON of a struct has room for more fields."""
        kind = self._table.schema.field(column).type
        if before[0] == after[0] == "JSON" and before[1] != after[1] and grown_from(before[1], kind):
            return Fit.SAME
        return fit(before, after)

    def _widen(self, column: str, before: str, after: str, verdict: Fit) -> Change:  # noqa: ARG002 -- they are known
        """SQLite changes no types, so another column takes the values over; from one of nothing but nulls there are none."""
        name, kind = self._quote(column), self._stored[column].sql
        spare = self._quote(self._spare(column))
        ddl = [f"DROP INDEX {self._quote(index)}" for index in self._own_indexes()]  # writing makes one again
        ddl += [f"ALTER TABLE {self._into} ADD COLUMN {spare} {kind}".rstrip()]
        if verdict is Fit.WIDEN:
            ddl.append(f"UPDATE {self._into} SET {spare} = CAST({name} AS REAL)")
        ddl += [
            f"ALTER TABLE {self._into} DROP COLUMN {name}",
            f"ALTER TABLE {self._into} RENAME COLUMN {spare} TO {name}",
        ]
        what = "nulls" if verdict is Fit.EMPTY else before
        return Change("widen_column", self._table.name, column, f"{what} to {kind or 'any'}", tuple(ddl))

    def _spare(self, column: str) -> str:
        """The name of a column that is not there."""
        taken, name = set(map(folded, self._session.columns(self._table.name))), f"{column} of another type"
        while folded(name) in taken:
            name += "_"
        return name

    def _own_indexes(self) -> Sequence[str]:
        """Those that find rows by their key."""
        found = self._session.fetch(
            Statement(
                "SELECT name FROM main.sqlite_master WHERE type = 'index' AND tbl_name = ? "
                f"AND name GLOB '{KEY_PREFIX}*' ORDER BY name",
                (self._table.name,),
            )
        )
        return [name for (name,) in found]
