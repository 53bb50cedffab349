"""Control: one execution of a spec's source into its destinations. Data flows in ``pipeline``; this decides and waits."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from strandline.destination import RECREATE, Fence, WriteMode
from strandline.engine.clock import Clock
from strandline.engine.delivery import delivery
from strandline.engine.lease import Claim, Heartbeat, Lease, await_lease, take_over
from strandline.engine.ledger import Ledger
from strandline.engine.pipeline import Into
from strandline.engine.plan import (
    TaskPlan,
    guarantees,
    is_unfinished,
    open_lineage,
    refresh_task,
    refreshed_task,
)
from strandline.engine.task import Retries, TaskRun, survey
from strandline.engine.window import Stop, StoppedError
from strandline.errors import RetryableError, StateConflictError, StateError, StrandlineError, TaskError, UsageError
from strandline.runs import Event, EventKind, Observer, RunReport, Status, TaskReport
from strandline.source import MissesTasks, RunContext, Source, Task
from strandline.state import RUN_TASK, Anew, KeepsState, StateBackend
from strandline.table import Table

__all__ = ["Job", "ledger_of", "plan", "sync", "tasks_of"]


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
    refresh: Callable[[Task], bool] = lambda _: False
    """Whether a task is to be read again from nothing."""
    concurrency: int = 8
    retries: Retries = field(default_factory=Retries)
    claim: Claim = field(default_factory=Claim)


@dataclass(slots=True)
class _Unit:
    """One task into one destination."""

    task: Task
    into: Into
    ledger: Ledger
    report: TaskReport


def plan(job: Job, *, clock: Clock | None = None) -> list[TaskPlan]:
    """What ``sync`` would do, task by task. Touches nothing; a task that could not run says why in ``problem``."""
    clock = clock or Clock()
    tasks = tasks_of(job)
    plans = []
    for into in job.into:
        ledger = ledger_of(job, into)
        ledger.load(_anew(job, tasks))
        lease = Lease.of(ledger.holder)
        held = (lease.refused(ledger, clock.now()).message,) if lease and lease.is_live(clock.now()) else ()
        for task in tasks:
            planned = _plan(job, _Unit(task, into, ledger, _report(job, task, into)), clock.now())
            plans.append(replace(planned, warnings=(*planned.warnings, *held)))
    return plans


def sync(
    job: Job,
    *,
    observer: Observer = lambda _: None,
    clock: Clock | None = None,
    stop: Stop | None = None,
    run_id: str | None = None,
) -> RunReport:
    """Bring every task of a source up to date in every destination.

    Nothing is written before every lineage has been looked at: a state that cannot be trusted, or a table that cannot
    be, ends the run untouched. Then tasks run independently; one that fails keeps its cursor, and the others go on.

    Never raises a ``StrandlineError``: it is in the report.
    """
    clock, stop = clock or Clock(), (stop or Stop()).of_run()
    report = RunReport(run_id or uuid4().hex, job.name, clock.now(), [])
    began_s = clock.monotonic_s()
    observer(Event(EventKind.RUN_STARTED, report.run_id, job.name))
    try:
        _Run(job, observer, clock, stop, report).go()
    except StrandlineError as error:
        report.error = error
    report.signal = stop.signal
    report.seconds = clock.monotonic_s() - began_s
    observer(Event(EventKind.RUN_FINISHED, report.run_id, job.name, data={"report": report}))
    return report


def tasks_of(job: Job) -> list[Task]:
    """The tasks of the selected tables, checked against the destinations. Changes nothing."""
    tables = list(job.select(job.source.tables()))
    tasks = list(job.source.tasks(tables))
    ids = [task.id for task in tasks]
    twice = {one for one in ids if ids.count(one) > 1}
    if twice or any(one.startswith("@") for one in ids):
        raise UsageError(f"source {job.name!r} has tasks with unusable ids: {sorted(twice) or ids}")
    for into in job.into:
        for task in tasks:
            for table in task.tables:
                _check_table(table, into)
            if job.refresh(task) and not into.destination.capabilities.replace:
                raise UsageError(
                    f"destination {into.name!r} cannot replace rows, so there is no full refresh of {task.id!r}",
                    hint=f"remove the rows there, then strandline state reset {job.name!r} {task.id!r}, and sync again",
                )
    return tasks


def _check_table(table: Table, into: Into) -> None:
    capabilities = into.destination.capabilities
    if into.mode not in capabilities.write_modes:
        modes = ", ".join(sorted(capabilities.write_modes))
        raise UsageError(f"destination {into.name!r} cannot {into.mode}", hint=f"write_mode can be {modes}")
    if into.mode is not WriteMode.APPEND and table.incremental and not table.primary_key:
        raise UsageError(
            f"table {table.name!r} is read incrementally but has no primary key, so it cannot be overwritten in "
            f"{into.name!r}: a row read again could not be told from a new one",
            hint="name its primary_key in the source's spec, or use write_mode: append",
        )


def ledger_of(job: Job, into: Into) -> Ledger:
    """Where the states of a job's source and one of its destinations are kept. Not yet loaded."""
    own = into.destination.states if isinstance(into.destination, KeepsState) else None
    backend = job.backend if job.backend is not None else own
    if backend is None:
        raise UsageError(
            f"destination {into.name!r} cannot keep states, but source {job.name!r} says `backend: destination`",
            hint="choose another backend, or name a destination that keeps states in its backend_spec",
        )
    return Ledger(job.name, into.name, own=own, backend=backend)


def _report(job: Job, task: Task, into: Into) -> TaskReport:
    promised = guarantees(task.tables)
    return TaskReport(
        job.name,
        task.id,
        into.name,
        tuple(table.name for table in task.tables),
        guarantee=" + ".join(one.name for one in promised),
        limits=" ".join(one.limits for one in promised),
    )


def _plan(job: Job, unit: _Unit, now: datetime) -> TaskPlan:
    ledger, into, task = unit.ledger, unit.into, unit.task
    lineage = survey(task, into, ledger, _nobody(ledger))
    pending = ledger.stored(ledger.key(refresh_task(task.id)))
    refresh = job.refresh(task) or is_unfinished(pending)
    cursor, full, resumed, problem, hint = None, True, False, "", ""
    warnings: tuple[str, ...] = ()
    try:
        opening = open_lineage(lineage, now_us=int(now.timestamp() * 1e6), stateless=job.stateless, anew=refresh)
        full, resumed, warnings = opening.current.full or refresh, opening.resumed, opening.warnings
        cursor = None if refresh else opening.cursor
    except StateError as error:
        problem, hint = error.message, error.hint
    return TaskPlan(
        key=lineage.key,
        tables=tuple(table.name for table in task.tables),
        mode=into.mode,
        guarantees=guarantees(task.tables),
        access=tuple(dict.fromkeys(table.access for table in task.tables if table.access)),
        delivery=delivery(task.tables, into.mode, transactional=ledger.transactional, keeps_cursor=not job.stateless),
        cursor=cursor,
        full=full,
        resumed=resumed,
        changes=tuple(change for found in lineage.found.values() for change in found.changes),
        warnings=warnings,
        problem=problem,
        hint=hint,
        refresh=refresh,
    )


def _anew(job: Job, tasks: Sequence[Task]) -> Anew | None:
    """Lineages that are to be read again from nothing, whatever is known of them; and then the fence."""
    ids = {task.id for task in tasks if job.refresh(task)}
    refreshed = {RUN_TASK, *ids, *map(refresh_task, ids)}
    return (lambda key: key.task in refreshed) if ids else None


def _nobody(ledger: Ledger) -> Fence:
    """For looking: it may not write."""
    return Fence(ledger.source, ledger.destination, 0, "")


def _context(job: Job, report: RunReport) -> RunContext:
    """Batches are never larger than the smallest window, or a window could not keep its bounds."""
    usual = RunContext(report.run_id, job.name, report.started_at)
    rows_max = min((into.bounds.rows_max for into in job.into), default=usual.batch_rows)
    bytes_max = min((into.bounds.bytes_max for into in job.into), default=usual.batch_bytes)
    return replace(usual, batch_rows=min(usual.batch_rows, rows_max), batch_bytes=min(usual.batch_bytes, bytes_max))


class _Run:
    def __init__(self, job: Job, observer: Observer, clock: Clock, stop: Stop, report: RunReport) -> None:
        self._job, self._observer, self._clock, self._stop, self._report = job, observer, clock, stop, report
        self._context = _context(job, report)
        self._writers = {into.name: threading.Semaphore(into.destination.capabilities.writers_max) for into in job.into}

    def go(self) -> None:
        units = self._open(tasks_of(self._job))
        with Heartbeat(clock=self._clock, stop=self._stop, warn=self._warn) as heartbeat:
            fences = self._take_over(units, heartbeat)
            units = [unit for unit in units if unit.into.name in fences]
            workers = max(1, min(self._job.concurrency, len(units)))
            with ThreadPoolExecutor(workers, thread_name_prefix="task") as pool:
                futures = [pool.submit(self._work, unit, fences[unit.into.name]) for unit in units]
                self._wait(futures)
            if heartbeat.lost is not None:
                raise heartbeat.lost

    def _take_over(self, units: Sequence[_Unit], heartbeat: Heartbeat) -> dict[str, Fence]:
        fences: dict[str, Fence] = {}
        for ledger in dict.fromkeys(unit.ledger for unit in units):
            reports = [unit.report for unit in units if unit.ledger is ledger]
            try:
                fence = take_over(
                    ledger, self._job.claim, self._report.run_id, clock=self._clock, stop=self._stop, say=self._tell
                )
            except (RetryableError, StateConflictError) as error:
                self._fail(reports, error)
            except StoppedError:
                self._leave(reports)
            else:
                fences[ledger.destination] = fence
                heartbeat.begin(ledger, fence)
        return fences

    def _leave(self, reports: Sequence[TaskReport]) -> None:
        for report in reports:
            report.status = Status.STOPPED
            self._say(EventKind.TASK_FINISHED, report)

    def _fail(self, reports: Sequence[TaskReport], error: StrandlineError) -> None:
        for report in reports:
            report.status, report.error = Status.FAILED, error
            self._say(EventKind.TASK_FINISHED, report)

    def _open(self, tasks: Sequence[Task]) -> list[_Unit]:
        """Look at every lineage before anything is written. A destination out of reach holds back no other."""
        units = []
        for into in self._job.into:
            reports = [_report(self._job, task, into) for task in tasks]
            self._report.tasks += reports
            try:
                ledger = ledger_of(self._job, into)
                load = partial(ledger.load, _anew(self._job, tasks))
                await_lease(ledger, self._job.claim, load, clock=self._clock, stop=self._stop, say=self._tell)
                self._look_for_missing(into, ledger, tasks)
                opened = [_Unit(task, into, ledger, report) for task, report in zip(tasks, reports, strict=True)]
                units += [unit for unit in opened if self._may_run(unit)]
            except (RetryableError, StateConflictError) as error:
                self._fail(reports, error)
            except StoppedError:
                self._leave(reports)
        return units

    def _look_for_missing(self, into: Into, ledger: Ledger, tasks: Sequence[Task]) -> None:
        """Say which selected tables were synced once, and are offered no longer: nothing is left out silently."""
        job = self._job
        for key in ledger.lineages():
            state, refreshed = ledger.stored(key) or ledger.mirrored(key), refreshed_task(key.task)
            if state is None or (refreshed or key.task) in {task.id for task in tasks}:
                continue
            if refreshed is not None and is_unfinished(state):
                self._warn(
                    f"{key}: a full refresh of {refreshed!r} was interrupted, and is not gone on with here; the next sync of "
                    f"{refreshed!r} finishes it; to drop it: strandline state reset {job.name!r} {refreshed!r}"
                )
            if key.task.startswith("@"):
                continue
            if not any(job.selects(table) for table in state.tables):
                continue
            try:
                if isinstance(job.source, MissesTasks):
                    job.source.missing(key.task)
            except TaskError as error:
                report = TaskReport(job.name, key.task, into.name, tuple(state.tables))
                report.cursor_from = report.cursor_to = state.cursor
                self._report.tasks.append(report)
                self._fail([report], error)
                continue
            synced_at = datetime.fromtimestamp((state.current.sync_time_us if state.current else 0) / 1e6, UTC)
            self._warn(
                f"{key}: the source does not offer {key.task!r} any more, which was synced until {synced_at:%Y-%m-%d %H:%M} "
                f"UTC; its rows stay; to forget it: strandline state reset {job.name!r} {key.task!r}"
            )

    def _warn(self, text: str) -> None:
        self._report.warnings.append(text)
        self._observer(Event(EventKind.WARNING, self._report.run_id, self._job.name, text=text))

    def _tell(self, text: str) -> None:
        self._observer(Event(EventKind.WAITING, self._report.run_id, self._job.name, text=text))

    def _may_run(self, unit: _Unit) -> bool:
        """Whether nothing is known against it. A table that cannot be stored fails alone.

        Raises:
            StateError: its state cannot be trusted, which ends the run.
        """
        try:
            planned = _plan(self._job, unit, self._clock.now())
        except TaskError as error:
            self._fail([unit.report], error)
            return False
        if planned.problem:
            raise StateError(planned.problem, hint=planned.hint)
        if not any(change.kind == RECREATE for change in planned.changes):
            # known before the task begins, and so what its first event says
            unit.report.cursor_from = unit.report.cursor_to = planned.cursor
        return True

    def _wait(self, futures: Sequence["Future[None]"]) -> None:
        """Wait in slices, so that signal handlers run; raise what is not a task's own failure."""
        for future in futures:
            while not future.done():
                try:
                    future.exception(timeout=0.2)
                except TimeoutError:
                    continue
        for future in futures:
            future.result()

    def _work(self, unit: _Unit, fence: Fence) -> None:
        report, clock = unit.report, self._clock
        if self._stop.requested:
            self._leave([report])
            return
        run = TaskRun(
            task=unit.task,
            source=self._job.source,
            into=unit.into,
            ledger=unit.ledger,
            fence=fence,
            context=self._context,
            report=report,
            observer=self._observer,
            clock=clock,
            stop=self._stop,
            refresh=self._job.refresh(unit.task),
            stateless=self._job.stateless,
            retries=self._job.retries,
        )
        report.started_s = clock.monotonic_s()
        with self._writers[unit.into.name]:
            self._say(EventKind.TASK_STARTED, report)
            try:
                run.run()
                report.status = Status.COMPLETED if run.done else Status.STOPPED
            except StoppedError as error:
                report.status = Status.STOPPED
                report.warnings += [error.message] if error.message else []
            except StrandlineError as error:
                report.status, report.error = Status.FAILED, error
                if isinstance(error, StateConflictError):
                    self._stop.fence()
            except Exception as error:  # noqa: BLE001 -- the one place where a bug is turned into a failed task
                report.status, report.bug = Status.FAILED, True
                report.error = TaskError(
                    f"a bug: {type(error).__name__}: {error}", hint="please report it (--debug shows where)"
                )
                report.error.__cause__ = error
        report.seconds = clock.monotonic_s() - report.started_s
        self._say(EventKind.TASK_FINISHED, report)

    def _say(self, kind: EventKind, report: TaskReport) -> None:
        self._observer(Event(kind, self._report.run_id, self._job.name, report))
