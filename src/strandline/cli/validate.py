from collections.abc import Sequence
from pathlib import Path

import click

from strandline.cli._options import load_config, spec_argument
from strandline.logs import said

__all__ = ["command"]


@click.command("validate-config")
@spec_argument
def command(specs: Sequence[Path]) -> None:
    """Check a spec without touching anything.

    Every field, plugin and name, and each plugin's own settings. Nothing is connected to.
    """
    config = load_config(specs)
    for source in config.sources:
        click.echo(said(f"{source.name} ({source.plugin}) -> {', '.join(source.destinations)}"))
    sources, destinations = len(config.sources), len(config.destinations)
    click.echo(f"valid: {sources} source{'s' * (sources != 1)}, {destinations} destination{'s' * (destinations != 1)}")
