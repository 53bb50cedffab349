"""What is said of several tables in the same words is said once."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["bare", "counted", "grouped", "named"]

_ALL_NAMED_MAX = 3
_NAMED = 2
_SECONDS = re.compile(r"\d[\d,.]* s\b")


def named(names: Sequence[str]) -> str:
    """``audit_log, orders and 4 more``."""
    if len(names) <= _ALL_NAMED_MAX:
        return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part) if names else ""
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


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
    groups: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for name, text in said:
        first = texts.setdefault(_SECONDS.sub("# s", text), text)
        if name not in groups.setdefault(first, []):
            groups[first].append(name)
    return groups
