"""What a run needs, as objects; and what it would do with each task. Nothing here is changed outside."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from strandline.describe import description_of
from strandline.destination import Delivery, Fence, Reach, WriteMode
from strandline.engine.answer import answered
from strandline.engine.attached import referred
from strandline.engine.clock import Clock
from strandline.engine.delivery import delivery
from strandline.engine.gone import dropped
from strandline.engine.into import Into
from strandline.engine.lease import Claim
from strandline.engine.ledger import Ledger
from strandline.engine.lineage import selecting
from strandline.engine.plan import (
    guarantees,
    is_unfinished,
    open_lineage,
    refresh_task,
)
from strandline.engine.project import agreed
from strandline.engine.task import Retries, backfills, survey
from strandline.engine.task_plan import TaskPlan
from strandline.engine.unchanged import evidence, settled
from strandline.engine.window import Stop
from strandline.errors import StateError, StrandlineError, TaskError, UsageError
from strandline.executor import Executor
from strandline.rules import TableRules
from strandline.runs import TaskReport
from strandline.shard import Shard
from strandline.source import Remembers, Source, Task, TaskFailure
from strandline.spec import Written
from strandline.state import KeepsState, State, StateBackend, StateKey
from strandline.table import Table

if TYPE_CHECKING:
    from strandline.engine.work import Work

__all__ = [
    "Job",
    "Offer",
    "Unit",
    "ledger_of",
    "offer_of",
    "opened",
    "planned",
    "proved",
    "report_of",
    "unit_of",
    "unplanned",
]


@dataclass(slots=True)
class Job:
    """Everything that a run needs, as objects."""

    name: str
    """The source's name."""
    source: Source
    into: Sequence[Into]
    backend: StateBackend | None
    """``None``: each destination keeps the states itself."""
    stateless: bool = False
    """No cursor is kept (backend ``none``)."""
    select: Callable[[Sequence[Table]], Sequence[Table]] = lambda tables: tables
    selects: Callable[[str], bool] = lambda _: True
    """Whether a table of this name is selected, if the source offers it."""
    rules: Callable[[Table], TableRules] = lambda _: TableRules()
    """What the spec says of a table."""
    names: Callable[[Table], bool] = lambda _: False
    """Whether a table is asked for by its own name, and not only by a glob."""
    refresh: Callable[[Task], bool] = lambda _: False
    """Whether a task is to be read again from nothing."""
    shard: Shard | None = None
    """Which tasks the run has; ``None``: all that are selected. What it does not own, it does not touch, nor speak of."""
    concurrency: int = 8
    retries: Retries = field(default_factory=Retries)
    claim: Claim = field(default_factory=Claim)
    spec: Written | None = None
    """From which it was opened, if from one."""

    executor: Executor | None = None
    """Who does the tasks; ``None``: threads of this process."""
    pack: "Callable[[Work], bytes] | None" = None
    """What a worker is sent; ``None``: the run was made of objects, of which none can be sent."""

    def is_done_here(self, into: Into) -> bool:
        """Whether the tasks of a destination are done in this process, whoever does the others: it cannot be written from elsewhere."""
        reach = into.destination.capabilities.reach
        of_host = self.executor is not None and self.executor.spans_hosts and reach is Reach.HOST
        forgets = self.stateless and into.destination.capabilities.delivery is not Delivery.ATOMIC
        return self.executor is None or of_host or forgets or reach in (Reach.FILE, Reach.PROCESS)

    def owns(self, task: str) -> bool:
        """Whether a task of this id is this run's, if it is selected."""
        return self.shard is None or self.shard.owns(task)


@dataclass(slots=True)
class Unit:
    """One task into one destination."""

    task: Task
    into: Into
    ledger: Ledger
    report: TaskReport
    idle: State | None = None
    """The state from which it need not be read, as its source has proved."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the source offers of the selected tables."""

    tasks: tuple[Task, ...]
    unreadable: tuple[Table, ...]
    """Tables that cannot be read now, each with the reason."""
    failed: tuple[TaskFailure, ...] = ()
    """Tasks that cannot be read now."""


def offer_of(job: Job, stop: Stop | None = None) -> Offer:
    """The tasks of the selected tables, and those that cannot be read. Changes nothing.

    Raises:
        UnreachableError: the source does not answer.
        StoppedError: see ``answered``.
    """
    return answered(lambda: _offer(job), of=f"source {job.name!r}", stop=stop)


def _offer(job: Job) -> Offer:
    tables = list(job.select(job.source.tables()))
    readable = [table for table in tables if table.unreadable is None]
    found = list(job.source.tasks(readable))
    _check_ids(job, [one.id for one in found])
    found = [one for one in found if job.owns(one.id)]
    tasks = tuple(_selecting(job, one) for one in found if isinstance(one, Task))
    for into in job.into:
        for task in tasks:
            into.of(task)
    unreadable = tuple(table for table in tables if table.unreadable is not None)
    return Offer(tasks, unreadable, tuple(one for one in found if isinstance(one, TaskFailure)))


def _selecting(job: Job, task: Task) -> Task:
    return replace(task, tables=tuple(selecting(table, job.rules(table).columns) for table in task.tables))


def _check_ids(job: Job, ids: Sequence[str]) -> None:
    twice = {one for one, count in Counter(ids).items() if count > 1}
    if twice or any(one.startswith("@") for one in ids):
        raise UsageError(f"source {job.name!r} has tasks with unusable ids: {sorted(twice) or ids}")


def _check(job: Job, task: Task, into: Into) -> None:
    for table in task.tables:
        _check_table(table, into)
    of_host = job.backend is not None and description_of(job.backend).of_host
    spans_hosts = job.executor is not None and job.executor.spans_hosts and not job.is_done_here(into)
    if spans_hosts and of_host and into.destination.capabilities.delivery is not Delivery.ATOMIC:
        raise UsageError(
            f"the states of source {job.name!r} would lie on whichever machine a worker is, and destination {into.name!r} keeps none "
            "itself, so that rows could be lost or stored twice",
            hint="choose a backend that all machines reach, or an executor of this machine",
        )
    if job.refresh(task) and not into.destination.capabilities.replace:
        raise UsageError(
            f"destination {into.name!r} cannot replace rows, so there is no full refresh of {task.id!r}",
            hint=f"remove the rows there, then strandline state reset {job.name!r} {task.id!r}, and sync again",
        )


def _check_table(table: Table, into: Into) -> None:
    capabilities = into.destination.capabilities
    if into.mode not in capabilities.write_modes:
        modes = ", ".join(sorted(capabilities.write_modes))
        raise UsageError(f"destination {into.name!r} cannot {into.mode}", hint=f"write_mode can be {modes}")
    if into.mode is WriteMode.OVERWRITE_DELETE_STALE and not capabilities.deletes:
        raise UsageError(
            f"destination {into.name!r} cannot delete rows, as {into.mode} asks", hint="use write_mode: overwrite"
        )
    if into.mode is not WriteMode.APPEND and table.version_order and not capabilities.orders_versions:
        raise UsageError(
            f"destination {into.name!r} cannot order the rows of table {table.name!r} by {table.version_order!r}: there the row "
            "that comes last wins",
            hint="leave out its incremental_key, or use write_mode: append",
        )
    if into.rules(table).latest_view:
        _check_latest(table, into)
    if into.mode is not WriteMode.APPEND and table.incremental and not table.primary_key:
        raise UsageError(
            f"table {table.name!r} is read incrementally but has no primary key, so it cannot be overwritten in "
            f"{into.name!r}: a row read again could not be told from a new one",
            hint="name its primary_key in the source's spec, or use write_mode: append",
        )


def _check_latest(table: Table, into: Into) -> None:
    what = f"`latest_view` of table {table.name!r}"
    if not into.destination.capabilities.latest_views:
        raise UsageError(f"{what}: destination {into.name!r} has no views", hint="leave it out")
    if into.mode is not WriteMode.APPEND:
        raise UsageError(
            f"{what}: with {into.mode}, destination {into.name!r} has one version of each row only",
            hint="leave it out, or say `write_mode: append` for the table",
        )
    if not table.primary_key:
        raise UsageError(
            f"{what}: without a primary key it is not known which versions are of one row",
            hint="leave it out, or name its primary_key in table_settings",
        )


def opened(job: Job, into: Into, ledger: Ledger, offer: Offer, places: Sequence[str]) -> None:
    """Whether the states of a loaded ledger are this project's, and their epoch can be trusted. Changes nothing.

    Raises:
        UsageError: they are another project's.
        StateError: they cannot be trusted.
    """
    if not any(map(job.refresh, offer.tasks)):
        ledger.check_holder()
    chosen = {task.id for task in offer.tasks}
    others = {key.task for key in ledger.lineages() if not key.task.startswith("@")} - chosen
    # whoever takes over only some tables of another project would pass for it at the others
    adopts = all(into.rules(table).adopt for task in offer.tasks for table in task.tables) and all(
        map(job.selects, others)
    )
    ledger.agree = lambda: agreed(ledger, places, adopts=bool(chosen) and adopts).facts
    ledger.about = ledger.agree()


def unit_of(job: Job, task: Task, into: Into, ledger: Ledger, report: TaskReport) -> Unit:
    """One task into one destination, with its tables as the cursor there remembers them. The ledger is loaded."""
    source, key = job.source, ledger.key(task.id)
    state = ledger.stored(key) or ledger.mirrored(key)
    known = {} if state is None or job.refresh(task) else state.tables
    if isinstance(source, Remembers) and state is not None and known:
        stored = {name: one.rows for name, one in known.items() if job.selects(name)}
        task = _selecting(job, source.remembered(task, state.cursor, stored))
    return Unit(task, into.of(task), ledger, report)


def ledger_of(job: Job, into: Into) -> Ledger:
    """Where the states of a job's source and one of its destinations are kept. Not yet loaded."""
    atomic = into.destination.capabilities.delivery is Delivery.ATOMIC
    own = into.destination.states if atomic and isinstance(into.destination, KeepsState) else None
    backend = job.backend if job.backend is not None else own
    if backend is None:
        raise UsageError(
            f"destination {into.name!r} cannot keep states, but source {job.name!r} says `backend: destination`",
            hint="choose another backend, or name a destination that keeps states in its backend_spec",
        )
    return Ledger(job.name, into.name, own=own, backend=backend, shard=job.shard)


def report_of(job: Job, task: Task, into: Into) -> TaskReport:
    """The report of a task in one destination, as it begins."""
    promised = guarantees(task.tables)
    return TaskReport(
        job.name,
        task.id,
        into.name,
        tuple(table.name for table in task.tables),
        guarantee=" + ".join(one.name for one in promised),
        limits=" ".join(one.limits for one in promised),
        delivery=_delivery(job, task, into),
        rows_about=_rows_about(task),
    )


def _delivery(job: Job, task: Task, into: Into) -> str:
    return delivery(task.tables, into.mode, into.destination.capabilities.delivery, keeps_cursor=not job.stateless)


def _rows_about(task: Task) -> int:
    """Nobody knows how the rows of a table are divided among partitions."""
    known = [table.rows_about for table in task.tables]
    return 0 if task.partition is not None or None in known else sum(one or 0 for one in known)


def planned(job: Job, unit: Unit, now: datetime) -> TaskPlan:
    """What a sync would do with one task in one destination, or why it cannot. The ledger is loaded."""
    try:
        return _planned(job, unit, now)
    except (StateError, TaskError, UsageError) as error:
        return unplanned(job, unit.task, unit.into, error)


def unplanned(job: Job, task: Task, into: Into, error: StrandlineError) -> TaskPlan:
    """The plan of a task that cannot run."""
    return TaskPlan(
        key=StateKey(job.name, task.id, into.name),
        tables=tuple(table.name for table in task.tables),
        mode=into.mode,
        guarantees=guarantees(task.tables),
        delivery="",
        access=(),
        cursor=None,
        full=False,
        resumed=False,
        error=error,
    )


def _planned(job: Job, unit: Unit, now: datetime) -> TaskPlan:
    ledger, into, task = unit.ledger, unit.into, unit.task
    _check(job, task, into)
    asked = job.refresh(task)
    lineage = survey(task, into, ledger, _nobody(ledger), refresh=asked)
    pending = ledger.stored(ledger.key(refresh_task(task.id)))
    refresh = asked or is_unfinished(pending)
    now_us = int(now.timestamp() * 1e6)
    opening = open_lineage(lineage, now_us=now_us, stateless=job.stateless, anew=refresh, asked=asked)
    lost = dropped(job.source, task, lineage, into, now, refresh=asked, doomed=opening.doomed)
    backfill = backfills(task, into, opening)
    anew = refresh or backfill
    return TaskPlan(
        key=lineage.key,
        tables=tuple(table.name for table in task.tables),
        mode=into.mode,
        guarantees=guarantees(task.tables),
        access=tuple(dict.fromkeys(table.access for table in task.tables if table.access)),
        delivery=_delivery(job, task, into),
        cursor=None if anew else opening.cursor,
        full=opening.current.full or anew,
        resumed=opening.resumed and not anew,
        changes=tuple(change for found in lineage.found.values() for change in found.changes),
        warnings=(*opening.warnings, *referred(lineage, into.rules, anew=refresh)),
        refresh=refresh,
        backfill=backfill,
        lost=lost,
        settled=None if anew or job.stateless or pending is not None else settled(task, into, lineage, opening),
    )


def proved(job: Job, plans: Sequence[TaskPlan], clock: Clock) -> list[TaskPlan]:
    """With what the source can tell of many tasks of a destination at once: which of them have nothing new."""
    found = evidence(job.source, [one.settled for one in plans if one.settled is not None], clock)
    return [replace(one, evidence=found.get(one.key.task, "") if one.settled else "") for one in plans]


def _nobody(ledger: Ledger) -> Fence:
    """For looking: it may not write."""
    return Fence(ledger.source, ledger.destination, 0, "")
