from importlib.metadata import entry_points

import click

from strandline.logs import said

__all__ = ["command"]


@click.group("plugin")
def command() -> None:
    """Look at the installed plugins."""


@command.command("list")
def plugin_list() -> None:
    """List every installed plugin: its kind, name, package and version."""
    from strandline.plugins import EXECUTOR, KINDS

    rows = [("KIND", "NAME", "PACKAGE", "VERSION")]
    for kind in (*KINDS, EXECUTOR):
        found = {point.name: point for point in entry_points(group=f"strandline.{kind}")}
        for name, point in sorted(found.items()):
            package, version = (point.dist.name, point.dist.version) if point.dist else ("-", "-")
            rows.append((kind, name, package, version))
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    for row in rows:
        click.echo(said("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]])))
