"""What is known of a PostgreSQL table before it is read: the settings checked against the catalogue."""

import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from pydantic import Field

from strandline.connectors.postgresql.access import access
from strandline.connectors.postgresql.catalog import Column, Relation
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.types_asked import asked
from strandline.connectors.postgresql.types_read import FLOATS, NUMERIC, ORDERED, TIMES, OutOfRange
from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.source_tables import (
    JOINED,
    QueryableSettings,
    check_query,
    known,
    selection,
    smallest_offset_s,
)
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.selection import chosen_columns
from strandline.settings import Duration, duration_s, lasting
from strandline.table import FULL_READ, Guarantee, Table

__all__ = ["Plan", "PostgreSQLTable", "Settle", "own_key", "plan", "typed"]

Settle = Literal["xid", "cap", "wait", "off"]
_XID = (
    "no clock, column or index is relied on; what rewrites rows (a change of a column's type, SET UNLOGGED), or detaches a "
    "partition and attaches it again, makes append mode store them again; a long transaction that writes, in any database of the server, delays what "
    "comes after it; a server that was put back by a copy of its disk, and has since got further than before, is not noticed"
)
_ATTACHED = "append mode stores the rows of a partition again that was detached and attached again"
_CAP = (
    "the key must be set at every change, by the server's clock; stamps of another clock that is more than `margin` slow, "
    "rows replicated with the stamps of another server, and a server clock set back need `lag`; open and prepared "
    "transactions hold the cursor back"
)
_WAIT = (
    "keys must be handed out in growing order, as a sequence without CACHE does; changes that leave the key as it is are "
    "not seen; a transaction in flight holds the cursor back"
)
_BELOW_QUERY = (
    "what it reads is known by the names in it, so a change of what a policy of row security reads is not noticed"
)
_OFF = "can lose rows: one that becomes visible after a row with a greater key was read is never delivered"


class PostgreSQLTable(QueryableSettings):
    """How one table is read."""

    deletes: Literal["sweep", "ignore"] | None = Field(
        default=None,
        description="Rows deleted at the source: `sweep` reads all primary keys at every sync and removes the rest. "
        "Default: `sweep` for a table read by xid into `overwrite-delete-stale`, else `ignore`.",
    )
    settle: Settle | None = Field(
        default=None,
        description="How the cursor is kept from passing rows that appear late: by transaction ids (`xid`), by the "
        "server's clock (`cap`), by what is in flight (`wait`), or not at all (`off`). Default: `xid` without an "
        "`incremental_key`, `cap` with one that is a time, `wait` with any other.",
    )
    mask: dict[str, Literal["hash", "null"]] = Field(
        default_factory=dict,
        description="Columns whose values do not leave the server: `hash` reads the SHA-256 of the value's text in "
        "hexadecimal (equal values stay equal; what is easily guessed can be found by trying), `null` reads NULL.",
    )
    types: dict[str, str] = Field(
        default_factory=dict,
        description="Types of columns, instead of those that PostgreSQL's become: `string`, which holds everything, `decimal(38, 4)`, "
        "`double`, `timestamp[us, UTC]`. A value that does not fit fails the table.",
    )
    out_of_range: OutOfRange = Field(
        default="fail",
        description="Values that the column's type cannot hold at a destination, as infinity and NaN: `fail`, or `null`.",
    )
    margin: Duration = lasting(
        "5s",
        "`settle: cap`: how much earlier than its transaction's start a row may be stamped.",
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """One table, its place in the catalogue, and how it is read."""

    table: Table
    relation: Relation
    columns: tuple[Column, ...]
    """Of the table, in its order."""
    settings: PostgreSQLTable
    settle: Settle | None
    """None: the table is read in full."""

    @property
    def unreadable(self) -> TaskError | UsageError | None:
        """Why the role cannot read it, or its settings do not fit."""
        return self.table.unreadable

    def formerly(self, columns: Collection[str]) -> "Plan":
        """With some columns as older versions of this source offered them."""
        if not columns:
            return self
        as_they_were = tuple(one.formerly() if one.name in columns else one for one in self.columns)
        schema = pa.schema([one.field for one in as_they_were])
        return replace(self, columns=as_they_were, table=replace(self.table, schema=schema))

    @property
    def kind(self) -> Literal["full", "xid", "key"]:
        """Of its cursor."""
        if self.settle is None:
            return "full"
        return "xid" if self.settle == "xid" else "key"

    def sweeps(self, *, mirror: bool) -> bool:
        """Whether deleted rows are found by comparing keys, where the destination is to be a ``mirror`` of the source."""
        by_default = "sweep" if self.kind == "xid" and mirror else "ignore"
        return (self.settings.deletes or by_default) == "sweep"

    @property
    def has_heap(self) -> bool:
        """Whether it stores rows."""
        return self.relation.has_heap

    @property
    def tells(self) -> bool:
        """Whether rows tell this role which transaction wrote them, and where they lie."""
        return self.relation.tells

    @property
    def by_heaps(self) -> bool:
        """Whether rows have addresses that can be read slice by slice. Policies are a view, and heaps bypass them."""
        return self.tells and not self.relation.row_security

    @property
    def is_whole(self) -> bool:
        """Whether all rows of the table are offered, and nothing chooses some of them."""
        return _is_whole(self.relation, self.settings)

    @property
    def key(self) -> Column | None:
        """The incremental key."""
        return next((one for one in self.columns if (one.name,) == self.table.incremental_key), None)

    @property
    def where(self) -> str:
        """The filter as a condition; the line break ends a comment."""
        return f"({self.settings.where}\n)" if self.settings.where else "TRUE"

    @property
    def source(self) -> str:
        """The table in SQL; its columns are ``t."name"``. The line break ends a comment."""
        if self.relation.query:
            return f"({self.relation.query}\n) AS t"
        return f"{quote(self.relation.schema)}.{quote(self.relation.name)} AS t"


def _is_whole(relation: Relation, settings: PostgreSQLTable) -> bool:
    return not (settings.where or settings.start or relation.row_security)


def plan(relation: Relation, name: str, settings: PostgreSQLTable) -> Plan:
    """How ``relation`` is read; ``name`` is the table's in the destination.

    Raises:
        UsageError: a setting is wrong.
    """
    where = f"table {name!r}"
    check_query(settings, relation.query, where)
    names = [column.name for column in relation.columns]
    key = None if settings.mode == "full" else settings.incremental_key
    primary_key = tuple(settings.primary_key or own_key(relation))
    keys = [*primary_key, *([key] if key else ())]
    for column in [*settings.types, *keys]:
        known("column", column, names, where=where)
    chosen = set(chosen_columns(settings.columns, names, keys, where=where))
    for column in settings.mask:
        known("column", column, [name for name in names if name in chosen], where=where)
    columns = tuple(
        _offered(column, settings, primary_key, key, where) for column in relation.columns if column.name in chosen
    )
    settle = _settle(relation, settings, key, primary_key, where)
    # what was promised nothing cannot be gone on from with a promise
    unsafe = "off" if settle == "off" else ""
    whole = _is_whole(relation, settings)
    table = Table(
        name,
        _schema(columns),
        primary_key,
        (key,) if key else (),
        incremental=settle is not None,
        description=relation.description,
        selection=selection(settings, incremental=settle is not None, mask=settings.mask, settle=unsafe),
        guarantee=_guarantee(relation, settings, settle),
        access=sys.intern(access(relation, key, by_xid=settle == "xid", whole=whole)),
        rows_about=relation.rows_estimated if relation.rows_estimated >= 0 and relation.has_heap and whole else None,
        spec_name=f"{relation.schema}.{relation.name}",
        former={column.name: pa.string() for column in columns if column.former is not None},
    )
    planned = Plan(table, relation, columns, settings, settle)
    _check(planned, where)
    return planned


def own_key(relation: Relation) -> tuple[str, ...]:
    """The primary key that the database says; none where it holds floats, whose values are rounded on the way."""
    rounded = any(one.type_oid in FLOATS for one in relation.columns if one.name in relation.primary_key)
    return () if rounded else relation.primary_key


def _offered(
    column: Column, settings: PostgreSQLTable, primary_key: Collection[str], key: str | None, where: str
) -> Column:
    """A column with its type: of the spec, of old where a cursor or a hash depends on it, or of PostgreSQL."""
    mask, is_key = settings.mask.get(column.name), column.name in primary_key or column.name == key
    if column.name in settings.types:
        if mask is not None:
            raise UsageError(f"{where}: {column.name!r} is masked, and so it is text", hint="leave it out of `types`")
        column = asked(column, settings.types[column.name], settings.timezone or "UTC", where)
    elif is_key or mask is not None:
        column = column.formerly()
    if is_key and column.former is not None:
        column = replace(column, former=None)
    return _masked(_keyed(column) if column.name in primary_key else column, mask)


def _keyed(column: Column) -> Column:
    """A column of the primary key, so that equal keys are equal texts: 1.0 and 1.00 are one key."""
    if column.type_oid == NUMERIC and pa.types.is_string(column.field.type):
        return replace(column, expression=f"trim_scale(t.{quote(column.name)})::text")
    return column


def _masked(column: Column, how: Literal["hash", "null"] | None) -> Column:
    if how is None:
        return column
    if how == "null":
        nothing = pa.field(column.name, pa.string())
        return replace(column, field=nothing, expression="NULL::text", nullable=True)
    text = pa.field(column.name, pa.string(), column.nullable)
    digest = f"encode(sha256(convert_to({column.expression}::text, 'UTF8')), 'hex')"
    return replace(column, field=text, expression=digest)


def _settle(
    relation: Relation, settings: PostgreSQLTable, key: str | None, primary_key: tuple[str, ...], where: str
) -> Settle | None:
    if settings.mode == "full":
        return None
    if key is None:
        if settings.settle in {"cap", "wait", "off"}:
            raise UsageError(
                f"{where}: `settle: {settings.settle}` needs an `incremental_key`", hint="name one, or remove `settle`"
            )
        by_xid = relation.tells
        if settings.settle == "xid" and relation.has_heap and not by_xid:
            raise UsageError(
                f"{where}: `settle: xid` reads which transaction wrote a row, and the role may read some columns only",
                hint=f"GRANT SELECT ON {quote(relation.schema)}.{quote(relation.name)} TO {quote(relation.role)}",
            )
        if settings.settle == "xid" and not by_xid:
            raise UsageError(
                f"{where}: `settle: xid` reads tables only, and this is a {relation.kind_name}",
                hint="name an `incremental_key`, or remove `settle` to read it in full",
            )
        # without a key nothing tells which stored row an updated one replaces: only a full read mirrors such a table
        return "xid" if by_xid and (primary_key or settings.settle == "xid") else None
    if settings.settle == "xid":
        raise UsageError(
            f"{where}: `settle: xid` needs no `incremental_key`", hint=f"remove `settle`, or `incremental_key: {key}`"
        )
    is_time = next(one for one in relation.columns if one.name == key).type_oid in TIMES
    if settings.settle == "cap" and not is_time:
        raise UsageError(
            f"{where}: `settle: cap` needs a key that is a time, and {key!r} is none", hint="`settle: wait` suits ids"
        )
    return settings.settle or ("cap" if is_time else "wait")


def _check(planned: Plan, where: str) -> None:
    settings, key = planned.settings, planned.key
    _check_mask(planned, where)
    for column in planned.columns:
        if column.name in (settings.primary_key or ()) and column.type_oid in FLOATS:
            raise UsageError(
                f"{where}: the primary key {column.name!r} is {column.type_name}, and rounded numbers tell no rows apart",
                hint="name columns of other types in `primary_key`",
            )
    if settings.deletes == "sweep" and not planned.table.primary_key:
        raise UsageError(f"{where}: `deletes: sweep` needs a primary key", hint="name its `primary_key`")
    if key is None:
        for name in ("lag", "start", "timezone"):
            if getattr(settings, name) and settings.mode != "full":
                raise UsageError(
                    f"{where}: `{name}` means nothing without an `incremental_key`", hint=f"remove `{name}`"
                )
        return
    _check_order(key, where)
    kind = TIMES.get(key.type_oid)
    if settings.timezone is not None:
        smallest_offset_s(settings.timezone, 0)
    if settings.lag and kind is None:
        raise UsageError(
            f"{where}: `lag` needs a key that is a time, and {key.name!r} is {key.type_name}", hint="remove `lag`"
        )
    if planned.settle == "cap" and kind in {"timestamp", "date"} and settings.timezone is None:
        raise UsageError(
            f"{where}: times of {key.name!r} ({key.type_name}) carry no zone: `timezone` is missing",
            hint="say which zone they are in, as in `timezone: Europe/Berlin` or `timezone: UTC`; a `settle` other than "
            "`cap` needs none",
        )


def _check_order(key: Column, where: str) -> None:
    """Whether the type of the incremental key can have an order of change. Of texts and UUIDs, the values tell."""
    if key.type_oid in FLOATS:
        raise UsageError(
            f"{where}: the incremental key {key.name!r} is {key.type_name}, whose values are rounded: a row may get the key of an "
            "older one, or a smaller one",
            hint="choose a column of times or of growing ids, or leave `incremental_key` out to read by xid",
        )
    if key.type_oid not in ORDERED:
        raise UsageError(
            f"{where}: the incremental key {key.name!r} is {key.type_name}, which has no order of change",
            hint="choose a column of times or of growing ids, or leave `incremental_key` out to read by xid",
        )


def _check_mask(planned: Plan, where: str) -> None:
    settings, key = planned.settings, planned.key
    if key is not None and key.name in settings.mask:
        raise UsageError(f"{where}: the incremental key {key.name!r} cannot be masked", hint="leave it out of `mask`")
    for column in planned.table.primary_key:
        if settings.mask.get(column) == "null":
            raise UsageError(f"{where}: the primary key {column!r} cannot be NULL", hint="`hash` keeps it apart")


def _guarantee(relation: Relation, settings: PostgreSQLTable, settle: Settle | None) -> Guarantee:
    lag_s = duration_s(settings.lag)
    look_back = [f"with `lag`, rows that appear up to {lag_s} s late are read, whatever set the key"] if lag_s else []
    names: dict[Settle | None, tuple[str, list[str]]] = {
        None: (FULL_READ.name, [FULL_READ.limits]),
        "xid": ("settled (xid)", [_XID]),
        "cap": ("settled (server clock)", [_CAP, *look_back]),
        "wait": ("settled (in flight)", [_WAIT]),
        "off": ("lag only", look_back) if lag_s else ("off", [_OFF]),
    }
    name, limits = names[settle]
    if settle and not relation.has_heap:
        seen = "a change in one of its tables is seen only if it changes the key of the row"
        limits = [*limits, f"{JOINED}; {_BELOW_QUERY}" if relation.query else seen]
    if relation.primary_key and not (settings.primary_key or own_key(relation)):
        limits = [*limits, "its primary key holds floats, which tell no rows apart, so it has none here"]
    if settle in {"cap", "wait"} and relation.kind == "p":
        limits = [*limits, _ATTACHED]
    if settle == "xid" and settings.where:
        limits = [*limits, "a row that `where` lets through only later, without a change of its own, is not seen"]
    if settings.nulls == "exclude" and settle in {"cap", "wait", "off"}:
        limits = [*limits, "rows whose key is NULL are left out, as the spec says"]
    if settle and settings.deletes == "ignore":
        limits = [*limits, "deleted rows stay (`deletes: sweep` removes them)"]
    return _promised(name, "; ".join(limits))


@lru_cache
def _promised(name: str, limits: str) -> Guarantee:
    """One for all tables of which the same is promised."""
    return Guarantee(name, limits)


@lru_cache(1024)
def _schema(columns: tuple[Column, ...]) -> "pa.Schema":
    """One for all tables that have the same columns."""
    return pa.schema([column.field for column in columns])


def typed(value: object, column: Column) -> str:
    """A value as SQL, of the column's type."""
    return f"{literal(str(value))}::{column.type_name}"
