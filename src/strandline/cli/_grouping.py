"""What is said of several tables in the same words is said once."""

from collections.abc import Iterable, Sequence

__all__ = ["bare", "grouped", "named"]

_ALL_NAMED_MAX = 3
_NAMED = 2


def named(names: Sequence[str]) -> str:
    """``audit_log, orders and 4 more``."""
    if len(names) <= _ALL_NAMED_MAX:
        return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part) if names else ""
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def bare(text: str, names: Iterable[str]) -> str:
    """``text`` without one of ``names`` in front, which whoever prints it says already."""
    for name in names:
        if text.startswith(f"{name}: "):
            return text.removeprefix(f"{name}: ")
    return text


def grouped(said: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """(name, text) pairs as names by text: each text once, in the order in which they came."""
    groups: dict[str, list[str]] = {}
    for name, text in said:
        if name not in groups.setdefault(text, []):
            groups[text].append(name)
    return groups
