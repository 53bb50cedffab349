"""What lies at a path in a JSON document."""

from collections.abc import Iterator
from typing import Any

from strandline.connectors.arrow.json_path import JSONPath, json_path

__all__ = ["NOTHING", "all_at", "one_at", "put_at"]

NOTHING: Any = object()
"""Nothing lies there, not even a null."""


def all_at(document: Any, path: JSONPath) -> Iterator[Any]:
    """Everything at ``path``: nulls too, and nothing where a key is missing."""
    if not path:
        yield document
        return
    step, rest = path[0], path[1:]
    if step is None:
        values = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
        for value in values:
            yield from all_at(value, rest)
    elif isinstance(document, dict) and step in document:
        yield from all_at(document[step], rest)
    elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
        yield from all_at(document[int(step)], rest)


def one_at(document: Any, path: str) -> Any:
    """The first value at ``path``; ``NOTHING`` if there is none."""
    return next(all_at(document, json_path(path)), NOTHING)


def put_at(document: Any, path: str, value: Any) -> dict[str, Any]:
    """The object with ``value`` at ``path``; objects that are missing above it are made."""
    changed = dict(document) if isinstance(document, dict) else {}
    at = changed
    *above, last = json_path(path)
    for step in above:
        below = at.get(str(step))
        at[str(step)] = below = dict(below) if isinstance(below, dict) else {}
        at = below
    at[str(last)] = value
    return changed
