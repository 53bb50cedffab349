"""From a checked spec to what the engine runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from strandline.cli._states import kept_by
from strandline.describe import description_of
from strandline.destination import Destination, Fence
from strandline.engine.answer import answered
from strandline.engine.clock import Clock
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.window import Bounds, Stop
from strandline.engine.work import Opened, Work, perform
from strandline.errors import Problem, StrandlineError, UsageError, did_you_mean, raise_problems
from strandline.ownership import Owner
from strandline.plugins import DEFAULT_EXECUTOR
from strandline.rules import check_rules, fitting, may_share, rules_of, stored_names
from strandline.runs import Observer, TaskReport
from strandline.selection import among, check_globs, matches, select_tables, spoken
from strandline.shard import Shard
from strandline.source import Source, Task
from strandline.spec import Config, DestinationBackend, DestinationSpec, SourceSpec
from strandline.state import StateBackend
from strandline.table import Table

__all__ = ["Choice", "carried_out", "choose", "open_job", "selected"]


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
    shard: Shard | None = None
    executor: str = ""
    """In place of the spec's."""
    sources: tuple[str, ...] = ()
    """Names; empty: all."""


@contextmanager
def open_job(config: Config, source: SourceSpec, choice: Choice | None = None) -> Iterator[Job]:
    """One source with its destinations and its backend, opened; closed again at the end."""
    from strandline.cli._errand import packed  # which does what is opened here

    choice = choice or Choice()
    known = frozenset(Owner(one.name, name) for one in config.sources for name in one.destinations)
    with ExitStack() as stack:
        plugin = source.open()
        stack.callback(plugin.close)
        into = []
        for name in source.destinations:
            spec = config.destination(name)
            destination = spec.open()
            stack.callback(destination.close)
            plain = _into(spec, destination, choice)
            sharers = partial(_sharers, config, source.name, name)
            into.append(replace(plain, rules=partial(rules_of, source.rules), sharers=sharers, known=known))
        offered: dict[str, Table] = {}
        backend = _backend(config, source, {one.name: one.destination for one in into}, stack)
        yield Job(
            name=source.name,
            source=plugin,
            into=into,
            backend=backend,
            stateless=description_of(backend).keeps_nothing,
            rules=partial(rules_of, source.rules),
            select=lambda tables: _select(source, tables, choice, offered),
            selects=lambda table: _selects(source, table, choice, offered),
            names=lambda table: bool({table.name, table.spec_name} & {*source.tables, *choice.select}),
            refresh=lambda task: _refreshed(task, choice.refresh),
            shard=choice.shard,
            concurrency=source.concurrency,
            claim=choice.claim,
            spec=config.written,
            executor=source.open_executor(choice.executor),
            pack=packed if config.written is not None else None,
        )


def carried_out(work: Work, *, observer: Observer = lambda _: None, stop: Stop | None = None) -> TaskReport:
    """Do what a run has begun in another process, which goes on meanwhile and holds the lease; what came of it.

    Raises:
        UsageError: the spec cannot be read here, as a variable is missing, or a plugin.
        StateConflictError: the run has ended, or was overtaken.
    """
    if work.spec is None:
        raise UsageError("a run that was made of objects has no spec", hint="make it of one: `open_job`")
    config = work.spec.load()
    (source,) = (one for one in config.sources if one.name == work.fence.source)
    choice = Choice(
        may_migrate=work.may_migrate,
        allow_mass_delete=work.share_max is None,
        shard=Shard.of_run(work.fence.run),
        executor=DEFAULT_EXECUTOR,
    )
    clock, stop = Clock(), stop or Stop()
    with open_job(config, source, choice) as job:
        opened = Opened.elsewhere(work, job)
        opened.report.started_s = clock.monotonic_s()
        perform(work, opened, observer=observer, clock=clock, stop=stop)
    return opened.report


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
        backend = source.open_backend()
        stack.callback(backend.close)
        return backend
    if not settings.destination:
        return None
    keeper = opened.get(settings.destination)
    if keeper is None:
        keeper = config.destination(settings.destination).open()
        stack.callback(keeper.close)
    return kept_by(settings.destination, keeper)


def _sharers(config: Config, source: str, destination: str, stored: str) -> frozenset[Owner]:
    """Other sources that say of a stored table that they share it."""
    others = (one for one in config.sources if one.name != source and destination in one.destinations)
    return frozenset(Owner(one.name, destination, shared=True) for one in others if may_share(one.rules, stored))


def _refuse(error: UsageError) -> None:
    raise error


def choose(
    config: Config, choice: Choice, refuse: Callable[[UsageError], None] = _refuse
) -> tuple[list[SourceSpec], Choice]:
    """The sources that have a table which the command line chooses, before anything is done with the first.

    Of several sources the tables are listed, so that a glob need match in one of them only, and no two write one table.

    Args:
        config: the spec.
        choice: what the command line says.
        refuse: is told that two sources would write one table, and do not share it; raises it by default.

    Raises:
        UsageError: a glob matches no table of any source.
    """
    for name in choice.sources:
        if name not in (names := [one.name for one in config.sources]):
            raise UsageError(
                f"there is no source {name!r}", hint=did_you_mean(name, names, f"there are {', '.join(names)}")
            )
    if len(config.sources) == 1:
        return list(config.sources), choice
    tables: dict[str, list[Table]] = {}
    for source in config.sources:
        try:
            with closing(source.open()) as reader:
                offered = answered(partial(_listed, reader), of=f"source {source.name!r}")
                tables[source.name] = _of_spec(source, offered)
        except StrandlineError:
            continue  # its own run says so; until then nobody knows what its tables are
    if len(tables) == len(config.sources):
        _check(choice, [table for those in tables.values() for table in those])

    def is_chosen(table: Table) -> bool:
        return among(choice.select or ("*",), table) and not among(choice.exclude, table)

    chosen = {name: [table for table in those if is_chosen(table)] for name, those in tables.items()}
    try:
        _check_shared(config, chosen)
    except UsageError as error:
        refuse(error)
    # of a source that could not be listed nobody knows; without a glob, none is left out
    globs = choice.select or choice.exclude
    used = [one for one in config.sources if not globs or chosen.get(one.name, True)]
    used = [one for one in used if not choice.sources or one.name in choice.sources]
    if not used:
        raise _nothing_left("any source")
    return used, replace(choice, checked=True)


def selected(source: SourceSpec, choice: Choice) -> list[tuple[Table, str]]:
    """The tables of a source that are chosen, each with its name at the destinations. Only the source is connected to.

    Raises:
        UsageError: a glob matches nothing, or a setting of a table does not fit.
        UnreachableError: the source does not answer.
    """
    with closing(source.open()) as reader:
        offered = answered(partial(_listed, reader), of=f"source {source.name!r}")
    return [(one, rules_of(source.rules, one).stored_name(one)) for one in _select(source, offered, choice, {})]


def _check_shared(config: Config, chosen: Mapping[str, Sequence[Table]]) -> None:
    writers: dict[tuple[str, str], list[tuple[SourceSpec, Table]]] = {}
    for source in config.sources:
        for table in chosen.get(source.name, ()):
            stored = rules_of(source.rules, table).stored_name(table).casefold()
            for destination in source.destinations:
                writers.setdefault((destination, stored), []).append((source, table))
    problems = []
    for (destination, stored), both in writers.items():
        several = len({one.name for one, _ in both}) > 1
        shared = not several or all(rules_of(one.rules, it).shared for one, it in both)
        if not shared and not _were_shared(config.destination(destination), both):
            names = " and ".join(f"{spoken(it.name, it.spec_name)!r} of source {one.name!r}" for one, it in both)
            problems.append(
                Problem(
                    f"{names} would be one table of destination {destination!r}: {stored!r}",
                    hint="give one of them another `name` in table_settings, or a destination with another `schema`; or, if "
                    "their keys are disjoint, say `shared: true` in each",
                )
            )
    if problems:
        raise_problems(problems, "several sources would write one table")


def _were_shared(spec: DestinationSpec, both: Sequence[tuple[SourceSpec, Table]]) -> bool:
    """Whether a table has had all of these as its owners since before there was a register: they go on, with a warning."""
    one, table = both[0]
    task = Task(table.name, (table,))
    try:
        with closing(spec.open()) as destination:
            into = replace(_into(spec, destination, Choice()), rules=partial(rules_of, one.rules))
            found = answered(
                partial(into.find, table, task, Fence(one.name, spec.name, 0, "")), of=f"destination {spec.name!r}"
            )
    except StrandlineError:
        return False
    return {source.name for source, _ in both} <= {owner.source for owner in found.owners or ()}


def _listed(reader: Source) -> list[Table]:
    return list(reader.tables())


def _check(choice: Choice, tables: Sequence[Table]) -> None:
    check_globs({"--select": choice.select, "--exclude": choice.exclude, "--full-refresh": choice.refresh}, tables)


def _of_spec(source: SourceSpec, tables: Sequence[Table]) -> list[Table]:
    """What the spec's globs choose; its settings of tables have to fit what there is."""
    check_rules(source.rules, tables, source=source.name)
    chosen = source.chosen(tables)
    stored_names(source.rules, chosen)
    return [fitting(source.rules, table) for table in chosen]


def _select(source: SourceSpec, tables: Sequence[Table], choice: Choice, offered: dict[str, Table]) -> Sequence[Table]:
    """First the spec's globs, then the command line's. What the source offers is remembered in ``offered``."""
    offered.update({table.name: table for table in tables})
    chosen = _of_spec(source, tables)
    if not chosen:
        raise UsageError(
            f"no table of source {source.name!r} is selected: `skip_tables` leaves out all that `tables` names",
            hint="nothing was done; leave the source out of the spec instead",
        )
    if not choice.checked:
        _check(choice, chosen)
    if choice.select or choice.exclude:
        include, skip = (
            [glob for glob in globs if any(among([glob], table) for table in chosen)]
            for globs in (choice.select or ("*",), choice.exclude)
        )
        chosen = select_tables(chosen, include, skip, skip_dependent_tables=True)
        if not chosen:
            raise _nothing_left(f"source {source.name!r}")
    return chosen


def _nothing_left(where: str) -> UsageError:
    return UsageError(
        f"no table of {where} is selected: --exclude leaves out all that is selected otherwise", hint="nothing was done"
    )


def _selects(source: SourceSpec, name: str, choice: Choice, offered: Mapping[str, Table]) -> bool:
    """Whether a root table of this name, as it is at the destination, would be chosen if it were there."""
    include, skip = (source.tables, choice.select or ("*",)), (*source.skip_tables, *choice.exclude)
    if name in offered:
        return all(among(globs, offered[name]) for globs in include) and not among(skip, offered[name])

    def is_among(globs: Sequence[str], *, default_schema: bool) -> bool:
        # nobody tells the schema of a table that is gone: sales.orders was sales_orders, and public.orders only orders
        return any(
            matches(one, name)
            for glob in globs
            for one in (glob, glob.replace(".", "_", 1), *([glob.partition(".")[2]] if default_schema else ()))
        )

    return all(is_among(globs, default_schema=True) for globs in include) and not is_among(skip, default_schema=False)


def _refreshed(task: Task, globs: Sequence[str]) -> bool:
    return any(among(globs, table) for table in task.tables)
