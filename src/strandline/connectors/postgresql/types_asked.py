"""What ``types`` of a spec says of PostgreSQL's columns: how each is selected so that it can be read as that type, exactly."""

from dataclasses import replace

from strandline.connectors.postgresql.catalog import Column
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.types_read import MONEY, NUMERIC, TIMES
from strandline.connectors.sql.dialect import quote
from strandline.errors import UsageError
from strandline.lazy import pa, pc
from strandline.settings import parse_type

__all__ = ["asked"]


def asked(column: Column, written: str, zone: str, where: str) -> Column:
    """The column with the type that ``written`` names. What is no such value fails the table when it is read.

    Args:
        column: as the catalogue has it.
        written: in ``types``.
        zone: of times that carry none.
        where: the table, for errors.

    Raises:
        UsageError: there is no such type, or nothing of PostgreSQL's is read as it.
    """
    try:
        kind = parse_type(written)
    except ValueError as error:
        raise UsageError(
            f"{where}: `types`: {error}", hint=f"{column.name} is {column.field.type} without it"
        ) from error
    if kind == column.field.type:
        return column
    if not pa.types.is_string(kind) and (column.is_nested or not _is_read_from_text(kind)):
        raise UsageError(
            f"{where}: `types`: {column.name!r} ({column.type_name}) cannot be read as {kind}",
            hint="declare string, int64, double, bool, date32, timestamp[us], timestamp[us, UTC], decimal(38, 4) or another "
            "type of single values",
        )
    before = column.formerly()
    former = before if pa.types.is_string(before.field.type) and not pa.types.is_string(kind) else None
    field = pa.field(column.name, kind, column.nullable)
    return replace(column, field=field, expression=_expression(column, kind, zone), former=former)


def _is_read_from_text(kind: "pa.DataType") -> bool:
    try:
        pc.cast(pa.nulls(1, pa.string()), kind)
    except pa.ArrowNotImplementedError:
        return False
    return not pa.types.is_nested(kind)


def _expression(column: Column, kind: "pa.DataType", zone: str) -> str:
    name = f"t.{quote(column.name)}"
    if pa.types.is_string(kind):
        return f"to_json({name})::text" if column.is_nested else f"{name}::text"
    if pa.types.is_timestamp(kind) and column.type_oid in TIMES:
        # as PostgreSQL sends them, so that infinity is known
        with_zone = TIMES[column.type_oid] == "timestamptz"
        if kind.tz and not with_zone:
            return f"({name}::timestamp AT TIME ZONE {literal(zone)})"
        if kind.tz or not with_zone:
            return f"{name}::{'timestamptz' if kind.tz else 'timestamp'}"
    number = f"{name}::numeric" if column.type_oid == MONEY else name
    if column.type_oid in (MONEY, NUMERIC) and pa.types.is_integer(kind):
        return f"trim_scale({number})::text"
    return f"{number}::text"
