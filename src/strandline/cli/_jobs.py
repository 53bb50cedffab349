"""From a checked spec to what the engine runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace

from strandline.destination import Destination
from strandline.engine.lease import Claim
from strandline.engine.pipeline import Into
from strandline.engine.run import Job
from strandline.engine.window import Bounds
from strandline.errors import StrandlineError, UsageError
from strandline.plugins import load_plugin
from strandline.selection import check_globs, matches, select_tables
from strandline.source import Task
from strandline.spec import Config, DestinationBackend, DestinationSpec, SourceSpec
from strandline.state import KeepsState, StateBackend
from strandline.table import Table

__all__ = ["Choice", "choose", "open_job"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line says about a sync."""

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()
    checked: bool = False
    """Whether each glob is known to match a table of some source, so that it need not match one of every source."""
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


def choose(config: Config, choice: Choice) -> tuple[list[SourceSpec], Choice]:
    """The sources that have a table which the command line chooses, before anything is done with the first.

    Of several sources the tables are listed, so that a glob need match in one of them only.

    Raises:
        UsageError: a glob matches no table of any source.
    """
    if len(config.sources) == 1 or not (choice.select or choice.exclude or choice.refresh):
        return list(config.sources), choice
    names: dict[str, list[str]] = {}
    for source in config.sources:
        try:
            with closing(source.open()) as reader:
                names[source.name] = [table.name for table in _of_spec(source, reader.tables())]
        except StrandlineError:
            continue  # its own run says so; until then nobody knows what its tables are
    if len(names) == len(config.sources):
        _check(choice, list(dict.fromkeys(name for those in names.values() for name in those)))

    def is_chosen(table: str) -> bool:
        return _among(choice.select or ("*",), table) and not _among(choice.exclude, table)

    used = [one for one in config.sources if one.name not in names or any(map(is_chosen, names[one.name]))]
    return used, replace(choice, checked=True)


def _check(choice: Choice, names: Sequence[str]) -> None:
    check_globs("--select", choice.select, names)
    check_globs("--exclude", choice.exclude, names)
    check_globs("--full-refresh", choice.refresh, names)


def _of_spec(source: SourceSpec, tables: Sequence[Table]) -> list[Table]:
    return select_tables(tables, source.tables, source.skip_tables, skip_dependent_tables=source.skip_dependent_tables)


def _select(source: SourceSpec, tables: Sequence[Table], choice: Choice) -> Sequence[Table]:
    """First the spec's globs, then the command line's."""
    chosen = _of_spec(source, tables)
    names = [table.name for table in chosen]
    if not choice.checked:
        _check(choice, names)
    if choice.select or choice.exclude:
        include, skip = (
            [glob for glob in globs if any(matches(glob, name) for name in names)]
            for globs in (choice.select or ("*",), choice.exclude)
        )
        chosen = select_tables(chosen, include, skip, skip_dependent_tables=True)
    return chosen


def _among(globs: Sequence[str], table: str) -> bool:
    return any(matches(glob, table) for glob in globs)


def _selects(source: SourceSpec, table: str, choice: Choice) -> bool:
    """Whether a root table of this name would be chosen, if it were there."""
    left_out = _among(source.skip_tables, table) or _among(choice.exclude, table)
    return _among(source.tables, table) and _among(choice.select or ("*",), table) and not left_out


def _refreshed(task: Task, globs: Sequence[str]) -> bool:
    return any(_among(globs, table.name) for table in task.tables)
