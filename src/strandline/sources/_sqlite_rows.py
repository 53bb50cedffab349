"""SQLite's rows as Arrow columns. SQLite types values, not columns: a value that does not fit its column is an error."""

from collections.abc import Sequence
from typing import Any

from strandline.errors import TaskError
from strandline.lazy import pa

__all__ = ["TYPES", "arrow_type", "to_arrow", "type_of"]

TYPES: dict[str, tuple[str, ...]] = {
    "integer": ("int64",),
    "real": ("float64",),
    "text": ("string",),
    "blob": ("binary",),
    "boolean": ("bool_",),
    "date": ("date32",),
    "timestamp": ("timestamp", "us"),
    "timestamptz": ("timestamp", "us", "UTC"),
}
"""The names that a spec may give in ``types``."""


def type_of(kind: str) -> "pa.DataType":
    """The Arrow type of one of ``TYPES``."""
    name, *arguments = TYPES[kind]
    return getattr(pa, name)(*arguments)


def arrow_type(declared: str, stored: Sequence[str]) -> str:
    """The name of a column's type: by what was declared, or else by what is stored.

    SQLite's own rules of affinity, but that times stay texts as they are written, and that a column without a type, or
    one that is NUMERIC, follows its values.

    Args:
        declared: upper case.
        stored: the distinct ``typeof`` of the values, where the declaration does not decide.
    """
    if "BOOL" in declared:
        return "boolean"
    if "INT" in declared:
        return "integer"
    if any(part in declared for part in ("CHAR", "CLOB", "TEXT", "DATE", "TIME", "JSON", "UUID")):
        return "text"
    if "BLOB" in declared:
        return "blob"
    if any(part in declared for part in ("REAL", "FLOA", "DOUB")):
        return "real"
    found = set(stored) - {"null"}
    if found == {"integer"}:
        return "integer"
    if found and found <= {"integer", "real"}:
        return "real"
    return "blob" if found == {"blob"} else "text"


def to_arrow(table: str, name: str, kind: str, values: Sequence[Any], keys: Sequence[Any]) -> "pa.Array":
    """One column.

    Raises:
        TaskError: a value does not fit, with the key of its row.
    """
    try:
        return _convert(kind, values)
    except _MISFIT:
        value, key = _first_misfit(kind, values, keys)
    raise TaskError(
        f"table {table!r}, column {name!r}: {value!r} of the row {key!r} is no {kind}; nothing of it was delivered",
        hint=f"mend the row, or say `types: {{{name}: text}}` for this table",
    )


def _convert(kind: str, values: Sequence[Any]) -> "pa.Array":
    if kind == "boolean":
        return pa.array([_BOOLEANS[value] for value in values], pa.bool_())
    if kind == "text":
        return _texts(values)
    if kind in {"timestamp", "timestamptz", "date"}:
        return pa.array(values, pa.string()).cast(type_of(kind))
    if kind == "real" and any(isinstance(value, int) and abs(value) > _EXACT_MAX for value in values):
        raise ValueError("an integer that a float cannot hold")
    return pa.array(values, type_of(kind))


_MISFIT = (KeyError, TypeError, ValueError, OverflowError)  # Arrow's own errors are among them
_BOOLEANS = {0: False, 1: True, None: None}
_EXACT_MAX = 2**53


def _texts(values: Sequence[Any]) -> "pa.Array":
    try:
        return pa.array(values, pa.string())
    except _MISFIT:
        if any(isinstance(value, bytes) for value in values):
            raise
        texts = [value if value is None or isinstance(value, str) else repr(value) for value in values]
        return pa.array(texts, pa.string())


def _first_misfit(kind: str, values: Sequence[Any], keys: Sequence[Any]) -> tuple[Any, Any]:
    for value, key in zip(values, keys, strict=True):
        try:
            _convert(kind, [value])
        except _MISFIT:
            return value, key
    raise AssertionError("the values fit one by one, but not together")
