"""`migrate`: make the destinations' tables fit, without moving a row."""

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import click

from strandline.cli._jobs import Choice, choose, open_job
from strandline.cli._options import Settings, load_config, spec_argument
from strandline.cli._output import telling
from strandline.cli._sync_options import claiming
from strandline.engine.administer import migrate
from strandline.engine.lease import Claim
from strandline.logs import said

__all__ = ["command"]


@click.command("migrate")
@spec_argument
@click.option("--select", metavar="GLOB", multiple=True, help="Only these of the spec's tables.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave these tables out.")
@claiming
@click.pass_obj
def command(
    settings: Settings, specs: Sequence[Path], select: tuple[str, ...], exclude: tuple[str, ...], *, claim: Claim
) -> None:
    """Make the tables of the destinations fit, without moving a row."""
    config = load_config(specs)
    sources, choice = choose(config, Choice(select, exclude, claim=claim))
    with telling(settings) as tell:
        for source in sources:
            with open_job(config, source, choice) as job:
                changes = migrate(job, run_id=uuid4().hex)
            for change in changes:
                what = " ".join(part for part in (change.kind, change.column, change.detail) if part)
                tell(said(f"{source.name}: {change.table}: {what}"))
            if not changes:
                tell(said(f"{source.name}: nothing to change"))
