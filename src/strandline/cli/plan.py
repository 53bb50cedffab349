"""`plan`: what a sync would do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from strandline.cli._errors import color, gravest, show
from strandline.cli._jobs import Choice, choose, open_job
from strandline.cli._layout import terminal_width
from strandline.cli._options import Settings, load_config, spec_argument
from strandline.cli._plan_table import in_full, in_lines, notes_in_lines, statements
from strandline.cli._plan_words import Words, notes_of
from strandline.cli._sync_options import choosing, executing, sharding
from strandline.engine.job import Job
from strandline.engine.preview import plan
from strandline.errors import StrandlineError
from strandline.logs import as_json, said
from strandline.runs import describe_cursor
from strandline.shard import Shard
from strandline.spec import Config
from strandline.table import Table

__all__ = ["command", "remembered", "show_plans"]

_CURSOR_CHARS_MAX = 1_000


@click.command("plan")
@spec_argument
@choosing
@sharding
@executing
@click.option("--json", "as_lines", is_flag=True, help="A line of JSON for each table.")
@click.pass_obj
def command(
    settings: Settings,
    specs: Sequence[Path],
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    refresh: tuple[str, ...],
    *,
    shard: Shard | None,
    executor: str,
    as_lines: bool,
) -> int:
    """Show what a sync would do, table by table, and touch nothing.

    How each table is read, how changes are found, from where, and what would change at the destination; with -v in full, with
    the statements. Tables that could not be synced are listed like the others, with the reason and what to do; then the exit
    code is not 0.
    """
    return show_plans(
        load_config(specs),
        Choice(select, exclude, refresh, shard=shard, executor=executor),
        settings,
        as_lines=as_lines,
    )


def show_plans(config: Config, choice: Choice, settings: Settings, *, as_lines: bool = False) -> int:
    """Print the plans of every source; the exit code that a sync would begin with."""
    codes, errors = list[int](), list[StrandlineError]()
    sources, choice = choose(config, choice, errors.append)
    width = terminal_width()
    for source in sources:
        try:
            with open_job(config, source, choice) as job:
                known = remembered(job)
                tasks = [Words(one, job.source, known, choice.shard) for one in plan(job)]
                notes = {into.name: notes_of(job, into) for into in job.into}
        except StrandlineError as error:  # the other sources are planned all the same
            errors.append(error)
            continue
        codes += [one.plan.exit_code for one in tasks]
        if not tasks and choice.shard is not None and not as_lines:
            click.echo(said(f"{source.name}, shard {choice.shard}: it has none of the tables"))
        for destination in dict.fromkeys(one.plan.key.destination for one in tasks):
            mine = [one for one in tasks if one.plan.key.destination == destination]
            if as_lines:
                lines = [as_json(_record(one)) for one in mine]
            else:
                shown = in_full if settings.verbose else in_lines
                lines = [*shown(mine, width=width), *notes_in_lines(notes[destination], width)]
            click.echo("\n".join(lines), color=color())
    codes += [show(error, settings) for error in errors]
    return gravest(codes)


def remembered(job: Job) -> dict[str, Table]:
    """The tables that the job selects, by name, once it has."""
    tables: dict[str, Table] = {}
    select = job.select

    def remember(offered: Sequence[Table]) -> Sequence[Table]:
        chosen = select(offered)
        tables.update({table.name: table for table in chosen})
        return chosen

    job.select = remember
    return tables


def _record(words: Words) -> dict[str, Any]:
    """JSON values, for programs that judge a plan."""
    one = words.plan
    error = one.error
    return {
        "source": one.key.source,
        "shard": words.shard and str(words.shard),
        "task": one.key.task,
        "destination": one.key.destination,
        "tables": list(one.tables),
        "write_mode": one.mode.value,
        "reads": words.mode,
        "finds_changes": words.found_by,
        "cursor": None if one.cursor is None else describe_cursor(one.cursor, width_max=_CURSOR_CHARS_MAX),
        "resumed": one.resumed,
        "changes": [
            {"table": it.table, "kind": it.kind, "column": it.column, "detail": it.detail, "statements": statements(it)}
            for it in one.changes
        ],
        "guarantees": [promised.name for promised in one.guarantees],
        "delivery": one.delivery,
        "not_read_since": one.evidence,
        "warnings": [*one.said],
        "warning_codes": [warned.code for warned in one.said],
        "error": error and {"kind": type(error).__name__, "message": error.message, "hint": error.hint},
        "exit_code": one.exit_code,
    }
