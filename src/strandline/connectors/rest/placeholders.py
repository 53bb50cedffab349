"""What stands in braces in a path, a query, a header or a body: ``{since}``, ``{until:unix}``, ``{parent.id}``, ``{partition}``.

Only these words are placeholders; other braces stay, so that a query of GraphQL can be written as it is.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote

from strandline.connectors.rest.times import as_time, wider
from strandline.errors import TaskError

__all__ = ["FORMATS", "fill", "formatted", "placeholders"]

_PLACEHOLDER = re.compile(r"\{(since|until|partition|parent\.[\w.-]+)(?::([^{}]+))?\}")
FORMATS = ("iso", "date", "unix", "unix_ms")
"""Of times; anything else is a pattern with ``%``."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def placeholders(template: Any) -> Iterator[tuple[str, str, bool]]:
    """Each that stands in ``template``: its name, its format, and whether a parameter that lacks its value is left out."""
    if isinstance(template, str):
        for found in _PLACEHOLDER.finditer(template):
            yield found[1], found[2] or "", found[0] == template
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from placeholders(value)
    elif isinstance(template, list):
        for value in template:
            yield from ((name, form, False) for name, form, _ in placeholders(value))


def fill(template: Any, values: Mapping[str, Any], *, quoted: bool = False) -> Any:
    """``template`` with values in the place of its placeholders.

    A member of an object that is only a placeholder keeps the type of the value; without a value the member is left out.

    Args:
        template: JSON values.
        values: by the names of placeholders; ``None`` is none.
        quoted: values are parts of a path, in which a slash of theirs does not count.

    Raises:
        TaskError: there is no value.
    """
    if isinstance(template, Mapping):
        filled = {
            name: fill(value, values, quoted=quoted) for name, value in template.items() if not _is_void(value, values)
        }
        return {name: value for name, value in filled.items() if value != {} or template[name] == {}}
    if isinstance(template, list):
        return [fill(value, values, quoted=quoted) for value in template]
    if not isinstance(template, str):
        return template
    whole = _PLACEHOLDER.fullmatch(template)
    if whole and not quoted:
        return _value(whole, values)
    return _PLACEHOLDER.sub(lambda one: _text(_value(one, values), quoted=quoted), template)


def formatted(value: Any, form: str) -> Any:
    """A time as an API wants it; anything else as it is. A number stays one, unless a form is asked for."""
    if isinstance(value, int) and form and (moment := as_time(value)) is not None:
        value = moment
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = as_time(value)
    if not isinstance(value, datetime):
        return value
    value = value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    if form in {"", "iso"}:
        text = value.isoformat(timespec="microseconds" if value.microsecond else "seconds")
        return text.replace("+00:00", "Z")
    if form == "date":
        return value.date().isoformat()
    if form in {"unix", "unix_ms"}:
        past = value - _EPOCH
        seconds = past.days * 86_400 + past.seconds
        return seconds if form == "unix" else seconds * 1000 + past.microseconds // 1000
    return value.strftime(form)


def _is_void(template: Any, values: Mapping[str, Any]) -> bool:
    found = _PLACEHOLDER.fullmatch(template) if isinstance(template, str) else None
    return found is not None and values.get(found[1]) is None


def _value(found: re.Match[str], values: Mapping[str, Any]) -> Any:
    value = values.get(found[1])
    if value is None:
        raise TaskError(
            f"there is no value for {found[0]}",
            hint="let it be all of a parameter, which is then left out, or set `start`"
            if found[1] in {"since", "until"}
            else "look at the fields of the parent's records",
        )
    form = found[2] or ""
    return formatted(wider(value, found[1], form) if found[1] in {"since", "until"} else value, form)


def _text(value: Any, *, quoted: bool) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quote(text, safe="") if quoted else text
