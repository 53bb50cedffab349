"""`init`: a spec that works, from a look at the source."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, TypeVar

import click

from strandline.cli._errors import show
from strandline.cli._layout import error_width, fitted, terminal_width, wrapped
from strandline.cli._options import Settings
from strandline.cli._output import telling
from strandline.errors import StrandlineError, UsageError
from strandline.logs import said

if TYPE_CHECKING:
    from strandline.cli._draft import Draft, Seen
    from strandline.cli._places import Meant

__all__ = ["command"]

Answer = TypeVar("Answer")
_NAME_MIN = 12


class _Init(click.Command):
    """Its help ends with an example of an installed source and destination."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click."""
        del ctx
        formatter.write_paragraph()
        formatter.write_text(f"For example: {_example()}")


@click.command("init", cls=_Init)
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
@click.option("--force", is_flag=True, help="Write it also where one is there, which is kept under another name.")
@click.pass_obj
def command(
    settings: Settings, source: str | None, destination: str | None, name: str | None, output: Path, *, force: bool
) -> None:
    """Write a spec: look at a source, and propose how each table is read.

    On a terminal it asks for what is missing. The source is only read, the destination is not touched, and no password
    is written down.
    """
    from strandline.cli._draft import THERE, draft, look
    from strandline.cli._places import examples, meant, proposed

    asks = not (source and destination) and sys.stdin.isatty()
    if output.exists() and not force and asks:
        force = click.confirm(
            f"{said(str(output))} is there already. Write another one, and keep it under another name?", err=True
        )
    if output.exists() and not force:
        raise UsageError(f"{output} is there already", hint=THERE)
    if not (source and destination) and not asks:
        missing = " and ".join(one for one, given in (("--from", source), ("--to", destination)) if not given)
        raise UsageError(f"{missing} is missing, and there is no terminal to ask on", hint=f"for example: {_example()}")

    def reader(uri: str) -> "Seen":
        return look(meant(uri, "source"))

    def writer(uri: str) -> "Meant":
        return meant(uri, "destination")

    seen = reader(source) if source else _ask("Read from", examples("source"), reader, settings)
    write = (
        writer(destination)
        if destination
        else _ask("Write to", examples("destination"), writer, settings, default=proposed())
    )
    written = draft(seen, write, name=name or "", output=output)
    kept = written.save(force=force)
    with telling(settings) as tell:
        if kept is not None:
            tell(f"kept what was there as {said(str(kept))}")
        for first, line in _said(written, output, terminal_width()):
            tell("\n".join(wrapped(first, said(line), width=terminal_width())))


def _example() -> str:
    from strandline.cli._places import examples, proposed

    destination = proposed() or next(examples("destination"), "URI")
    return f"strandline init --from {next(examples('source'), 'URI')} --to {destination}"


def _ask(
    what: str, known: Iterator[str], take: Callable[[str], Answer], settings: Settings, default: str | None = None
) -> Answer:
    """Until the answer can be used."""
    click.echo("\n".join(wrapped("For example: ", ", ".join(known), width=error_width())), err=True)
    while True:
        answer: str = click.prompt(what, default=default, err=True)
        try:
            return take(answer.strip())
        except StrandlineError as error:
            show(error, settings)


def _said(written: "Draft", output: Path, width: int | None) -> Iterator[tuple[str, str]]:
    for line in _table(written, output, width):
        yield "", line
    more = [("note: ", note) for note in written.proposals.notes]
    if any(one.options for one in written.proposals.tables):
        more.append(("", "other settings are in the file, as comments, with what speaks for or against each"))
    yield from [("", ""), *more] if more else []
    yield "", ""
    for variable, shown in written.exports.items():
        yield "", f"export {variable}={quote(shown)}   # with the password, which is not in the file"
    spec = "" if output == Path("strandline.yml") else f" {_quoted(str(output))}"
    yield "next: ", f"strandline plan{spec} shows what a sync would do; strandline sync{spec} does it"


def _table(written: "Draft", output: Path, width: int | None) -> Iterator[str]:
    source, destination = written.source, written.destination
    yield f"wrote {output}: {source.name} ({source.plugin}) → {destination.name} ({destination.plugin}), {written.mode}"
    yield ""
    rows = [("TABLE", "ROWS", "KEY", "CLASS")]
    rows += [(one.table, one.rows or "?", one.key or "-", one.guarantee) for one in written.proposals.tables]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    if width is not None:
        widths[0] = min(widths[0], max(_NAME_MIN, width - sum(widths[1:]) - max(len(row[3]) for row in rows) - 8))
    for table, count, key, guarantee in rows:
        yield f"  {fitted(table, widths[0])}  {count:>{widths[1]}}  {key:<{widths[2]}}  {guarantee}"


def _quoted(path: str) -> str:
    return path if re.fullmatch(r"[\w./~-]+", path) else "'" + path.replace("'", "'\\''") + "'"
