"""What lies at a path in a JSON document."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from strandline.connectors.arrow.json_path import json_path
from strandline.connectors.rest.json_queries import is_query, listed_by, queried

__all__ = ["NOTHING", "all_at", "listed", "one_at", "put_at"]

NOTHING: Any = object()
"""Nothing lies there, not even a null."""


def all_at(document: Any, path: str) -> list[Any] | None:
    """Everything at ``path``, keys with dots between them or JSONPath; ``None``: nothing, and the document has another shape.

    An empty list or object, or a null, where there is to be every element, says that there is none. What is unknown is not empty.
    """
    if is_query(path):
        return queried(document, path)
    found = [document]
    for step in json_path(path):
        below = [value for one in found for value in _below(one, step)]
        if not below:
            return [] if step is None and all(one in ([], {}, None) for one in found) else None
        found = below
    return found


def _below(value: Any, step: str | None) -> Iterable[Any]:
    if step is None:
        return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and step in value:
        return (value[step],)
    return (value[int(step)],) if isinstance(value, list) and step.isdigit() and int(step) < len(value) else ()


@lru_cache(maxsize=1024)
def listed(path: str) -> str | None:
    """Where the elements lie among which ``path`` picks: a page has as many, whichever of them are picked. ``None``: it picks all."""
    if is_query(path):
        return listed_by(path)
    steps = json_path(path)
    if None not in steps:
        return None
    quoted = ['"' + re.sub(r'(["\\])', r"\\\1", step) + '"' for step in steps[: steps.index(None)] if step is not None]
    return ".".join([*quoted, "*"])


def one_at(document: Any, path: str) -> Any:
    """The first value at ``path``; ``NOTHING`` if there is none."""
    found = all_at(document, path)
    return found[0] if found else NOTHING


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
