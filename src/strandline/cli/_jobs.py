"""From a checked spec to what the engine runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from strandline.destination import Destination
from strandline.engine.lease import Claim
from strandline.engine.pipeline import Into
from strandline.engine.run import Job
from strandline.engine.window import Bounds
from strandline.errors import UsageError
from strandline.plugins import load_plugin
from strandline.selection import matches, select_tables
from strandline.source import Task
from strandline.spec import Config, DestinationBackend, DestinationSpec, SourceSpec
from strandline.state import KeepsState, StateBackend
from strandline.table import Table

__all__ = ["Choice", "open_job"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line says about a sync."""

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()
    may_migrate: bool = True
    allow_mass_delete: bool = False
    claim: Claim = field(default_factory=Claim)


@contextmanager
def open_job(config: Config, source: SourceSpec, choice: Choice | None = None) -> Iterator[Job]:
    """One source with its destinations and its backend, opened; closed again at the end."""
    choice = choice or Choice()
    with ExitStack() as stack:
        plugin = source.open()
        stack.callback(plugin.close)
        into = []
        for name in source.destinations:
            spec = config.destination(name)
            destination = spec.open()
            stack.callback(destination.close)
            into.append(_into(spec, destination, choice))
        backend = _backend(config, source, {one.name: one.destination for one in into}, stack)
        yield Job(
            name=source.name,
            source=plugin,
            into=into,
            backend=backend,
            stateless=source.backend == "none",
            select=lambda tables: _select(source, tables, choice),
            selects=lambda table: _selects(source, table, choice),
            refresh=lambda task: _refreshed(task, choice.refresh),
            concurrency=source.concurrency,
            claim=choice.claim,
        )


def _into(spec: DestinationSpec, destination: Destination, choice: Choice) -> Into:
    batch, usual = spec.batch, Bounds()
    return Into(
        name=spec.name,
        destination=destination,
        mode=spec.write_mode,
        migrate_mode=spec.migrate_mode,
        cq_id_only=spec.pk_mode == "cq-id-only",
        bounds=Bounds(
            rows_max=batch.batch_size or usual.rows_max,
            bytes_max=batch.batch_size_bytes or usual.bytes_max,
            seconds_max=batch.batch_timeout or usual.seconds_max,
        ),
        may_migrate=choice.may_migrate,
        share_max=None if choice.allow_mass_delete else 0.5,
    )


def _backend(
    config: Config, source: SourceSpec, opened: dict[str, Destination], stack: ExitStack
) -> StateBackend | None:
    settings = source.backend_settings
    if not isinstance(settings, DestinationBackend):
        backend: StateBackend = load_plugin("state_backend", source.backend)(settings)
        stack.callback(backend.close)
        return backend
    if not settings.destination:
        return None
    keeper = opened.get(settings.destination)
    if keeper is None:
        keeper = config.destination(settings.destination).open()
        stack.callback(keeper.close)
    if not isinstance(keeper, KeepsState):
        raise UsageError(f"destination {settings.destination!r} cannot keep states", hint="choose another backend")
    return keeper.states


def _select(source: SourceSpec, tables: Sequence[Table], choice: Choice) -> Sequence[Table]:
    """First the spec's globs, then the command line's, each of which must match something."""
    chosen = select_tables(
        tables, source.tables, source.skip_tables, skip_dependent_tables=source.skip_dependent_tables
    )
    if choice.select or choice.exclude:
        chosen = select_tables(chosen, choice.select or ("*",), choice.exclude, skip_dependent_tables=True)
    for glob in choice.refresh:
        if not any(matches(glob, table.name) for table in chosen):
            names = ", ".join(table.name for table in chosen)
            raise UsageError(f"--full-refresh {glob!r} matches no table", hint=f"the tables are {names}")
    return chosen


def _selects(source: SourceSpec, table: str, choice: Choice) -> bool:
    """Whether a root table of this name would be chosen, if it were there."""

    def among(globs: Sequence[str]) -> bool:
        return any(matches(glob, table) for glob in globs)

    left_out = among(source.skip_tables) or among(choice.exclude)
    return among(source.tables) and among(choice.select or ("*",)) and not left_out


def _refreshed(task: Task, globs: Sequence[str]) -> bool:
    return any(matches(glob, table.name) for glob in globs for table in task.tables)
