"""`init`: a spec that works, from a look at the source."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from strandline.cli._errors import printable
from strandline.errors import UsageError
from strandline.logs import redact

if TYPE_CHECKING:
    from strandline.cli._draft import Draft
    from strandline.cli._places import Place

__all__ = ["command"]


@click.command("init")
@click.option("--from", "source", metavar="URI", help="What to read: a database, a file, a directory of files.")
@click.option("--to", "destination", metavar="URI", help="Where it goes: a database, or a file of one.")
@click.option("--name", metavar="NAME", help="The source's name, which also names its states. Default: from the URI.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("strandline.yml"),
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def command(source: str | None, destination: str | None, name: str | None, output: Path, *, force: bool) -> None:
    """Write a spec: look at a source, and propose how each table is read.

    For example: strandline init --from shop.db --to warehouse.duckdb. On a terminal it asks for what is missing. The
    source is only read, the destination is not touched, and no password is written down.
    """
    from strandline.cli._draft import draft
    from strandline.cli._places import FROM_EXAMPLES, TO_EXAMPLES, place_of

    if output.exists() and not force:
        raise UsageError(f"{output} is there already", hint="--force replaces it; --output names another file")
    if not (source and destination) and not sys.stdin.isatty():
        missing = " and ".join(one for one, given in (("--from", source), ("--to", destination)) if not given)
        example = "strandline init --from postgresql://me@host/shop --to warehouse.duckdb"
        raise UsageError(f"{missing} is missing, and there is no terminal to ask on", hint=f"for example: {example}")
    read = place_of(source, "source") if source else _ask("Read from", FROM_EXAMPLES, "source", place_of)
    write = (
        place_of(destination, "destination")
        if destination
        else _ask("Write to", TO_EXAMPLES, "destination", place_of, default="warehouse.duckdb")
    )
    written = draft(read, write, name=name or "", output=output)
    written.save(force=force)
    for line in _said(written, output):
        click.echo(printable(redact(line)))


def _ask(
    what: str, examples: str, kind: str, place_of: "Callable[[str, str], Place]", default: str | None = None
) -> "Place":
    def checked(text: str) -> "Place":
        try:
            return place_of(text, kind)
        except UsageError as error:
            raise click.UsageError(redact(f"{error.message}; {error.hint}")) from None

    click.echo(f"For example: {examples}", err=True)
    place: Place = click.prompt(what, default=default, value_proc=checked, err=True)
    return place


def _said(written: "Draft", output: Path) -> Iterator[str]:
    source, destination = written.source, written.destination
    yield f"wrote {output}: {source.name} ({source.plugin}) → {destination.name} ({destination.plugin}), {written.mode}"
    yield ""
    rows = [("TABLE", "ROWS", "KEY", "CLASS")]
    rows += [(one.table, one.rows or "?", one.key or "-", one.guarantee) for one in written.proposals.tables]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    for table, count, key, guarantee in rows:
        yield f"  {table:<{widths[0]}}  {count:>{widths[1]}}  {key:<{widths[2]}}  {guarantee}"
    if any(note.startswith("incremental_key:") for one in written.proposals.tables for note in one.notes):
        yield ""
        yield "other keys are in the file, as comments, with what speaks against each"
    yield ""
    for variable, shown in written.exports.items():
        yield f"export {variable}='{shown}'   # with the password, which is not in the file"
    spec = "" if output == Path("strandline.yml") else f" {_quoted(str(output))}"
    yield f"next: strandline plan{spec} shows what a sync would do; strandline sync{spec} does it"


def _quoted(path: str) -> str:
    return path if re.fullmatch(r"[\w./~-]+", path) else "'" + path.replace("'", "'\\''") + "'"
