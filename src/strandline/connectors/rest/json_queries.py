"""JSONPath (RFC 9535), for what keys with dots between them cannot say: filters, slices, any depth.

The library is imported where a spec has such a path, and nowhere else.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from strandline.connectors.rest.drivers import jsonpath, jsonpath_filter, jsonpath_segments, jsonpath_selectors
from strandline.errors import TaskError

if TYPE_CHECKING:
    from jsonpath.filter import BaseExpression

__all__ = ["check_query", "is_query", "listed_by", "queried"]

_QUERY = re.compile(r"\$\s*(?:\.|\[|$)")
_PATTERNS = {"match", "search"}


def is_query(text: str) -> bool:
    """Whether it is JSONPath: it begins with ``$`` and a step. ``$values`` is a key."""
    return _QUERY.match(text) is not None


def check_query(text: str) -> None:
    """Raise ``ValueError`` if it is no JSONPath."""
    _compiled(text)


@lru_cache(maxsize=1024)
def _compiled(text: str) -> "jsonpath.JSONPath":
    try:
        found = jsonpath.JSONPathEnvironment(strict=True).compile(text)
    except ImportError as error:
        raise ValueError(
            f"{text!r} needs python-jsonpath, which is not installed: pip install 'strandline[rest]'"
        ) from error
    except jsonpath.JSONPathError as error:
        at = error.token.index if error.token is not None else -1
        where = "at its end" if at < 0 or at >= len(text) else f"at {text[at:]!r}"
        raise ValueError(f"{text!r} is no JSONPath: {error.message}, {where}") from error
    assert isinstance(found, jsonpath.JSONPath), "RFC 9535 has no unions of queries"
    for segment in found.segments:
        for selector in segment.selectors:
            if isinstance(selector, jsonpath_selectors.Filter):
                _check_patterns(selector.expression, text)
    return found


def _check_patterns(expression: "BaseExpression", text: str) -> None:
    """A pattern that is none would match nothing, without a word."""
    if isinstance(expression, jsonpath_filter.FunctionExtension) and expression.name in _PATTERNS:
        for one in expression.args[1:]:
            if isinstance(one, jsonpath_filter.StringLiteral):
                try:
                    re.compile(one.value)
                except re.error as error:
                    raise ValueError(f"{text!r}: {one.value!r} is no regular expression: {error}") from error
    for below in expression.children():
        _check_patterns(below, text)


def queried(document: Any, text: str) -> list[Any] | None:
    """What a JSONPath picks; ``None``: nothing, and the document does not say that there is nothing.

    It says so by an empty list, an empty object or a null, where elements are to be picked, and by a list of which a filter or a
    slice picks none. An object of which a filter picks nothing may be another one, such as that of an error.

    Raises:
        TaskError: the document is nested too deeply.
    """
    if not isinstance(document, dict | list):
        return [document] if text.strip() == "$" else None
    query = _compiled(text)
    try:
        found = _nodes(query, document, len(query.segments))
        if found:
            return found
        # the step that picks nothing, and what it was given
        count = next(at for at in range(len(query.segments) - 1, -1, -1) if _nodes(query, document, at))
        given, step = _nodes(query, document, count), query.segments[count]
    except jsonpath.JSONPathError as error:
        raise TaskError(f"{text!r}: {error.message}", hint="name the place without `..`") from error
    if _picks_one(step) or isinstance(step, jsonpath_segments.JSONPathRecursiveDescentSegment):
        return None
    return [] if all(isinstance(one, list) or one in ({}, None) for one in given) else None


def listed_by(text: str) -> str | None:
    """The JSONPath of the elements among which another one picks; ``None``: there is no list of which it could be said."""
    steps = _compiled(text).segments
    at = next((at for at, one in enumerate(steps) if not _picks_one(one)), len(steps))
    if at == len(steps) or isinstance(steps[at], jsonpath_segments.JSONPathRecursiveDescentSegment):
        return None
    return "$" + "".join(str(one) for one in steps[:at]) + "[*]"


def _nodes(query: "jsonpath.JSONPath", document: Any, count: int) -> list[Any]:
    """What the first steps pick."""
    return jsonpath.JSONPath(env=query.env, segments=query.segments[:count]).findall(document)


def _picks_one(step: "jsonpath_segments.JSONPathSegment") -> bool:
    """Whether it picks what has to be there, and not any number of what it is given."""
    one = (jsonpath_selectors.NameSelector, jsonpath_selectors.IndexSelector)
    deep = isinstance(step, jsonpath_segments.JSONPathRecursiveDescentSegment)
    return not deep and all(isinstance(selector, one) for selector in step.selectors)
