"""JSON as it was received: every number in it keeps all of its digits."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from strandline.connectors.arrow.json_path import JSONPath
from strandline.connectors.arrow.types import comes_back
from strandline.errors import TaskError

__all__ = ["document_of", "has_long_numbers", "loaded", "parsed", "records_of"]

_LONG = b"0" * 16, b"e000", b"e-000"
"""A number that is none of these comes back from a double: it has fewer than 16 digits, and than three in its exponent."""
_OUTLINE = bytes.maketrans(b"123456789+E", b"000000000-e")
"""Makes all digits one, so that long numbers are found as fast as a text; a pattern takes longer than all the rest."""
_NAMED_MAX = 8


def document_of(data: bytes) -> Any:
    """The JSON values of a document. Numbers that no double holds are decimals.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    return json.loads(data, parse_float=_number) if has_long_numbers(data) else json.loads(data)


def has_long_numbers(data: bytes) -> bool:
    """Whether something in it looks like a number that a double may not hold; be it within a text."""
    outline = data.translate(_OUTLINE, b".")
    return any(one in outline for one in _LONG)


def parsed(page: bytes | bytearray | memoryview | str, path: JSONPath, *, where: str) -> list[Any]:
    """The records in a JSON document: the elements of what lies at ``path``, or that itself.

    Raises:
        TaskError: it is no JSON, or nothing lies there.
    """
    return records_of(loaded(page.encode() if isinstance(page, str) else bytes(page), where=where), path, where=where)


def loaded(data: bytes, *, where: str) -> Any:
    """As ``document_of``.

    Raises:
        TaskError: it is no JSON.
    """
    try:
        return document_of(data)
    except (ValueError, RecursionError) as error:
        begun = data[:60].decode(errors="replace")
        raise TaskError(f"{where}: a page is no JSON ({error}); it begins with {begun!r}") from error


def records_of(document: Any, path: JSONPath, *, where: str) -> list[Any]:
    """The elements of what lies at ``path``, or that itself.

    Raises:
        TaskError: nothing lies there.
    """
    return [one for lying in _at(document, path, where) for one in (lying if isinstance(lying, list) else [lying])]


def _number(text: str) -> float | Decimal:
    return float(text) if comes_back(text) else Decimal(text)


def _at(value: Any, path: JSONPath, where: str) -> Iterator[Any]:
    if not path:
        yield from () if value is None else (value,)
        return
    key, rest = path[0], path[1:]
    if key is None and isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _at(one, rest, where)
    elif isinstance(value, dict) and key in value:
        yield from _at(value[key], rest, where)
    else:
        there = ", ".join(map(repr, [*value][:_NAMED_MAX])) if isinstance(value, dict) else type(value).__name__
        raise TaskError(f"{where}: `records` names {key or '*'!r}, and a page has {there or 'nothing'} there")
