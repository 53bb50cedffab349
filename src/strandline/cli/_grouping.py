"""What is said of several tables in the same words is said once."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["bare", "counted", "grouped", "listed", "named"]

_ALL_NAMED_MAX = 3
_NAMED = 2
_ALL_LISTED_MAX = 8
_LISTED = 5
_SECONDS = re.compile(r"\d[\d,.]* s\b")


def named(names: Sequence[str]) -> str:
    """``audit_log, orders and 4 more``."""
    if len(names) <= _ALL_NAMED_MAX:
        return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part) if names else ""
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED:,} more"


def listed(names: Sequence[str]) -> str:
    """``orders, items``; of many the first, ``and 19,995 more``."""
    if len(names) <= _ALL_LISTED_MAX:
        return ", ".join(names)
    return f"{', '.join(names[:_LISTED])} and {len(names) - _LISTED:,} more"


def counted(count: int, what: str) -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def bare(text: str, names: Iterable[str]) -> str:
    """``text`` without one of ``names`` in front, which whoever prints it says already."""
    for name in names:
        if text.startswith(f"{name}: "):
            return text.removeprefix(f"{name}: ")
    return text


def grouped(said: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """(name, text) pairs as names by text: each text once, in the order in which they came.

    Texts are the same that differ only in how many seconds something has taken when each was made.
    """
    groups: dict[str, dict[str, None]] = {}
    texts: dict[str, str] = {}
    for name, text in said:
        first = texts.setdefault(_SECONDS.sub("# s", text), text)
        groups.setdefault(first, {})[name] = None
    return {text: [*names] for text, names in groups.items()}
