"""`plan`: what a sync would do."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from strandline.cli._errors import gravest, show
from strandline.cli._grouping import bare, grouped, named
from strandline.cli._jobs import Choice, choose, open_job
from strandline.cli._layout import terminal_width, wrapped
from strandline.cli._options import Settings, load_config, spec_argument
from strandline.cli._sync_options import choosing
from strandline.describe import TellsHow, how_by
from strandline.destination import BY_REFRESH, WriteMode
from strandline.engine.job import Job
from strandline.engine.lease import tells_of_run
from strandline.engine.preview import plan
from strandline.engine.task_plan import TaskPlan
from strandline.errors import Problem, StrandlineError, UsageError
from strandline.logs import said
from strandline.runs import describe_cursor
from strandline.source import Source
from strandline.spec import Config
from strandline.table import Guarantee, Table

__all__ = ["command", "show_plans"]

_OURS = re.compile(r"\bcq_mark_|^COMMENT ON (?:TABLE|COLUMN) .* IS '\{\"strandline\"", re.DOTALL)
"""Statements that only write down which table it is: they change nothing that a user could see."""


@click.command("plan")
@spec_argument
@choosing
@click.pass_obj
def command(
    settings: Settings,
    specs: Sequence[Path],
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    refresh: tuple[str, ...],
) -> int:
    """Show what a sync would do, table by table, and touch nothing.

    Mode, guarantee with its limits, where it starts, and what it would change at the destination. Tables that could not be
    synced are named like the others, with the reason and the remedy; then the exit code is not 0.
    """
    return show_plans(load_config(specs), Choice(select, exclude, refresh), settings)


def show_plans(config: Config, choice: Choice, settings: Settings) -> int:
    """Print the plans of every source; the exit code that a sync would begin with."""
    codes, errors = list[int](), list[StrandlineError]()
    sources, choice = choose(config, choice, errors.append)
    width = terminal_width()
    for source in sources:
        try:
            with open_job(config, source, choice) as job:
                tables = _remembered(job)
                plans = plan(job)
        except StrandlineError as error:  # the other sources are planned all the same
            errors.append(error)
            continue
        for destination in dict.fromkeys(one.key.destination for one in plans):
            mine = [one for one in plans if one.key.destination == destination]
            for one in mine:
                click.echo("\n".join(_lines(one, _Reading(one, job.source, tables), width)))
            for line in _shared(mine, width):
                click.echo(line)
        codes += [one.exit_code for one in plans]
    codes += [show(error, settings) for error in errors]
    return gravest(codes)


def _remembered(job: Job) -> dict[str, Table]:
    """The tables that the job selects, by name, once it has."""
    tables: dict[str, Table] = {}
    select = job.select

    def remember(offered: Sequence[Table]) -> Sequence[Table]:
        chosen = select(offered)
        tables.update({table.name: table for table in chosen})
        return chosen

    job.select = remember
    return tables


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the tables of a task are read."""

    plan: TaskPlan
    source: Source
    tables: Mapping[str, Table]

    @property
    def words(self) -> str:
        """By which key, with which settings, and from where."""
        one = self.plan
        if one.refresh:
            return "a full refresh beside the table, which replaces its rows when complete"
        known = [self.tables[name] for name in one.tables if name in self.tables]
        resumed = ["resuming an interrupted pass"] if one.resumed else []
        if not any(table.incremental for table in known):
            return ", ".join(["read in full at every sync", *resumed])
        if one.backfill:
            return "everything once more, to fill new columns (`backfill`)"
        start = "the first sync reads everything"
        if one.cursor is not None:
            # one that could not move yet shows nothing
            at = describe_cursor(one.cursor)
            start = f"from cursor {at}" if at != describe_cursor(None) else "from the beginning again"
        how = dict.fromkeys(self._of(table) for table in known)
        return ", ".join([*how, start, *resumed])

    def _of(self, table: Table) -> str:
        if not table.incremental:
            return f"{table.name} in full"
        mirror = self.plan.mode is WriteMode.OVERWRITE_DELETE_STALE
        if isinstance(self.source, TellsHow):
            how = self.source.how(table, mirror=mirror)
        else:
            how = how_by(", ".join(table.incremental_key), {})
        return f"incrementally {how}".rstrip()


def _lines(one: TaskPlan, reading: _Reading, width: int | None) -> list[str]:
    lines = wrapped("", said(f"{one.key.source} → {one.key.destination}: {', '.join(one.tables)}"), width=width)

    def add(label: str, text: str) -> None:
        lines.extend(wrapped(f"  {label:<9}  ", said(text), width=width))

    if one.problem:
        label = "cannot run" if one.error is not None else "left out"
        told = one.error.each() if isinstance(one.error, UsageError) else [Problem(one.problem, hint=one.hint)]
        for problem in told:
            where = f" ({problem.where})" if problem.where else ""
            lines += wrapped(f"  {label}: ", said(problem.message + where), width=width)
            lines += wrapped("  hint: ", said(problem.hint), width=width) if problem.hint else []
        return lines
    add("mode", f"{one.mode.value}, {reading.words}")
    for access in one.access:
        add("reads by", access)
    add("guarantee", " + ".join(guarantee.name for guarantee in one.guarantees))
    add("delivery", one.delivery)
    for change in one.changes:
        later = "— will be altered by the full refresh" if change.kind in BY_REFRESH else ""
        parts = (change.kind, change.column, change.detail, later)
        add("change", f"{change.table}: {' '.join(part for part in parts if part)}")
        for statement in change.ddl:
            if not _OURS.search(statement):
                add("", statement)
    if not one.changes:
        add("change", "none")
    return lines


def _shared(plans: Sequence[TaskPlan], width: int | None) -> Iterator[str]:
    """What is said of several tasks of one destination: what their classes promise, and warnings."""
    classes: dict[Guarantee, list[str]] = {}
    for one in plans:
        for promised in one.guarantees if not one.problem else ():
            classes.setdefault(promised, []).extend(one.tables)
    for promised, names in classes.items():
        yield from wrapped(f"{promised.name}: ", said(", ".join(names)), width=width)
        yield from wrapped("  ", said(promised.limits), width=width)
    warnings = [
        (one.key.task, bare(text, (str(one.key), one.key.task, *one.tables))) for one in plans for text in one.warnings
    ]
    for text, tasks in grouped(warnings).items():
        about = "" if tells_of_run(text) else f"{named(tasks)}: "
        yield from wrapped("warning: ", said(f"{about}{text}"), width=width)
