"""Where in a JSON document the records lie: ``data.items``, ``pages.*.items``, ``data."odd.name"``."""

import re
from typing import TypeAlias

__all__ = ["JSONPath", "json_path"]

JSONPath: TypeAlias = tuple[str | None, ...]
"""From the outside in: a key, or ``None`` for every element of an array and every value of an object."""

_STEP = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)+)"|(?P<plain>[^."]+)')


def json_path(text: str) -> JSONPath:
    """The path that ``text`` names: keys with ``.`` between them, in quotes where they hold one; ``*`` is every one.

    Raises:
        ValueError: it is no path.
    """
    steps: list[str | None] = []
    at = 0
    while step := _STEP.match(text, at):
        key = step["quoted"]
        steps.append(re.sub(r"\\(.)", r"\1", key) if key else None if step["plain"] == "*" else step["plain"])
        at = step.end()
        if at == len(text):
            return tuple(steps)
        if text[at] != ".":
            break
        at += 1
    raise ValueError(f"{text!r} is no path: keys with dots between them, like data.items; a key with a dot in quotes")
