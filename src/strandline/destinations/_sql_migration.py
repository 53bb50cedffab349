"""Makes a stored table fit, for every SQL database: what differs, and the DDL that mends it."""

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from strandline.destination import RECREATE, Change, MigrateMode, Migration
from strandline.destinations._merge import Session
from strandline.destinations._sql import Dialect, Statement
from strandline.destinations._sql_states import DELIVERED
from strandline.destinations._widening import Fit, fit
from strandline.errors import TaskError
from strandline.table import Table

__all__ = ["Column", "Found", "Migrator", "Record", "creation"]

_MARKED = "strandline"


class Column(Protocol):
    """How a column is stored."""

    @property
    def sql(self) -> str:
        """The SQL type."""

    @property
    def note(self) -> str:
        """What the SQL type alone does not tell."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept in the comment of a table."""

    primary_key: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    mark: str = ""
    """Identity of the table, where the database has none of its own."""
    text: str = ""
    """What the user had written there before."""
    ours: bool = True
    """Whether Strandline wrote it."""

    def ddl(self, into: str, dialect: Dialect) -> tuple[str, ...]:
        """The statements that keep it."""
        body = {_MARKED: 1, "mark": self.mark, "primary_key": list(self.primary_key), "notes": dict(self.notes)}
        body |= {"comment": self.text} if self.text else {}
        return dialect.keep(into, json.dumps(body), self.mark)

    @classmethod
    def parse(cls, text: str) -> "Record":
        """Not ``ours`` where the table is not one of ours."""
        try:
            body = json.loads(text)
            if body[_MARKED] == 1:
                return cls(tuple(body["primary_key"]), body["notes"], body["mark"], body.get("comment", ""))
        except (ValueError, KeyError, TypeError):
            pass
        return cls(text=text, ours=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A stored table."""

    record: Record
    mark: str
    """Its identity; a table created again has another."""


def creation(
    table: Table,
    stored: Mapping[str, Column],
    into: str,
    dialect: Dialect,
    *,
    mark: str = "",
    kind: str = "create",
    detail: str = "",
) -> Change:
    """The DDL of a new table."""
    definition = ", ".join(f"{dialect.quote(name)} {column.sql}" for name, column in stored.items())
    record = Record(table.primary_key, {name: column.note for name, column in stored.items() if column.note}, mark)
    ddl = [f"CREATE TABLE {into} ({definition})", *record.ddl(into, dialect)]
    if kind == RECREATE:
        ddl.insert(0, f"DROP TABLE {into}")
    return Change(kind, table.name, detail=detail or ", ".join(stored), ddl=tuple(ddl))


class Migrator(ABC):
    """For one table, in one session."""

    def __init__(self, session: Session, table: Table, stored: Mapping[str, Column], mode: MigrateMode) -> None:
        self._session, self._table, self._stored, self._mode = session, table, stored, mode
        self._quote, self._into = session.dialect.quote, session.relation(table.name)

    @abstractmethod
    def _find(self) -> Found | None:
        """The stored table; ``None``: there is none."""

    @abstractmethod
    def _wanted(self) -> Mapping[str, str]:
        """The types of the wanted columns as ``Session.columns`` spells them."""

    def _twin(self, column: str, actual: Mapping[str, str]) -> str:
        """The stored column that the database takes for this one; empty: there is none."""
        return column if column in actual else ""

    def _folding(self) -> Mapping[str, str]:
        """The stored columns whose collation takes different texts for equal ones, with what it is called."""
        return {}

    def _fit(self, before: tuple[str, str], after: tuple[str, str]) -> Fit:
        """How a stored type with its note stands to the wanted one."""
        return fit(before, after)

    def _new_mark(self) -> str:
        """The identity of a new table, where the database has none of its own."""
        return secrets.token_hex(8)

    def plan(self) -> Migration:
        """What differs.

        Raises:
            TaskError: the stored table cannot be made to fit without losing its rows.
        """
        found = self._find()
        if found is None:
            return Migration((self._creation(),), None, empty=True)
        ((rows,),) = self._session.fetch(Statement(f"SELECT count(*) FROM (SELECT 1 FROM {self._into} LIMIT 1) AS r"))
        return Migration(tuple(self._changes(found)), found.mark, empty=not rows)

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
            parameter = self._session.dialect.parameter
            self._session.run(Statement(f"DELETE FROM {delivered} WHERE {name} = {parameter}", (self._table.name,)))
        stored = self._find()
        return Migration(found.changes, stored.mark if stored else None, empty=found.empty or created)

    def _creation(self, *, kind: str = "create", detail: str = "") -> Change:
        dialect, mark = self._session.dialect, self._new_mark()
        return creation(self._table, self._stored, self._into, dialect, mark=mark, kind=kind, detail=detail)

    def _changes(self, found: Found) -> Sequence[Change]:
        """Everything that differs; the comment last."""
        name, record, actual = self._table.name, found.record, self._session.columns(self._table.name)
        wanted = self._wanted()
        changes: list[Change] = []
        refused: list[str] = []
        if record.ours and set(record.primary_key) != set(self._table.primary_key):
            refused.append(f"its primary key is {record.primary_key}, not {self._table.primary_key}")
        folding = self._folding() if self._table.primary_key else {}
        refused += [
            f"column {key!r} of its primary key has the collation {folding[key]}, in which different keys are equal"
            for key in self._table.primary_key
            if key in folding
        ]
        for column, stored in self._stored.items():
            twin = self._twin(column, actual)
            if twin and twin != column:
                refused.append(
                    f"column {column!r} and the stored {twin!r} are one column to {self._session.dialect.name}"
                )
                continue
            if not twin:
                ddl = f"ALTER TABLE {self._into} ADD COLUMN {self._quote(column)} {stored.sql}"
                changes.append(Change("add_column", name, column, stored.sql, (ddl,)))
                continue
            before, after = (actual[column], record.notes.get(column, "")), (wanted[column], stored.note)
            verdict = self._fit(before, after)
            if verdict is Fit.NOT:
                refused.append(f"column {column!r} is {' '.join(before).strip()}, not {' '.join(after).strip()}")
            elif verdict is not Fit.SAME:
                changes.append(self._widen(column, before[0], after[0], verdict))
        if refused:
            return [self._refuse(refused)]
        return changes + self._recorded(record, actual)

    def _widen(self, column: str, before: str, after: str, verdict: Fit) -> Change:
        kind = self._stored[column].sql
        using = f" USING CAST(NULL AS {kind})" if verdict is Fit.EMPTY else ""
        ddl = f"ALTER TABLE {self._into} ALTER COLUMN {self._quote(column)} TYPE {kind}{using}"
        return Change("widen_column", self._table.name, column, f"{before} to {after}", (ddl,))

    def _recorded(self, record: Record, actual: Mapping[str, str]) -> list[Change]:
        """The comment, where it does not say what is true now."""
        notes = dict(record.notes)
        for column, stored in self._stored.items():
            if stored.note != "null" or column not in actual:
                notes.pop(column, None)
                notes |= {column: stored.note} if stored.note else {}
        mark = record.mark or self._new_mark()
        fresh = replace(record, primary_key=self._table.primary_key, notes=notes, mark=mark, ours=True)
        if fresh == record:
            return []
        ddl = fresh.ddl(self._into, self._session.dialect)
        return [Change("record" if record.ours else "adopt", self._table.name, ddl=ddl)]

    def _refuse(self, reasons: Sequence[str]) -> Change:
        why = "; ".join(reasons)
        if self._mode is MigrateMode.FORCED:
            return self._creation(kind=RECREATE, detail=why)
        raise TaskError(
            f"table {self._table.name!r} cannot be made to fit without losing its rows: {why}",
            hint="`migrate_mode: forced` creates it again, empty, and reads everything again",
        )
