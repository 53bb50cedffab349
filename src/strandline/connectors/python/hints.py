"""Columns by type hints: dataclasses, TypedDicts, msgspec structs, pydantic models, mappings and Arrow schemas."""

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from strandline.errors import UsageError
from strandline.lazy import pa

__all__ = ["columns_of", "returned"]

_NONE = type(None)


def returned(fn: Callable[..., Any]) -> Any:
    """The class of the rows that a function's annotation says it yields; ``None``: it says none that declares columns."""
    try:
        hint = typing.get_type_hints(fn, include_extras=True).get("return")
    except (NameError, TypeError):
        return None  # names that only a type checker sees
    while hint is not None and typing.get_origin(hint) is not None and not _declares(hint):
        arguments = typing.get_args(hint)
        hint = arguments[0] if arguments else None
    return hint if _declares(hint) else None


def _declares(hint: Any) -> bool:
    return isinstance(hint, type) and bool(
        dataclasses.is_dataclass(hint)
        or typing.is_typeddict(hint)
        or hasattr(hint, "__struct_fields__")
        or hasattr(hint, "model_fields")
    )


def columns_of(declared: Any, *, where: str) -> "pa.Schema":
    """The columns that a class, a mapping or an Arrow schema declares. A field of type ``Any`` is left to be inferred.

    Raises:
        UsageError: a type has no column.
    """
    if isinstance(declared, pa.Schema):
        return declared
    if not isinstance(declared, Mapping) and not _declares(declared):
        raise UsageError(
            f"table {where!r}: {declared!r} declares no columns",
            hint="name a dataclass, TypedDict, msgspec or pydantic model, a mapping of types, or an Arrow schema",
        )
    found = [(name, _kind(hint, f"{where}.{name}")) for name, hint in _fields(declared).items()]
    return pa.schema([(name, kind) for name, kind in found if kind is not None])


def _fields(declared: Any) -> dict[str, Any]:
    if isinstance(declared, Mapping):
        return dict(declared)
    hints = typing.get_type_hints(declared, include_extras=True)
    for names in ("__struct_fields__", "model_fields"):
        if hasattr(declared, names):
            return {name: hints[name] for name in getattr(declared, names)}
    return (
        {one.name: hints[one.name] for one in dataclasses.fields(declared)}
        if dataclasses.is_dataclass(declared)
        else hints
    )


def _kind(hint: Any, where: str) -> "pa.DataType | None":
    if isinstance(hint, pa.DataType):
        return hint
    if hint in (Any, object):
        return None
    if hint in (list, dict) or typing.get_origin(hint) in (dict, Mapping):
        return pa.json_()
    if typing.get_origin(hint) is not None:
        return _generic(hint, where)
    if isinstance(hint, typing.NewType):
        return _kind(hint.__supertype__, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _one({type(one.value) for one in hint}, where)
    if _declares(hint):
        found = [(name, _kind(one, f"{where}.{name}")) for name, one in _fields(hint).items()]
        inside = [kind for _, kind in found]
        return pa.json_() if _is_open(inside) else pa.struct([(name, kind) for name, kind in found])
    kind = _plain().get(hint)
    if kind is None:
        raise UsageError(
            f"{where}: {hint!r} is no type of a column", hint="declare another type, or Any, which is inferred"
        )
    return kind


def _generic(hint: Any, where: str) -> "pa.DataType | None":
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _kind(arguments[0], where)
    if origin is typing.Literal:
        return _one({type(one) for one in arguments}, where)
    if origin in (list, tuple, set, frozenset, Sequence):
        inner = _kind(arguments[0], where)
        return pa.json_() if _is_open([inner]) else pa.list_(inner)
    kinds = {_kind(one, where) for one in arguments if one is not _NONE}
    if origin not in (typing.Union, types.UnionType) or len(kinds) != 1:
        raise UsageError(f"{where}: {hint} is no one type", hint="declare one, or Any, which is inferred")
    return kinds.pop()


def _is_open(inside: "Sequence[pa.DataType | None]") -> bool:
    """Whether some of what is inside has no type of its own, so that all of it is kept as JSON."""
    return any(kind is None or isinstance(kind, pa.JsonType) for kind in inside)


def _plain() -> "dict[Any, pa.DataType]":
    return {
        bool: pa.bool_(),
        int: pa.int64(),
        float: pa.float64(),
        str: pa.string(),
        bytes: pa.binary(),
        datetime: pa.timestamp("us", "UTC"),
        date: pa.date32(),
        time: pa.time64("us"),
        timedelta: pa.duration("us"),
        Decimal: pa.decimal128(38, 18),
        UUID: pa.uuid(),
    }


def _one(kinds: set[type], where: str) -> "pa.DataType | None":
    return _kind(kinds.pop(), where) if len(kinds) == 1 else None
