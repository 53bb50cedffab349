"""A plan for people: a line a task, and below them what is said of some or all; or each task in full, with statements."""

import re
from collections.abc import Callable, Iterator, Sequence

import click

from strandline.cli._grouping import bare, grouped, listed, named
from strandline.cli._layout import grid, wrapped
from strandline.cli._plan_words import Words
from strandline.destination import BY_REFRESH, Change
from strandline.engine.lease import tells_of_run
from strandline.engine.task_plan import TaskPlan
from strandline.logs import said

__all__ = ["in_full", "in_lines", "notes_in_lines", "statements"]

_HEAD = ("table", "reads", "finds changes", "from", "would change")
_INDENT = "  "
_OFF_TERMINAL = 120
"""Columns of a table that goes into a pipe or a file, where texts go whole."""
_OURS = re.compile(r"\bcq_mark_|^COMMENT ON (?:TABLE|COLUMN) .* IS '\{\"strandline\"", re.DOTALL)
"""Statements that only write down which table it is: they change nothing that a user could see."""


def in_lines(tasks: Sequence[Words], *, width: int | None) -> Iterator[str]:
    """The tasks of one source in one destination, as a table. ``width``: of the terminal; ``None``: it is none."""
    tasks = sorted(tasks, key=lambda one: (one.plan.error is not None, one.plan.problem != ""))  # as in a summary
    plans = [one.plan for one in tasks]
    key = plans[0].key
    yield from wrapped("", said(f"{key.source}{_of_shard(tasks)} → {key.destination} ({_modes(plans)})"), width=width)
    rows = [
        tuple(map(said, (", ".join(one.plan.tables), one.mode, one.found_by, one.start, one.changes))) for one in tasks
    ]
    head, *below = grid([_HEAD, *rows], width=(width or _OFF_TERMINAL) - len(_INDENT))
    for one, lines in zip([None, *plans], [head, *below], strict=True):
        for line in lines:
            yield _INDENT + (click.style(line, fg="red") if one is not None and one.error is not None else line)
    yield from _problems(tasks, width)
    yield from _warnings(plans, width, _INDENT)
    yield from _promises(plans, width, _INDENT, listed)
    for text, names in grouped((one.key.task, one.evidence) for one in plans if one.evidence).items():
        yield from wrapped(_INDENT, said(f"{named(names)}: not read, since {text}"), width=width)
    deliveries = grouped((one.key.task, one.delivery) for one in plans if one.delivery)
    for text, names in deliveries.items():
        about = f"{named(names)}: " if len(deliveries) > 1 else ""
        yield from wrapped(_INDENT, said(about + text), width=width)


def in_full(tasks: Sequence[Words], *, width: int | None) -> Iterator[str]:
    """Each task with all that is known of it, and with the statements that a sync would run."""
    for one in tasks:
        yield from _task(one, width)
    plans = [one.plan for one in tasks]
    yield from _promises(plans, width, "", ", ".join)
    yield from _warnings(plans, width, "")


def notes_in_lines(notes: Sequence[str], width: int | None) -> Iterator[str]:
    """What is to be known of a destination, below its tasks."""
    for note in notes:
        yield from wrapped(_INDENT, said(note), width=width)


def _of_shard(tasks: Sequence[Words]) -> str:
    return f", shard {tasks[0].shard}" if tasks[0].shard is not None else ""


def statements(change: Change) -> list[str]:
    """Those that change what a user could see."""
    return [statement for statement in change.ddl if not _OURS.search(statement)]


def _modes(plans: Sequence[TaskPlan]) -> str:
    """The write mode; where tables have modes of their own, the one of the most and those of others."""
    modes = grouped((one.key.task, one.mode.value) for one in plans)
    usual, *others = sorted(modes, key=lambda mode: -len(modes[mode]))
    return "; ".join([usual, *(f"{named(modes[mode])}: {mode}" for mode in others)])


def _task(words: Words, width: int | None) -> Iterator[str]:
    one = words.plan
    yield from wrapped("", said(f"{one.key.source} → {one.key.destination}: {', '.join(one.tables)}"), width=width)
    for text, hint in words.problems:
        yield from wrapped(f"  {words.mode}: ", said(text), width=width)
        yield from wrapped("  hint: ", said(hint), width=width) if hint else ()
    if one.problem:
        return
    said_of = [("mode", f"{one.mode.value}, {words.sentence}"), *(("reads by", access) for access in one.access)]
    said_of += [("guarantee", " + ".join(promised.name for promised in one.guarantees)), ("delivery", one.delivery)]
    for change in one.changes:
        later = "— will be altered by the full refresh" if change.kind in BY_REFRESH else ""
        parts = (change.kind, change.column, change.detail, later)
        said_of.append(("change", f"{change.table}: {' '.join(part for part in parts if part)}"))
        said_of += [("", statement) for statement in statements(change)]
    said_of += [] if one.changes else [("change", "none")]
    for label, text in said_of:
        yield from wrapped(f"  {label:<9}  ", said(text), width=width)


def _problems(tasks: Sequence[Words], width: int | None) -> Iterator[str]:
    """Why tasks cannot run, or are left out, and what to do."""
    wrong: dict[tuple[str, str, str], list[str]] = {}
    for one in tasks:
        label = "error: " if one.plan.error is not None else "warning: "
        for text, hint in one.problems:
            wrong.setdefault((label, text, hint), []).append(one.plan.key.task)
    for (label, text, hint), names in wrong.items():
        about = "" if len(names) == 1 and repr(names[0]) in text else f"{named(names)}: "
        for line in wrapped(_INDENT + label, said(about + text), width=width):
            yield click.style(line, fg="red") if label == "error: " else line
        yield from wrapped(f"{_INDENT}hint: ", said(hint), width=width) if hint else ()


def _promises(
    plans: Sequence[TaskPlan], width: int | None, indent: str, shown: Callable[[Sequence[str]], str]
) -> Iterator[str]:
    """What the classes of the tables promise: each once, and then what holds for some of its tables only."""
    classes: dict[str, dict[str, list[str]]] = {}
    for one in plans:
        for promised in one.guarantees if not one.problem else ():
            limits = classes.setdefault(promised.name, {})
            for table in one.tables:
                limits[table] = [*limits.get(table, []), *promised.limits.split("; ")]
    for name, limits in classes.items():
        yield from wrapped(f"{indent}{name}: ", said(shown([*limits])), width=width)
        distinct = dict.fromkeys(map(tuple, limits.values()))
        shared = [one for one in next(iter(distinct)) if all(one in each for each in distinct)]
        own = [(table, "; ".join(one for one in each if one not in shared)) for table, each in limits.items()]
        yield from wrapped(f"{indent}  ", said("; ".join(shared)), width=width)
        for text, tables in grouped((table, text) for table, text in own if text).items():
            yield from wrapped(f"{indent}  ", said(f"{shown(tables)}: {text}"), width=width)


def _warnings(plans: Sequence[TaskPlan], width: int | None, indent: str) -> Iterator[str]:
    told = [
        (one.key.task, bare(text, (str(one.key), one.key.task, *one.tables)))
        for one in plans
        for text in (*one.warnings, *([one.lost] if one.lost else []))
    ]
    for text, tasks in grouped(told).items():
        about = "" if tells_of_run(text) else f"{named(tasks)}: "
        yield from wrapped(f"{indent}warning: ", said(f"{about}{text}"), width=width)
