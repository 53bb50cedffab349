"""Makes a stored DuckDB table fit: what differs, and the DDL that mends it."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from strandline.destination import RECREATE, Change, MigrateMode, Migration
from strandline.destinations._duckdb_columns import Columns
from strandline.destinations._duckdb_session import DuckDBSession
from strandline.destinations._sql import Statement
from strandline.destinations._sql_states import DELIVERED
from strandline.destinations._widening import Fit, fit
from strandline.errors import TaskError

__all__ = ["Migrator", "creation"]

_MARKED = "strandline"


@dataclass(frozen=True, slots=True)
class _Comment:
    """What is kept in the comment of a table."""

    mark: str
    primary_key: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    """What the user had written there before."""

    def ddl(self, into: str) -> str:
        """The statement that keeps it. DuckDB binds no values in DDL, hence the quotes."""
        body = {_MARKED: 1, "mark": self.mark, "primary_key": list(self.primary_key), "notes": dict(self.notes)}
        body |= {"comment": self.text} if self.text else {}
        text = json.dumps(body).replace("'", "''")
        return f"COMMENT ON TABLE {into} IS '{text}'"

    @classmethod
    def parse(cls, text: str) -> "_Comment":
        """Without a mark where the table is not one of ours."""
        try:
            body = json.loads(text)
            if body[_MARKED] == 1:
                return cls(body["mark"], tuple(body["primary_key"]), body["notes"], body.get("comment", ""))
        except (ValueError, KeyError, TypeError):
            pass
        return cls("", text=text)


def creation(columns: Columns, into: str, *, kind: str = "create", detail: str = "") -> Change:
    """The DDL of a new table, with a new mark."""
    stored, quote = columns.stored, DuckDBSession.dialect.quote
    definition = ", ".join(f"{quote(name)} {column.sql}" for name, column in stored.items())
    comment = _Comment(secrets.token_hex(8), columns.table.primary_key, _notes(columns))
    ddl = [f"CREATE TABLE {into} ({definition})", comment.ddl(into)]
    if kind == RECREATE:
        ddl.insert(0, f"DROP TABLE {into}")
    return Change(kind, columns.table.name, detail=detail or ", ".join(stored), ddl=tuple(ddl))


def _notes(columns: Columns) -> dict[str, str]:
    return {name: stored.note for name, stored in columns.stored.items() if stored.note}


class Migrator:
    """For one table, in one session."""

    def __init__(self, session: DuckDBSession, columns: Columns, mode: MigrateMode) -> None:
        self._session, self._columns, self._mode = session, columns, mode
        self._table, self._quote = columns.table, session.dialect.quote
        self._into = session.relation(columns.table.name)

    def plan(self) -> Migration:
        """What differs.

        Raises:
            TaskError: the stored table cannot be made to fit without losing its rows.
        """
        comment = self._find()
        if comment is None:
            return Migration((creation(self._columns, self._into),), None, empty=True)
        ((rows,),) = self._session.fetch(Statement(f"SELECT count(*) FROM (SELECT 1 FROM {self._into} LIMIT 1)"))
        return Migration(tuple(self._changes(comment)), comment.mark, empty=not rows)

    def apply(self) -> Migration:
        """What differed, done."""
        found = self.plan()
        for change in found.changes:
            for statement in change.ddl:
                self._session.run(Statement(statement))
        if not found.changes:
            return found
        created = any(change.kind in {"create", RECREATE} for change in found.changes)
        if created:
            # what was delivered into a table of this name before is no longer stored
            delivered, name = self._session.relation(DELIVERED), self._quote("table")
            self._session.run(Statement(f"DELETE FROM {delivered} WHERE {name} = ?", (self._table.name,)))
        comment = self._find()
        return Migration(found.changes, comment.mark if comment else None, empty=found.empty or created)

    def _find(self) -> _Comment | None:
        """What is known of the stored table; without a mark where it is not one of ours. ``None``: there is none."""
        name, session = self._table.name, self._session
        where = "database_name = current_database() AND schema_name = ? AND lower({0}) = lower(?)"
        schema = session.schema
        views = session.fetch(
            Statement(f"SELECT view_name FROM duckdb_views() WHERE {where.format('view_name')}", (schema, name))
        )
        if views:
            raise TaskError(f"{name!r} is a view in the database", hint="rename the view, or the table")
        found = session.fetch(
            Statement(
                f"SELECT table_name, comment FROM duckdb_tables() WHERE {where.format('table_name')}", (schema, name)
            )
        )
        for stored, text in found:
            if stored != name:
                raise TaskError(
                    f"table {name!r} and the stored {stored!r} are one table to DuckDB, which does not tell cases apart",
                    hint="rename one of the two",
                )
            return _Comment.parse(text or "")
        return None

    def _changes(self, comment: _Comment) -> Sequence[Change]:
        """Everything that differs; the comment last."""
        name, actual = self._table.name, self._session.columns(self._table.name)
        wanted = self._wanted()
        changes: list[Change] = []
        refused: list[str] = []
        if comment.mark and set(comment.primary_key) != set(self._table.primary_key):
            refused.append(f"its primary key is {comment.primary_key}, not {self._table.primary_key}")
        folded = {column.lower(): column for column in actual}
        for column, stored in self._columns.stored.items():
            twin = folded.get(column.lower(), column)
            if twin != column:
                refused.append(f"column {column!r} and the stored {twin!r} are one column to DuckDB")
                continue
            if column not in actual:
                ddl = f"ALTER TABLE {self._into} ADD COLUMN {self._quote(column)} {stored.sql}"
                changes.append(Change("add_column", name, column, stored.sql, (ddl,)))
                continue
            before, after = (actual[column], comment.notes.get(column, "")), (wanted[column], stored.note)
            verdict = fit(before, after)
            if verdict is Fit.NOT:
                refused.append(f"column {column!r} is {' '.join(before).strip()}, not {' '.join(after).strip()}")
            elif verdict is not Fit.SAME:
                changes.append(self._widen(column, before[0], after[0], verdict))
        if refused:
            return [self._refuse(refused)]
        return changes + self._recorded(comment, actual)

    def _widen(self, column: str, before: str, after: str, verdict: Fit) -> Change:
        kind = self._columns.stored[column].sql
        using = f" USING NULL::{kind}" if verdict is Fit.EMPTY else ""
        ddl = f"ALTER TABLE {self._into} ALTER COLUMN {self._quote(column)} TYPE {kind}{using}"
        return Change("widen_column", self._table.name, column, f"{before} to {after}", (ddl,))

    def _recorded(self, comment: _Comment, actual: Mapping[str, str]) -> list[Change]:
        """The comment, where it does not say what is true now."""
        notes = dict(comment.notes)
        for column, stored in self._columns.stored.items():
            if stored.note != "null" or column not in actual:
                notes.pop(column, None)
                notes |= {column: stored.note} if stored.note else {}
        fresh = _Comment(comment.mark or secrets.token_hex(8), self._table.primary_key, notes, comment.text)
        if fresh == comment:
            return []
        kind = "record" if comment.mark else "adopt"
        return [Change(kind, self._table.name, ddl=(fresh.ddl(self._into),))]

    def _refuse(self, reasons: Sequence[str]) -> Change:
        why = "; ".join(reasons)
        if self._mode is MigrateMode.FORCED:
            return creation(self._columns, self._into, kind=RECREATE, detail=why)
        raise TaskError(
            f"table {self._table.name!r} cannot be made to fit without losing its rows: {why}",
            hint="`migrate_mode: forced` creates it again, empty, and reads everything again",
        )

    def _wanted(self) -> Mapping[str, str]:
        """The types of the columns as DuckDB spells them."""
        kinds = ", ".join(f"typeof(NULL::{stored.sql})" for stored in self._columns.stored.values())
        (row,) = self._session.fetch(Statement(f"SELECT {kinds}"))
        return dict(zip(self._columns.stored, map(str, row), strict=True))
