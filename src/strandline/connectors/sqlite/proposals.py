"""How the tables of an SQLite file are read best, from what the file shows.

A table is read in full unless one of its columns is very likely set by every change: by its name, by its values, and by changes
that it has recorded. In doubt, in full: that costs time, and no rows.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.key_names import says_changed, says_created
from strandline.connectors.sqlite.catalog import Catalogued, last_id
from strandline.connectors.sqlite.plan import Plan
from strandline.connectors.sqlite.source_probes import rows_about
from strandline.connectors.sqlite.types_declared import claims
from strandline.proposal import Proposal, Setting

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["propose"]

_ROWS_COUNTED = 100_000
"""Counting more than that takes too long to be worth it."""
_ROWS_LOOKED_AT = 10_000
_ROWS_SCANNED = 2_000_000
"""A table of so many is looked at as a whole, where no index helps."""
_OLDEST_S = 315_532_800
"""1980, in seconds since 1970."""
_DAY_S = 86_400
_APART_S = 60
_DATE_CHARACTERS = 10
_UNITS = (1, 10**3, 10**6, 10**9)
"""How many of it are in a second."""


def propose(connection: "Connection", plans: Iterable[Plan]) -> Iterator[Proposal]:
    """A proposal for each table. Reads little: what an index answers, and the first rows."""
    for one in plans:
        entry = one.entry
        rows = _rows(connection, entry)
        candidates = [
            _Candidate(connection, entry, column.name) for column in entry.columns if says_changed(column.name)
        ]
        judged = [(candidate.column, candidate.objection()) for candidate in candidates] if not entry.is_view else []
        good = [column for column, objection in judged if not objection]
        chosen = next((column for column in good if column in entry.indexed), next(iter(good), None))
        unsure = tuple(_unsure(connection, one))
        if chosen is None:
            options = (*_options(connection, one, judged), *unsure)
            notes = tuple(_why_in_full(entry))
            yield Proposal(entry.name, entry.name, rows, one.table.guarantee.name, notes=notes, options=options)
            continue
        stamped = _stamped_by_trigger(connection, entry.name, chosen)
        why = "a trigger sets it at every change" if stamped else "make sure that every change sets it"
        if chosen in entry.indexed:
            why = why if stamped else f"indexed; {why}"
        else:
            index = f"CREATE INDEX {quote(f'{entry.name}_{chosen}')} ON {quote(entry.name)} ({quote(chosen)})"
            why = f"{why}; every row is looked at, unless there is an index: {index}"
        settings = [Setting("incremental_key", chosen, why)]
        if not stamped:
            settings.append(Setting("lag", "1m", "for stamps that were taken before the row could be written"))
        why = "compares all primary keys, so that deleted rows go here too"
        settings.append(Setting("deletes", "sweep", why, overwrites_only=True))
        yield Proposal(entry.name, entry.name, rows, "settled (single writer)", tuple(settings), unsure)


def _rows(connection: "Connection", entry: Catalogued) -> str:
    if entry.is_view:
        return ""
    about = rows_about(connection, entry.name)
    if about is not None and about > _ROWS_COUNTED:
        return f"about {about:,}"
    sql = f"SELECT count(*) FROM (SELECT 1 FROM main.{quote(entry.name)} LIMIT {_ROWS_COUNTED + 1})"
    ((count,),) = connection.execute(sql)
    return f"{count:,}" if count <= _ROWS_COUNTED else f"more than {_ROWS_COUNTED:,}"


def _why_in_full(entry: Catalogued) -> Iterator[str]:
    if entry.is_view:
        yield "a view"
    elif not entry.primary_key:
        yield "no primary key: rows are told apart by their content"


def _options(connection: "Connection", one: Plan, judged: Sequence[tuple[str, str]]) -> Iterator[Setting]:
    """Of a table that is read in full."""
    entry = one.entry
    if not entry.primary_key:
        names = {column.name.lower(): column.name for column in entry.columns}
        if "id" in names:
            yield Setting("primary_key", [names["id"]], "if it is another one in every row")
        return
    for column, why in judged[:1]:
        yield Setting("incremental_key", column, f"would read less, but {why}")
    if not judged and entry.rowid_alias and last_id(connection, entry.name) is not None:
        yield Setting(
            "incremental_key", entry.rowid_alias, "would read only new rows; right only where rows are never changed"
        )


def _unsure(connection: "Connection", one: Plan) -> Iterator[Setting]:
    """Columns that are declared as something that their values are not."""
    types = {
        column.name: str(one.table.schema.field(column.name).type)
        for column in one.entry.columns
        if column.name in one.table.schema.names
        and column.name not in one.table.keys
        and column.name not in one.table.former  # then it is what it is declared as
        and (declared := claims(column.declared))
        and one.table.schema.field(column.name).type not in declared
        and _has_values(connection, one, column.name)
    }
    if types:
        yield Setting("types", types, "declared otherwise, and not all values are so")


def _has_values(connection: "Connection", one: Plan, column: str) -> bool:
    sql = f"SELECT EXISTS (SELECT 1 FROM {one.relation} WHERE t.{quote(column)} IS NOT NULL)"
    return bool(connection.execute(sql).fetchone()[0])


def _stamped_by_trigger(connection: "Connection", table: str, column: str) -> bool:
    """Whether a trigger on changes of the table writes the column."""
    rows = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = lower(?)", [table]
    ).fetchall()
    sets = re.compile(
        rf"""UPDATE\s+[\["`]?{re.escape(table)}[\]"`]?\s+SET\s+[\["`]?{re.escape(column)}[\]"`]?\s*=""", re.IGNORECASE
    )
    for (sql,) in rows:
        head, _, body = re.sub(r"\bBEGIN\b", "\0", sql, count=1, flags=re.IGNORECASE).partition("\0")
        # one that fires for some columns, or some rows, leaves others out
        at_every = re.search(r"\bUPDATE\s+ON\b", head, re.IGNORECASE) and not re.search(
            r"\bWHEN\b", head, re.IGNORECASE
        )
        if at_every and sets.search(body):
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A column that says by its name that every change sets it."""

    connection: "Connection"
    entry: Catalogued
    column: str

    def objection(self) -> str:
        """What speaks against it; empty when nothing does."""
        if not self.entry.primary_key:
            return "a changed row could not be told from a new one without a primary key"
        about = rows_about(self.connection, self.entry.name) if self.column not in self.entry.indexed else 0
        if about is None or about > _ROWS_SCANNED:
            return "it leads no index, and the table is too large to be looked at here"
        smallest, largest = self._ends()
        if isinstance(smallest, float) or isinstance(largest, float):
            return "it holds floats, which are no key unless `types` says what they hold"
        if smallest is None:
            return "it has no values yet that would show what it holds"
        if self._one(f"SELECT EXISTS (SELECT 1 {self._from} WHERE {self._key} IS NULL)"):
            return "it is NULL in some rows, which every sync would read again"
        if not (self._is_time(smallest) and self._is_time(largest)):
            return f"its values, as {str(largest)[:40]!r}, are no times up to now"
        return self._unkept()

    @property
    def _from(self) -> str:
        return f"FROM main.{quote(self.entry.name)} AS t"

    @property
    def _key(self) -> str:
        return f"t.{quote(self.column)}"

    def _one(self, sql: str, *values: object) -> Any:
        return self.connection.execute(sql, values).fetchone()[0]

    def _ends(self) -> tuple[Any, Any]:
        # two statements, for of two aggregates in one SQLite answers neither by the index
        return self._one(f"SELECT min({self._key}) {self._from}"), self._one(f"SELECT max({self._key}) {self._from}")

    def _is_now(self, value: object, unit: int) -> bool:
        """Whether a number is a time in this unit, in our days."""
        now_s = self._one("SELECT CAST(strftime('%s', 'now') AS INTEGER)")
        return isinstance(value, int | float) and _OLDEST_S <= value / unit <= now_s + _DAY_S

    def _is_time(self, value: object) -> bool:
        if isinstance(value, int | float):
            return any(self._is_now(value, unit) for unit in _UNITS)
        if not isinstance(value, str) or not value[:4].isdigit():
            return False
        found = self._one("SELECT CAST(strftime('%s', ?) AS INTEGER)", value)
        return self._is_now(found, 1)

    def _unkept(self) -> str:
        """Whether the rows show that changes do not set it."""
        if _stamped_by_trigger(self.connection, self.entry.name, self.column):
            return ""
        created = next((column.name for column in self.entry.columns if says_created(column.name)), None)
        if created is not None:
            return (
                "" if self._later_than(created) else f"no row has it later than {created}, as a change would leave it"
            )
        default = self._one("SELECT dflt_value FROM pragma_table_info(?) WHERE name = ?", self.entry.name, self.column)
        return "" if default is None else "its default sets it when a row is made, and nothing shows that changes do"

    def _later_than(self, created: str) -> bool:
        """Whether some row was changed well after it was made: an application may stamp both a moment apart."""
        unit = next((unit for unit in _UNITS if self._is_now(self._ends()[1], unit)), 1)

        def seconds(column: str) -> str:
            return f"CASE typeof({column}) WHEN 'text' THEN CAST(strftime('%s', {column}) AS INTEGER) ELSE {column} / {unit} END"

        # a date without a time is the midnight before
        apart = (
            f"CASE WHEN typeof(c) = 'text' AND length(c) <= {_DATE_CHARACTERS} THEN {_DAY_S} ELSE 0 END + {_APART_S}"
        )
        rows = f"SELECT {self._key} AS k, t.{quote(created)} AS c {self._from} ORDER BY {self._key} DESC LIMIT {_ROWS_LOOKED_AT}"
        return bool(
            self._one(f"SELECT EXISTS (SELECT 1 FROM ({rows}) WHERE {seconds('k')} - {seconds('c')} > {apart})")
        )
