"""`plan`: what a sync would do."""

from collections.abc import Sequence
from pathlib import Path

import click

from strandline.cli._jobs import Choice, choose, open_job
from strandline.cli._options import load_config, spec_argument
from strandline.cli._sync_options import choosing
from strandline.engine.plan import TaskPlan
from strandline.engine.run import plan
from strandline.errors import StateError
from strandline.logs import redact
from strandline.runs import describe_cursor
from strandline.spec import Config

__all__ = ["command", "show_plans"]


@click.command("plan")
@spec_argument
@choosing
def command(specs: Sequence[Path], select: tuple[str, ...], exclude: tuple[str, ...], refresh: tuple[str, ...]) -> int:
    """Show what a sync would do, table by table, and touch nothing.

    Mode, guarantee with its limits, where it starts, and what it would change at the destination.
    """
    return show_plans(load_config(specs), Choice(select, exclude, refresh))


def show_plans(config: Config, choice: Choice) -> int:
    """Print the plans of every source; the exit code that a sync would begin with."""
    problems = False
    sources, choice = choose(config, choice)
    for source in sources:
        with open_job(config, source, choice) as job:
            plans = plan(job)
        for one in plans:
            click.echo(redact("\n".join(_lines(one))))
        problems = problems or any(one.problem for one in plans)
    return StateError.exit_code if problems else 0


def _lines(one: TaskPlan) -> list[str]:
    lines = [f"{one.key.source} → {one.key.destination}: {', '.join(one.tables)}"]
    if one.problem:
        return [*lines, f"  cannot run: {one.problem}", f"  hint: {one.hint}"]
    start = "from nothing" if one.full and one.cursor is None else f"from cursor {describe_cursor(one.cursor)}"
    how = ["a full refresh beside the table, swapped in when complete" if one.refresh else start]
    if one.resumed:
        how.append("resuming an interrupted pass")
    lines.append(f"  mode       {one.mode.value}, {', '.join(how)}")
    lines += [f"  guarantee  {guarantee.name}: {guarantee.limits}" for guarantee in one.guarantees]
    lines.append(f"  delivery   {one.delivery}")
    lines += [f"  reads by   {access}" for access in one.access]
    for change in one.changes:
        what = " ".join(part for part in (change.kind, change.column, change.detail) if part)
        lines.append(f"  change     {change.table}: {what}")
        lines += [f"             {statement}" for statement in change.ddl]
    if not one.changes:
        lines.append("  change     none")
    lines += [f"  warning    {warning}" for warning in one.warnings]
    return lines
