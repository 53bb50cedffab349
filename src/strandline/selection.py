"""Which tables of a source are meant: globs, as in CloudQuery."""

import difflib
import re
from collections.abc import Sequence

from strandline.errors import UsageError
from strandline.table import Table

__all__ = ["check_globs", "matches", "select_tables"]


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` fits ``pattern``, in which ``*`` stands for any characters, or none. Case counts."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


def select_tables(
    tables: Sequence[Table], include: Sequence[str], skip: Sequence[str] = (), *, skip_dependent_tables: bool = True
) -> list[Table]:
    """Those of ``tables`` that a pattern of ``include`` and none of ``skip`` matches, in their order.

    A table that is skipped takes its child tables with it. A chosen child brings the chain of its parents, since they
    are read first. Children of a chosen table come along only where ``skip_dependent_tables`` is false.

    Args:
        tables: of a source, children after their parents.
        include: globs; each must match a table, skipped or not.
        skip: globs, likewise.
        skip_dependent_tables: as in the spec.

    Raises:
        UsageError: a pattern matches no table.
    """
    names = [table.name for table in tables]
    check_globs("tables", include, names)
    check_globs("skip_tables", skip, names)
    parents = {table.name: table.parent for table in tables}
    skipped: set[str] = set()
    chosen: set[str] = set()
    for table in tables:
        if table.parent in skipped or any(matches(pattern, table.name) for pattern in skip):
            skipped.add(table.name)
        elif any(matches(pattern, table.name) for pattern in include) or (
            not skip_dependent_tables and table.parent in chosen
        ):
            chosen.add(table.name)
    for name in list(chosen):
        above = parents[name]
        while above is not None and above not in chosen:
            chosen.add(above)
            above = parents.get(above)
    return [table for table in tables if table.name in chosen]


def check_globs(setting: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    """Whether each of ``patterns`` matches one of ``names``; ``setting`` is where they stand.

    Raises:
        UsageError: one does not.
    """
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            raise UsageError(f"`{setting}`: no table matches {pattern!r}", hint=_near(pattern, names))


def _near(pattern: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(pattern.replace("*", ""), names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")  # noqa: PLR2004  what fits on a screen
    return f"the tables are {shown}" if names else "the source has no tables"
