"""`test-connection`: reach everything, change nothing."""

from collections.abc import Sequence
from pathlib import Path

import click

from strandline.cli._jobs import open_job
from strandline.cli._options import load_config, spec_argument
from strandline.engine.preview import plan
from strandline.errors import RetryableError, StateConflictError, UsageError
from strandline.logs import said

__all__ = ["command"]


@click.command("test-connection")
@spec_argument
def command(specs: Sequence[Path]) -> None:
    """Reach every source, destination and state backend, and change nothing."""
    config = load_config(specs)
    for source in config.sources:
        with open_job(config, source) as job:
            plans = plan(job)
        for one in plans:
            if isinstance(one.error, UsageError | RetryableError | StateConflictError):
                raise one.error
        tables = {table for one in plans for table in one.tables}
        count = f"{len(tables)} table{'s' * (len(tables) != 1)}"
        click.echo(said(f"{source.name}: {count}, {', '.join(source.destinations)}: reached"))
