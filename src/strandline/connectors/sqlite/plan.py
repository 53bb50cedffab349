"""What is known of an SQLite table before it is read: the settings checked against the catalogue."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import Field

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.source_tables import (
    JOINED,
    QueryableSettings,
    check_query,
    known,
    selection,
    smallest_offset_s,
)
from strandline.connectors.sqlite.catalog import Catalogued
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.high_water import time_like
from strandline.connectors.sqlite.types_declared import claimed
from strandline.connectors.sqlite.types_read import TYPE_NAMES, arrow_type, declared_type, stored_type
from strandline.errors import UsageError
from strandline.lazy import pa
from strandline.selection import chosen_columns
from strandline.settings import duration_s
from strandline.table import FULL_READ, Guarantee, Table

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["Plan", "SQLiteTable", "plan"]

_ROW_BYTES_MIN = 6
_NUMBERS = {"integer", "real"}
_PEEK_ROWS = 1_000
"""How many rows are looked at for the type of a column whose declaration says nothing."""
_TIME_LIMITS = (
    "a key must be set by the transaction that writes the row, after it took the write lock, and at every change; rows "
    "stamped earlier (by an application, by another machine's clock), or while a row dated into the future comes due, "
    "need `lag`; a clock set back hides rows; times without a zone are taken as UTC unless `timezone` says otherwise"
)
_TEXT_LIMITS = (
    "texts that are no times are ids, compared byte by byte: each greater than all before it and of one length, as ULIDs "
    "are; once their lengths differ, as of 999 and 1000, the table fails"
)
_ID_LIMITS = (
    "whether a key holds times or ids is seen by its values; an id must be greater than all before it; changes that leave the id as it is are not seen, nor are ids handed out "
    "again after the newest rows were deleted (no AUTOINCREMENT)"
)


_FILE_LIMITS = (
    "a file that was put back or exchanged, and a table created again, are noticed by 16 of their rows, not where all of these were "
    "deleted"
)


class SQLiteTable(QueryableSettings):
    """How one table is read."""

    types: dict[str, str] = Field(
        default_factory=dict,
        description=f"Types of columns, instead of those by declaration and values: {', '.join(TYPE_NAMES)}.",
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """One table, its place in the catalogue, and its settings."""

    table: Table
    entry: Catalogued
    settings: SQLiteTable
    is_time: bool = False
    """Whether the key holds times, by its declaration, its name or the settings."""

    def formerly(self, columns: Collection[str]) -> "Plan":
        """With some columns as older versions of this source offered them."""
        return replace(self, table=self.table.formerly(columns)) if columns else self

    @property
    def relation(self) -> str:
        """The table in SQL; its columns are ``t."name"``."""
        return f"{self.entry.relation} AS t"

    @property
    def zone(self) -> tzinfo:
        """Of times that carry none."""
        return ZoneInfo(self.settings.timezone) if self.settings.timezone else UTC


def plan(connection: "Connection", entry: Catalogued, settings: SQLiteTable) -> Plan:
    """How ``entry`` is read.

    Raises:
        UsageError: a setting is wrong.
    """
    where = f"table {entry.name!r}"
    check_query(settings, entry.query, where)
    names = [column.name for column in entry.columns]
    key = None if settings.mode == "full" else settings.incremental_key
    primary_key = tuple(settings.primary_key or entry.primary_key)
    keys = [settings.incremental_key] if settings.incremental_key else []
    for name in [*settings.types, *primary_key, *keys]:
        known("column", name, names, where=where)
    chosen = set(chosen_columns(settings.columns, names, [*primary_key, *([key] if key else ())], where=where))
    former = {
        column.name: _type(connection, entry, column.name, column.declared, settings)
        for column in entry.columns
        if column.name in chosen
    }
    free = chosen - {*settings.types, *primary_key, *keys}
    useful = claimed(connection, entry, [name for name in former if name in free])
    table = Table(
        entry.name,
        pa.schema([pa.field(name, useful.get(name, type_)) for name, type_ in former.items()]),
        primary_key,
        (key,) if key else (),
        incremental=key is not None,
        selection=selection(settings, incremental=key is not None),
        former={name: former[name] for name in useful},
        rows_about=_rows_about(connection, entry, settings),
    )
    declared = next((column.declared for column in entry.columns if column.name == key), "")
    is_time = key is not None and (bool(settings.lag) or settings.timezone is not None or time_like(key, declared))
    _check_keys(table)
    _check(connection, table, entry, settings)
    guarantee = _guarantee(table, entry, settings, is_time=is_time)
    return Plan(replace(table, guarantee=guarantee, access=_access(entry, key)), entry, settings, is_time)


def _rows_about(connection: "Connection", entry: Catalogued, settings: SQLiteTable) -> int | None:
    """The largest rowid, unless rowids are no numbers that count, since the file has no room for so many rows."""
    if entry.is_view or entry.without_rowid or settings.where or settings.start:
        return None
    sql = (
        f"SELECT (SELECT max(_rowid_) FROM main.{quote(entry.name)}), page_count * page_size "
        "FROM pragma_page_count, pragma_page_size"
    )
    ((last, size_bytes),) = connection.execute(sql)
    return last if isinstance(last, int) and 0 <= last <= size_bytes / _ROW_BYTES_MIN else None


def _access(entry: Catalogued, key: str | None) -> str:
    if entry.is_view:
        return "a query" if entry.query else "a query of the whole view"
    if key is None:
        return "a scan of the table"
    return f"an index on {key!r}" if key in entry.indexed else f"a scan of the table: {key!r} has no index"


def _check(connection: "Connection", table: Table, entry: Catalogued, settings: SQLiteTable) -> None:
    where = f"table {entry.name!r}"
    if settings.deletes == "sweep" and not table.primary_key:
        raise UsageError(f"{where}: `deletes: sweep` needs a primary key", hint="name its `primary_key`")
    if settings.incremental_key is None:
        for name in ("lag", "start", "timezone"):
            if getattr(settings, name):
                raise UsageError(
                    f"{where}: `{name}` means nothing without an `incremental_key`", hint=f"remove `{name}`"
                )
    if settings.timezone is not None:
        smallest_offset_s(settings.timezone, 0)
    if settings.where is not None:
        try:
            # as an argument, so that it is one expression and closes no bracket of ours
            connection.execute(f"SELECT 1 FROM {entry.relation} AS t WHERE iif({settings.where}\n, 1, 0) LIMIT 0")
        except sqlite3.Error as error:
            raise UsageError(
                f"{where}: `where` is no condition that SQLite understands: {error}", hint=f"it says: {settings.where}"
            ) from error


def _check_keys(table: Table) -> None:
    where = f"table {table.name!r}"
    for name in table.primary_key:
        if pa.types.is_floating(table.schema.field(name).type):
            raise UsageError(
                f"{where}: the primary key {name!r} is a float, and floats that differ may be one row elsewhere",
                hint=f"say what it holds: `types: {{{name}: int64}}`, or `types: {{{name}: string}}`",
            )
    for name in table.incremental_key:
        type_ = table.schema.field(name).type
        if pa.types.is_floating(type_):
            raise UsageError(
                f"{where}: the incremental key {name!r} is a float, and of floats two that differ may be equal elsewhere",
                hint=f"say what it holds: `types: {{{name}: int64}}`, or `types: {{{name}: 'decimal128(38, 9)'}}`; or choose "
                "another key, or `mode: full`",
            )
        if pa.types.is_boolean(type_) or pa.types.is_binary(type_):
            raise UsageError(
                f"{where}: the incremental key {name!r} is of type {type_}, which has no order of change",
                hint="choose a column of times or of growing ids, or `mode: full`",
            )


def _type(
    connection: "Connection", entry: Catalogued, name: str, declared: str, settings: SQLiteTable
) -> "pa.DataType":
    if name in settings.types:
        return arrow_type(settings.types[name])
    found = declared_type(declared)
    is_key = name in (settings.primary_key or entry.primary_key) or name == settings.incremental_key
    if found is not None and not (is_key and pa.types.is_floating(found)):
        return found
    # a NUMERIC key has whole numbers, mostly, and a float is no key
    column = f"t.{quote(name)}"
    peeked = connection.execute(
        f"SELECT typeof(k) FROM (SELECT {column} AS k FROM {entry.relation} AS t LIMIT {_PEEK_ROWS}) WHERE k IS NOT NULL"
    )
    classes = list(dict.fromkeys(name for (name,) in peeked))
    if found is not None and not classes:
        return found
    # 2 * price is a whole number in some rows
    return stored_type("real" if not is_key and set(classes) == _NUMBERS else next(iter(classes), None))


def _guarantee(table: Table, entry: Catalogued, settings: SQLiteTable, *, is_time: bool) -> Guarantee:
    limits = []
    if table.incremental:
        type_ = table.schema.field(table.incremental_key[0]).type
        limits.append(_TIME_LIMITS if is_time or not pa.types.is_integer(type_) else _ID_LIMITS)
        if pa.types.is_string(type_) and not is_time:
            limits.append(_TEXT_LIMITS)
        if settings.lag:
            lag_s = duration_s(settings.lag)
            limits.append(f"with `lag`, rows that appear up to {lag_s} s late are read, whoever set the key")
        if settings.nulls == "exclude":
            limits.append("rows whose key is NULL are left out, as the spec says")
        limits.append(_FILE_LIMITS)
        if entry.query:
            limits.append(JOINED)
        if settings.deletes != "sweep":
            limits.append("deleted rows stay (`deletes: sweep` removes them)")
    else:
        limits.append(FULL_READ.limits)
    if not entry.primary_key:
        limits.append("rows that no key tells apart are copied aside first; a pass that is cut begins again")
    return Guarantee("settled (single writer)" if table.incremental else FULL_READ.name, "; ".join(limits))
