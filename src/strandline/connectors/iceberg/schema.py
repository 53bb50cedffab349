"""Columns as Iceberg describes them: each has a number, which its values in the files are known by."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from strandline.connectors.iceberg.drivers import ice_schema, ice_types
from strandline.errors import TaskError
from strandline.lazy import pa

__all__ = ["ID", "field_from_json", "field_to_json", "fields_of", "is_same", "promotes", "schema_of", "with_numbers"]

ID = b"PARQUET:field_id"
_APART = 1000
"""Numbers of new columns leave room for those that somebody adds between a decision and its commit."""


def fields_of(written: "Mapping[str, pa.DataType]", current: Any, last: int) -> list[Any]:
    """Iceberg's fields for columns; one that is there already and is of this type, or of one that Iceberg widens, keeps its number.

    Args:
        written: types in the files by name.
        current: Iceberg's schema now; ``None``: there is none.
        last: the greatest number that was ever given.
    """
    there = {one.name: one for one in current.fields} if current is not None else {}
    numbers = iter(range(last + (1 if current is None else _APART), 1 << 31))
    fields = []
    for name, kind in written.items():
        old = there.get(name)
        if old is not None and is_same(kind, old.field_type):
            fields.append(old)
        elif old is not None and promotes(old.field_type, kind):
            made = _type_of(kind, numbers)
            fields.append(ice_types.NestedField(old.field_id, name, made, required=old.required, doc=old.doc))
        else:
            number = next(numbers)
            fields.append(ice_types.NestedField(number, name, _type_of(kind, numbers), required=False))
    return fields


def _type_of(kind: "pa.DataType", numbers: Iterator[int]) -> Any:
    types = pa.types
    if types.is_struct(kind):
        made = [(next(numbers), one.name, one.type) for one in kind]
        fields = [
            ice_types.NestedField(number, name, _type_of(inner, numbers), required=False)
            for number, name, inner in made
        ]
        return ice_types.StructType(*fields)
    if types.is_map(kind):
        key, value = next(numbers), next(numbers)
        return ice_types.MapType(
            key, _type_of(kind.key_type, numbers), value, _type_of(kind.item_type, numbers), value_required=False
        )
    if types.is_list(kind):
        return ice_types.ListType(next(numbers), _type_of(kind.value_type, numbers), element_required=False)
    if types.is_decimal(kind):
        return ice_types.DecimalType(kind.precision, kind.scale)
    if types.is_timestamp(kind):
        return ice_types.TimestampType() if kind.tz is None else ice_types.TimestamptzType()
    for plain, made_of in _plain():
        if kind == plain:
            return made_of()
    raise TaskError(f"{kind} cannot be stored in Iceberg")


def _plain() -> "list[tuple[pa.DataType, Any]]":
    return [
        (pa.bool_(), ice_types.BooleanType),
        (pa.int32(), ice_types.IntegerType),
        (pa.int64(), ice_types.LongType),
        (pa.float32(), ice_types.FloatType),
        (pa.float64(), ice_types.DoubleType),
        (pa.date32(), ice_types.DateType),
        (pa.time64("us"), ice_types.TimeType),
        (pa.string(), ice_types.StringType),
        (pa.binary(), ice_types.BinaryType),
    ]


def is_same(kind: "pa.DataType", found: Any) -> bool:
    """Whether a type of ours is this one of Iceberg, whatever its numbers."""
    if pa.types.is_struct(kind):
        if not isinstance(found, ice_types.StructType) or [one.name for one in found.fields] != [
            one.name for one in kind
        ]:
            return False
        return all(is_same(ours.type, theirs.field_type) for ours, theirs in zip(kind, found.fields, strict=True))
    if pa.types.is_map(kind):
        return (
            isinstance(found, ice_types.MapType)
            and is_same(kind.key_type, found.key_type)
            and is_same(kind.item_type, found.value_type)
        )
    if pa.types.is_list(kind):
        return isinstance(found, ice_types.ListType) and is_same(kind.value_type, found.element_type)
    return bool(_type_of(kind, iter(())) == found)


def promotes(found: Any, kind: "pa.DataType") -> bool:
    """Whether Iceberg itself widens a type of its own to this one."""
    if isinstance(found, ice_types.IntegerType):
        return bool(kind == pa.int64())
    if isinstance(found, ice_types.FloatType):
        return bool(kind == pa.float64())
    if isinstance(found, ice_types.DecimalType) and pa.types.is_decimal(kind):
        return bool(kind.scale == found.scale and kind.precision > found.precision)
    return False


def with_numbers(schema: "pa.Schema", fields: Mapping[str, Any]) -> "pa.Schema":
    """An Arrow schema whose columns have the numbers of these fields, by name.

    Raises:
        TaskError: there is no such field.
    """
    numbered = []
    for one in schema:
        if one.name not in fields:
            raise TaskError(f"the column {one.name!r} is not there any more", hint="somebody has changed the table")
        found = fields[one.name]
        numbered.append(_numbered(one.name, one.type, found.field_id, found.field_type))
    return pa.schema(numbered)


def _numbered(name: str, kind: "pa.DataType", number: int, found: Any) -> "pa.Field":
    if pa.types.is_struct(kind):
        inner = {one.name: one for one in found.fields}
        kind = pa.struct(
            [_numbered(one.name, one.type, inner[one.name].field_id, inner[one.name].field_type) for one in kind]
        )
    elif pa.types.is_map(kind):
        key = _numbered("key", kind.key_type, found.key_id, found.key_type).with_nullable(False)
        kind = pa.map_(key, _numbered("value", kind.item_type, found.value_id, found.value_type))
    elif pa.types.is_list(kind):
        inside = kind.value_field.name
        kind = pa.list_(_numbered(inside, kind.value_type, found.element_id, found.element_type))
    return pa.field(name, kind, metadata={ID: str(number).encode()})


def field_to_json(field: Any) -> dict[str, Any]:
    """As the log of the lake keeps it."""
    found: dict[str, Any] = json.loads(field.model_dump_json())
    return found


def field_from_json(text: Mapping[str, Any]) -> Any:
    """The inverse of ``field_to_json``."""
    return ice_types.NestedField.model_validate(dict(text))


def schema_of(fields: list[Any], number: int) -> Any:
    """Iceberg's schema."""
    return ice_schema.Schema(*fields, schema_id=number)
