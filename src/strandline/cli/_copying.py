"""`state copy`, `export` and `import`: cursors move to another backend, with their history."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click

from strandline.cli._options import Settings, load_config, spec_argument
from strandline.cli._output import telling
from strandline.cli._states import backends_of, source_named
from strandline.errors import StateError, UsageError
from strandline.logs import as_json, said
from strandline.spec import Config, DestinationBackend, SourceSpec
from strandline.state import State, StateKey

__all__ = ["copy", "export", "import_"]


def _histories(config: Config, source: SourceSpec) -> dict[StateKey, Sequence[State]]:
    from strandline.engine.copying import histories

    found: dict[StateKey, Sequence[State]] = {}
    with backends_of(config, source) as backends:
        for backend in backends:
            found |= histories(source.name, backend, datetime.now(UTC))
    if not found:
        raise UsageError(f"source {source.name!r} has no states yet")
    return found


def _into(settings: Settings, found: Mapping[StateKey, Sequence[State]], config: Config, source: str) -> None:
    from strandline.engine.copying import copy_states

    named = source_named(config, source)
    if named.backend_settings == DestinationBackend():
        raise UsageError(
            f"the states of source {source!r} lie beside the rows of its destinations, and go nowhere without them",
            hint="name another backend, or `destination` in backend_spec",
        )
    with backends_of(config, named) as (backend,), telling(settings) as tell:
        for key, count in copy_states(found, backend):
            tell(said(f"{key}: {count} version{'s' * (count != 1)} copied" if count else f"{key}: there already"))


@click.command("copy", short_help="Copy the cursors of a source into the backend of another spec.")
@click.argument("source")
@click.option(
    "--to",
    "to",
    required=True,
    type=click.Path(path_type=Path),
    metavar="SPEC",
    help="The spec that names the new backend.",
)
@spec_argument
@click.pass_obj
def copy(settings: Settings, source: str, to: Path, specs: Sequence[Path]) -> None:
    """Copy the cursors of a source, with their history, into the backend that it has in another spec.

    So a project moves to another backend: write it into a copy of the spec, copy the cursors, and sync with the new one. Refused
    while a run goes on, and where there are other cursors of the source. The old backend keeps what it has.
    """
    found = _histories((old := load_config(specs)), source_named(old, source))
    new = load_config([to])
    _into(settings, found, new, source)


@click.command("export", short_help="Print the cursors of a source, with their history, as JSON.")
@click.argument("source")
@spec_argument
def export(source: str, specs: Sequence[Path]) -> None:
    """Print the cursors of a source, with their history, as JSON, for `state import`."""
    from strandline.engine.copying import exported

    config = load_config(specs)
    click.echo(as_json(exported(_histories(config, source_named(config, source))), indent=1))


@click.command("import", short_help="Take the cursors of a source from what `state export` has printed.")
@click.argument("source")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@spec_argument
@click.pass_obj
def import_(settings: Settings, source: str, file: IO[str], specs: Sequence[Path]) -> None:
    """Take the cursors of a source from FILE (`-` is stdin), which `state export` has printed, into its backend.

    FILE may be one of CloudQuery's local backend, too, as `.cq/state/SOURCE-TABLE.json`: the table goes on from there. Refused
    where there are other cursors of the source.
    """
    from strandline.engine.copying import imported

    config = load_config(specs)
    try:
        body = json.load(file)
    except ValueError as error:
        raise StateError(f"{file.name}: no JSON ({error})") from None
    if isinstance(body, dict) and body and all(isinstance(one, str) for one in body.values()):
        _from_cloudquery(settings, body, Path(file.name).name, config, source)
        return
    found = imported(body, file.name)
    strange = sorted({key.source for key in found} - {source})
    if strange:
        raise UsageError(f"{file.name} has the states of source {strange[0]!r}, and not of {source!r}")
    _into(settings, found, config, source)


def _from_cloudquery(settings: Settings, body: Mapping[str, str], name: str, config: Config, source: str) -> None:
    """A file of January 2023: `<source>-<table>.json`, with a value for each client of the source."""
    from strandline.cli._jobs import open_job
    from strandline.engine.continuing import continue_from

    table = name.removeprefix(f"{source}-").removesuffix(".json")
    if name != f"{source}-{table}.json":
        raise UsageError(f"{name}: a file of CloudQuery's is called {source}-TABLE.json", hint="give it its name back")
    if len(body) > 1:
        raise UsageError(f"{name}: it has the cursors of several clients: {', '.join(sorted(body))}")
    [value] = body.values()
    with open_job(config, source_named(config, source)) as job, telling(settings) as tell:
        note = f"imported from {name}"
        for key in continue_from(job, table, value, note=note, now=datetime.now(UTC)):
            tell(said(f"{key}: goes on from {value}"))
