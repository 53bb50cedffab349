"""Which tables of a source are meant: globs, as in CloudQuery. ``sales.orders`` and ``sales_orders`` are one table.

And which of its columns: ``["*", "-internal_*"]``.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from strandline.errors import Problem, UsageError, did_you_mean, raise_problems
from strandline.own_tables import is_own
from strandline.table import Table

__all__ = [
    "among",
    "check_globs",
    "chosen_columns",
    "column_glob",
    "columns_said",
    "matches",
    "names_of",
    "near",
    "select_tables",
    "spoken",
]

_SHOWN_MAX = 20


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` fits ``pattern``, in which ``*`` stands for any characters, or none. Case counts."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    last = rest.pop()
    at, end = len(first), len(name) - len(last)
    if at > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in rest:  # the leftmost place leaves most to the others, so no other one need be tried
        at = name.find(part, at, end) + len(part)
        if at < len(part):
            return False
    return True


def names_of(table: Table) -> tuple[str, ...]:
    """By which names a spec and a command line may call ``table``."""
    return (table.name, table.spec_name) if table.spec_name else (table.name,)


def spoken(name: str, spec_name: str) -> str:
    """The name for a person: with the schema, unless the other one only lacks that."""
    return spec_name if spec_name and not spec_name.endswith(f".{name}") else name


def among(patterns: Iterable[str], table: Table) -> bool:
    """Whether one of ``patterns`` matches a name of ``table``."""
    return any(matches(pattern, name) for pattern in patterns for name in names_of(table))


def _includes(patterns: Iterable[str], table: Table) -> bool:
    """Whether a spec that says ``patterns`` means ``table``: the states of a destination are only meant by their names."""
    wanted = [pattern for pattern in patterns if "*" not in pattern] if is_own(table) else patterns
    return among(wanted, table)


def select_tables(
    tables: Sequence[Table], include: Sequence[str], skip: Sequence[str] = (), *, skip_dependent_tables: bool = True
) -> list[Table]:
    """Those of ``tables`` that a pattern of ``include`` and none of ``skip`` matches, in their order.

    A table that is skipped takes its child tables with it. A chosen child brings the chain of its parents, since they
    are read first. What a destination of Strandline keeps beside the rows is left out, unless it is named. Children of a
    chosen table come along only where ``skip_dependent_tables`` is false.

    Args:
        tables: of a source, children after their parents.
        include: globs; each must match a table, skipped or not.
        skip: globs, likewise.
        skip_dependent_tables: as in the spec.

    Raises:
        UsageError: a pattern matches no table.
    """
    check_globs({"tables": include, "skip_tables": skip}, tables)
    parents = {table.name: table.parent for table in tables}
    skipped: set[str] = set()
    chosen: set[str] = set()
    for table in tables:
        if table.parent in skipped or among(skip, table):
            skipped.add(table.name)
        elif _includes(include, table) or (not skip_dependent_tables and table.parent in chosen):
            chosen.add(table.name)
    for name in list(chosen):
        above = parents[name]
        while above is not None and above not in chosen:
            chosen.add(above)
            above = parents.get(above)
    return [table for table in tables if table.name in chosen]


def check_globs(globs: Mapping[str, Sequence[str]], tables: Sequence[Table]) -> None:
    """Whether each glob, by where it stands, matches one of ``tables``.

    Raises:
        UsageError: one does not; every such glob is told.
    """
    names = [spoken(table.name, table.spec_name) for table in tables]
    problems = [
        Problem(f"`{setting}`: no table matches {pattern!r}", hint=near(pattern, names))
        for setting, patterns in globs.items()
        for pattern in patterns
        if not any(among([pattern], table) for table in tables)
    ]
    if problems:
        raise_problems(problems, f"{len(problems)} globs match no table")


def near(pattern: str, names: Sequence[str]) -> str:
    """A hint for a name or pattern that matches none of ``names``: the nearest one, or what there is."""
    shown = ", ".join(names[:_SHOWN_MAX]) + (", …" if len(names) > _SHOWN_MAX else "")
    otherwise = f"the tables are {shown}" if names else "the source has no tables"
    return did_you_mean(pattern.replace("*", ""), names, otherwise)


def column_glob(pattern: str, columns: Collection[str]) -> tuple[str, bool]:
    """The name or glob in a pattern of columns, and whether it leaves out what it matches."""
    leaves_out = pattern.startswith("-") and pattern not in columns
    return (pattern[1:], True) if leaves_out else (pattern, False)


def chosen_columns(
    patterns: Sequence[str] | None, columns: Sequence[str], needed: Collection[str] = (), *, where: str
) -> list[str]:
    """Those of ``columns`` that are chosen, in their order: the last pattern that matches one decides.

    Patterns of which the first leaves something out begin with all. What is ``needed`` comes along.

    Args:
        patterns: names and globs, with a ``-`` before those that leave columns out; ``None``: all.
        columns: of the table.
        needed: its keys.
        where: the table, for errors.

    Raises:
        UsageError: a column is not there, a needed one is left out, or none is left.
    """
    if patterns is None:
        return [*columns]
    begins_with_all = column_glob(patterns[0], columns)[1]
    takes: dict[str, str | None] = dict.fromkeys(columns if begins_with_all else ())
    """Of each chosen column ``None``, of one that is left out the pattern that does so."""
    for pattern in patterns:
        glob, leaves_out = column_glob(pattern, columns)
        found = [name for name in columns if matches(glob, name)]
        if not found and not leaves_out and "*" not in glob:
            hint = did_you_mean(glob, columns, f"the columns are {', '.join(sorted(columns))}")
            raise UsageError(f"{where} has no column {glob!r}", hint=hint)
        takes |= dict.fromkeys(found, pattern if leaves_out else None)
    for name in needed:
        if (by := takes.get(name)) is not None:
            raise UsageError(
                f"{where}: `columns` leaves out {name!r} ({by!r}), which is a key of the table",
                hint=f"add {name!r} after it; or `mask: {{{name}: hash}}`, where the source takes `mask`, hides its values",
            )
    chosen = {name for name, by in takes.items() if by is None} | set(needed)
    if not chosen:
        raise UsageError(f"{where}: `columns` leaves out every column", hint="leave out the table with `skip_tables`")
    return [name for name in columns if name in chosen]


def columns_said(patterns: Sequence[str] | None) -> list[str] | None:
    """What patterns of columns say, canonical; ``None`` where that is all columns."""
    if patterns is None or list(patterns) == ["*"]:
        return None
    plain = not any("*" in pattern or pattern.startswith("-") for pattern in patterns)
    return sorted(set(patterns)) if plain else list(dict.fromkeys(patterns))
