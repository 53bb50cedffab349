"""`migrate`: make the destinations' tables fit, without moving a row."""

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import click

from strandline.cli._errors import gravest, show
from strandline.cli._grouping import bare
from strandline.cli._jobs import Choice, choose, open_job
from strandline.cli._options import Settings, load_config, spec_argument
from strandline.cli._output import telling
from strandline.cli._sync_options import claiming
from strandline.engine.administer import migrate
from strandline.engine.lease import Claim
from strandline.engine.owners import check_refused
from strandline.engine.preview import plan
from strandline.errors import StrandlineError, UsageError
from strandline.logs import said
from strandline.spec import Config, SourceSpec

__all__ = ["command"]


@click.command("migrate")
@spec_argument
@click.option("--select", metavar="GLOB", multiple=True, help="Only these of the spec's tables.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave these tables out.")
@claiming
@click.pass_obj
def command(
    settings: Settings, specs: Sequence[Path], select: tuple[str, ...], exclude: tuple[str, ...], *, claim: Claim
) -> int:
    """Make the tables of the destinations fit, without moving a row.

    Where the spec is wrong, or a table is not Strandline's, nothing is touched. A table that fails for another reason is
    named, and the others are migrated.
    """
    config = load_config(specs)
    sources, choice = choose(config, Choice(select, exclude, claim=claim))
    if len(sources) > 1:
        _check(config, sources, choice)
    codes = []
    with telling(settings) as tell:
        for source in sources:
            try:
                with open_job(config, source, choice) as job:
                    done = migrate(job, run_id=uuid4().hex)
            except StrandlineError as failed:
                codes.append(show(failed, settings))
                continue
            for change in done.changes:
                what = " ".join(part for part in (change.kind, change.column, change.detail) if part)
                tell(said(f"{source.name}: {change.table}: {what}"))
            if not done.changes:
                tell(said(f"{source.name}: nothing to change"))
            for warning in done.warnings:
                tell(said(f"{source.name}: warning: {warning}"))
            for key, error in done.failures:
                text = bare(error.message, (str(key), key.task))
                codes.append(error.exit_code)
                show(StrandlineError(f"{key}: {text}", hint=error.hint), settings)
    return gravest(codes)


def _check(config: Config, sources: Sequence[SourceSpec], choice: Choice) -> None:
    """Of several sources, all before the first is touched."""
    refused = []
    for source in sources:
        try:
            with open_job(config, source, choice) as job:
                refused += [one.error for one in plan(job) if isinstance(one.error, UsageError)]
        except UsageError as error:
            refused.append(error)
        except StrandlineError:
            continue  # its own migration says so
    check_refused(refused)
