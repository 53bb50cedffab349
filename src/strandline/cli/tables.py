from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from strandline.cli._grouping import counted
from strandline.cli._layout import table
from strandline.cli._options import load_config, spec_argument
from strandline.errors import UsageError
from strandline.logs import said

if TYPE_CHECKING:
    from strandline.spec import SourceSpec
    from strandline.table import Table

__all__ = ["command"]


@click.command("tables")
@spec_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="A list on stdout, or files in CloudQuery's formats.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("cq-docs"),
    show_default=True,
    help="Where files go, in a directory for each source.",
)
@click.option(
    "--filter",
    "which",
    type=click.Choice(["all", "spec"]),
    default="all",
    show_default=True,
    help="Every table that the source has, or those that the spec chooses.",
)
def command(specs: Sequence[Path], form: str, output_dir: Path, which: str) -> None:
    """Describe the tables of the sources.

    Incremental tables, of which a sync reads only what changed, are marked. Only sources are connected to.
    """
    for source in load_config(specs).sources:
        tables = _tables(source, chosen=which == "spec")
        if form == "table":
            click.echo("\n".join(map(said, _list(source.name, tables))))
        else:
            click.echo(said(f"{source.name}: {_write(source, tables, form, output_dir)}"))


def _tables(source: "SourceSpec", *, chosen: bool) -> "list[Table]":
    from strandline.engine.answer import answered

    reader = source.open()
    try:
        tables = answered(lambda: list(reader.tables()), of=f"source {source.name!r}")
    finally:
        reader.close()
    return source.chosen(tables) if chosen else tables


def _list(name: str, tables: "list[Table]") -> Iterator[str]:
    """Lines: a heading, then a table a line, child tables indented below their parents."""
    from strandline.cli._catalog import Catalog

    catalog = Catalog(name, tables)
    rows = [("TABLE", "INCREMENTAL", "PRIMARY KEY", "GUARANTEE")]

    def add(parent: str | None, indent: str) -> None:
        for one in catalog.below(parent):
            incremental = (", ".join(one.incremental_key) or "yes") if one.incremental else "-"
            keys = ", ".join(one.primary_key) or "-"
            rows.append((indent + one.name, incremental, keys, one.guarantee.name))
            add(one.name, indent + "  ")

    add(None, "")
    yield f"{name}: {counted(len(tables), 'table')}"
    yield from (f"  {line}" for line in table(rows))


def _write(source: "SourceSpec", tables: "list[Table]", form: str, output_dir: Path) -> Path:
    from strandline.cli._catalog import Catalog
    from strandline.paths import encode_part

    catalog = Catalog(source.plugin, tables)
    folder = output_dir / encode_part(source.name)
    pages = catalog.pages() if form == "markdown" else [("__tables.json", catalog.as_json())]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages:
            (folder / name).write_text(text, "utf-8", newline="\n")
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}", hint="choose another --output-dir") from error
    return folder
