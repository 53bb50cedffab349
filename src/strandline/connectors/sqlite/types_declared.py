"""What a declaration says of a column that SQLite itself makes nothing of: decimals, days, moments and JSON.

SQLite keeps any value in any column, so a declaration counts only where the values fit it that are looked at: those of the
first and of the last rows. A later value that does not fit fails its table with its key, as text in an INTEGER column does.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sqlite.catalog import Catalogued, Column
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.decimals import decimal_of
from strandline.lazy import pa
from strandline.warned import Code

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["claimed", "claims"]

log = logging.getLogger(__name__)

_LOOKED_AT_ROWS = 1_000
"""At either end."""
_SPARSE_ROWS = 200_000
"""At either end, for a column that has no value among those."""
_DIGITS_MAX = 38
_LENGTH_MAX = 64
_DOCUMENTS = {"JSON", "JSONB"}
_DECIMAL = re.compile(r"(?:DEC|DECIMAL|NUMERIC)\s*\(\s*([0-9]{1,2})\s*(?:,\s*([0-9]{1,2})\s*)?\)")
_MOMENT = re.compile(r"(?:DATETIME|TIMESTAMP|TIMESTAMPTZ)\b.*")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6}0*)?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
Fits = Callable[[Any], bool]


def claimed(connection: "Connection", entry: Catalogued, names: Sequence[str]) -> "dict[str, pa.DataType]":
    """Those of these columns whose values are what their declaration says, with the type."""
    candidates = {
        column.name: types for column in entry.columns if column.name in names and (types := claims(column.declared))
    }
    if not candidates:
        return {}
    values = _looked_at(connection, entry, [*candidates])
    found = {}
    for name, types in candidates.items():
        some = [value for value in values[name] if value is not None] or _sparse(connection, entry, name)
        kind = next((kind for kind, fits in types.items() if some and all(map(fits, some))), None)
        if kind is not None:
            found[name] = kind
        elif some:
            _warn_of_mixed(entry.name, name, types, some)
    return found


def claims(declared: str) -> "Mapping[pa.DataType, Fits]":
    """The types that a declaration may mean, with what a value has to be; the first one that all values fit counts."""
    if digits := _DECIMAL.fullmatch(declared):
        precision, scale = int(digits[1]), int(digits[2] or 0)
        if not 0 < precision <= _DIGITS_MAX or scale > precision:
            return {}
        decimal = pa.decimal128(precision, scale)
        return {decimal: lambda value: isinstance(value, int | float) and decimal_of(value, decimal) is not None}
    if _MOMENT.fullmatch(declared):
        return {
            pa.timestamp("us"): lambda value: _is_moment(value, zoned=False),
            pa.timestamp("us", "UTC"): lambda value: _is_moment(value, zoned=True),
        }
    if declared == "DATE":
        return {pa.date32(): _is_day}
    if declared in _DOCUMENTS:
        return {pa.json_(): lambda valid: valid == 1}
    return {}


def _is_moment(value: Any, *, zoned: bool) -> bool:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None or bool(found[1]) != zoned:
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_day(value: Any) -> bool:
    if not (isinstance(value, str) and _DAY.fullmatch(value)):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _looked_at(connection: "Connection", entry: Catalogued, names: Sequence[str]) -> Mapping[str, Sequence[Any]]:
    columns = {column.name: _shortened(column) for column in entry.columns}
    select = f"SELECT {', '.join(columns[name] for name in names)} FROM {entry.relation} AS t"
    ends = [""] if entry.is_view or entry.without_rowid else ["", " ORDER BY t.rowid DESC"]
    try:
        rows = [row for end in ends for row in connection.execute(f"{select}{end} LIMIT {_LOOKED_AT_ROWS}")]
    except sqlite3.OperationalError:  # a text that is not UTF-8, and whatever else reading will say
        rows = []
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    return dict(zip(names, values, strict=True))


def _sparse(connection: "Connection", entry: Catalogued, name: str) -> Sequence[Any]:
    """The values of a column that seldom has one: were it of no type whenever they are out of sight, its table would fail."""
    if entry.is_view or entry.without_rowid:
        return []
    column = next(_shortened(column) for column in entry.columns if column.name == name)
    table = entry.relation
    wide = " UNION ALL ".join(
        f"SELECT c FROM (SELECT {column} AS c FROM {table} AS t ORDER BY t.rowid {order} LIMIT {_SPARSE_ROWS})"
        for order in ("DESC", "ASC")
    )
    try:
        rows = connection.execute(f"SELECT c FROM ({wide}) WHERE c IS NOT NULL LIMIT {_LOOKED_AT_ROWS}").fetchall()
    except sqlite3.OperationalError:  # as above
        return []
    return [value for (value,) in rows]


def _shortened(column: Column) -> str:
    """A value in SQL, as far as it is needed: whether a document is JSON, and nothing of what is too long for a number or a time."""
    name = f"t.{quote(column.name)}"
    if column.declared in _DOCUMENTS:
        return f"iif({name} IS NULL, NULL, typeof({name}) = 'text' AND json_valid({name}))"
    return f"iif(typeof({name}) IN ('text', 'blob') AND length({name}) > {_LENGTH_MAX}, x'', {name})"


def _warn_of_mixed(table: str, name: str, types: "Mapping[pa.DataType, Fits]", values: Sequence[Any]) -> None:
    """A column whose values fit, but for some, is worth a word: it was one of times perhaps until now."""
    for kind, fits in types.items():
        if fits(values[0]):
            log.warning(
                "table %r: column %r is not read as %s, as it is declared, for not all of its values are such; say in `types` what it "
                "holds",
                table,
                name,
                kind,
                extra=Code.MIXED_TYPES.extra,
            )
            return
