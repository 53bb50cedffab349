"""SQLite's values as Arrow columns, without loss: a value that does not fit its column is an error, never changed."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import Any

from strandline.decimals import decimals
from strandline.errors import UsageError
from strandline.lazy import pa, pc
from strandline.settings import parse_type

__all__ = ["TYPE_NAMES", "Misfit", "arrow_type", "declared_type", "storage_class", "stored_type", "to_array"]

TYPE_NAMES = (
    *("string", "int64", "double", "bool", "binary", "date32"),
    *("timestamp", "timestamp[us]", "timestamp[us, UTC]", "decimal(P, S)"),
)
"""What can be written in `types`."""

_FINER_THAN_US = re.compile(r"[.,]\d{6}\d*[1-9]")
_CLASSES: Mapping[type, str] = {int: "integer", float: "real", str: "text", bytes: "blob"}


class Misfit(Exception):  # noqa: N818 -- a finding, which becomes a TaskError where the row's key is known
    """A value does not fit its column."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index
        """Its place among the values."""


def arrow_type(name: str) -> "pa.DataType":
    """The type that ``name`` means in `types`.

    Raises:
        UsageError: it means none.
    """
    try:
        type_ = parse_type(name)
    except ValueError:
        type_ = None
    if type_ is None or not _is_held(type_):
        raise UsageError(f"`types`: there is no type {name!r}", hint=f"the types are {', '.join(TYPE_NAMES)}")
    return type_


def _is_held(type_: "pa.DataType") -> bool:
    if pa.types.is_decimal128(type_):
        return bool(0 <= type_.scale <= type_.precision)
    simple = (pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.binary(), pa.date32())
    return type_ in (*simple, pa.timestamp("us"), pa.timestamp("us", "UTC"))


def declared_type(declared: str) -> "pa.DataType | None":
    """The type of a column declared as ``declared`` (upper case), by SQLite's rules of affinity.

    A decimal is kept by SQLite as a double, so that is what is read, unless ``types_declared`` knows better. ``None`` where the declaration does not say what is
    stored: no type at all, or a date or time, which may be a text or a number.
    """
    if "INT" in declared:
        return pa.int64()
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return pa.string()
    if "BLOB" in declared:
        return pa.binary()
    if any(word in declared for word in ("REAL", "FLOA", "DOUB")) or declared.startswith(("NUM", "DEC", "MONEY")):
        return pa.float64()
    if declared.startswith("BOOL"):
        return pa.bool_()
    if any(word in declared for word in ("STRING", "JSON", "UUID", "ENUM")):
        return pa.string()
    return None


def stored_type(class_: str | None) -> "pa.DataType":
    """The type for a column whose declaration does not say, by the class of a value in it."""
    types = {"integer": pa.int64(), "real": pa.float64(), "blob": pa.binary()}
    return types.get(class_ or "", pa.string())


def storage_class(value: object) -> str:
    """What SQLite calls the class of ``value``."""
    return _CLASSES.get(type(value), "null")


def to_array(values: Sequence[Any], type_: "pa.DataType", *, asked: bool, zone: tzinfo | None = None) -> "pa.Array":
    """A column of ``values`` as SQLite gave them.

    Args:
        values: None, int, float, str or bytes.
        type_: one of those that ``arrow_type`` gives.
        asked: whether the user named the type, and so wants numbers as texts, or reals without a fraction as integers.
        zone: of times that carry none. Default: UTC.

    Raises:
        Misfit: the first value that the type cannot hold exactly.
    """
    try:
        return _whole(values, type_, asked=asked, zone=zone)
    except _UNFIT as error:
        for index, value in enumerate(values):
            try:
                _whole([value], type_, asked=asked, zone=zone)
            except _UNFIT:
                raise Misfit(index) from error
        raise


_UNFIT = (TypeError, ValueError, OverflowError)  # Arrow's own errors are among them


def _number_texts(values: Sequence[Any], classes: set[type]) -> "pa.Array":
    """Numbers in their shortest texts."""
    if classes <= {int, float}:
        try:
            return pc.cast(pa.array(values, pa.float64()), pa.string())  # thrice as fast
        except pa.ArrowInvalid:
            pass  # a whole number that no double is
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _times(values: Sequence[Any], type_: "pa.DataType") -> "pa.Array | None":
    """Texts as days or moments, where all are written as Arrow reads them; otherwise nothing."""
    try:
        return pc.cast(pa.array(values, pa.string()), type_)
    except pa.ArrowInvalid:
        return None


def _whole(values: Sequence[Any], type_: "pa.DataType", *, asked: bool, zone: tzinfo | None) -> "pa.Array":
    classes = set(map(type, values)) - {type(None)}
    if pa.types.is_decimal(type_) and bytes not in classes:
        return decimals(_number_texts(values, classes), type_)
    if classes == {str} and pa.types.is_temporal(type_) and (times := _times(values, type_)) is not None:
        return times
    as_they_are, convert = _rule(type_, asked=asked, zone=zone)
    if classes - as_they_are:
        values = [None if value is None else convert(value) for value in values]
    return pa.array(values, type_)


def _rule(type_: "pa.DataType", *, asked: bool, zone: tzinfo | None) -> "tuple[set[type], Callable[[Any], Any]]":
    """The classes that Arrow takes as they are, and how any other value is converted, or refused."""
    if isinstance(type_, pa.JsonType):
        return {str}, _refused
    if pa.types.is_string(type_):
        return {str}, _text if asked else _refused
    if pa.types.is_binary(type_):
        return {bytes}, _refused
    if pa.types.is_integer(type_):
        return {int}, _integer if asked else _refused
    if pa.types.is_floating(type_):
        return {float, int}, _refused
    if pa.types.is_boolean(type_):
        return set(), _bool
    if pa.types.is_timestamp(type_):
        return set(), lambda value: _timestamp(value, zone or UTC, naive=type_.tz is None)
    if pa.types.is_date(type_):
        return set(), date.fromisoformat
    return set(), _refused


def _refused(value: object) -> Any:
    raise TypeError(type(value))


def _text(value: object) -> str:
    return _refused(value) if isinstance(value, bytes) else str(value)


def _integer(value: object) -> int:
    number = int(value) if isinstance(value, int | float) else _refused(value)
    return number if number == value else _refused(value)


def _bool(value: object) -> bool:
    return value == 1 if isinstance(value, int) and value in {0, 1} else _refused(value)


def _timestamp(value: str, zone: tzinfo, *, naive: bool) -> datetime:
    if _FINER_THAN_US.search(value):
        raise ValueError("finer than microseconds")
    moment = datetime.fromisoformat(value)
    if naive:
        return moment if moment.tzinfo is None else _refused(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
