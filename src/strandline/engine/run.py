"""Control: one execution of a spec's source into its destinations. Data flows in ``pipeline``; this decides and waits."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from uuid import uuid4

from strandline.destination import RECREATE, Fence
from strandline.engine.acknowledgement import Acknowledgements
from strandline.engine.answer import answered
from strandline.engine.clock import Clock
from strandline.engine.elsewhere import Elsewhere
from strandline.engine.into import AsStored, Into
from strandline.engine.job import Job, Offer, Unit, ledger_of, offer_of, opened, planned, proved, report_of, unit_of
from strandline.engine.lease import Heartbeat, await_lease, take_over
from strandline.engine.ledger import Ledger
from strandline.engine.missing import missing
from strandline.engine.owners import check_refused
from strandline.engine.project import places_of
from strandline.engine.task_plan import TaskPlan
from strandline.engine.unchanged import AT_ONCE
from strandline.engine.window import Stop, StoppedError
from strandline.engine.work import Opened, Work, perform
from strandline.errors import (
    RetryableError,
    StateConflictError,
    StateError,
    StrandlineError,
    UsageError,
)
from strandline.executor import Crew
from strandline.runs import Event, EventKind, Observer, RunReport, Status, TaskReport
from strandline.source import RunContext
from strandline.warned import Warned

__all__ = ["sync"]


def sync(
    job: Job,
    *,
    observer: Observer = lambda _: None,
    clock: Clock | None = None,
    stop: Stop | None = None,
    run_id: str | None = None,
) -> RunReport:
    """Bring every task of a source up to date in every destination.

    Nothing is written before every lineage has been looked at. Then tasks run independently; one that fails, or whose state
    cannot be trusted, keeps its cursor, and the others go on.

    Never raises a ``StrandlineError``: it is in the report.
    """
    clock, stop = clock or Clock(), (stop or Stop()).of_run()
    report = RunReport(run_id or uuid4().hex, job.name, clock.now(), [], shard=str(job.shard or ""))
    began_s = clock.monotonic_s()
    observer(Event(EventKind.RUN_STARTED, report.run_id, job.name, data={"report": report}))
    try:
        _Run(job, observer, clock, stop, report).go()
    except StoppedError:
        pass  # before anything was touched
    except StrandlineError as error:
        report.error = error
    report.signal = stop.signal
    report.seconds = clock.monotonic_s() - began_s
    observer(Event(EventKind.RUN_FINISHED, report.run_id, job.name, data={"report": report}))
    return report


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
        self._refused: list[UsageError] = []
        """Why nothing of the run may be done."""
        self._acknowledgements = Acknowledgements(job.source, [into.name for into in job.into])
        self._writers = {into.name: threading.Semaphore(into.destination.capabilities.writers_max) for into in job.into}

    def go(self) -> None:
        offer = offer_of(self._job, self._stop)
        # nothing is touched yet, so that whoever hangs can be left behind
        units = answered(lambda: self._open(offer), of=f"source {self._job.name!r}", within_s=None, stop=self._stop)
        units = self._to_do(units)
        with (
            self._crew(units) as crew,
            Heartbeat(clock=self._clock, stop=self._stop, warn=self._warn) as heartbeat,
        ):
            fences = self._take_over(units, heartbeat)
            units = [unit for unit in units if unit.into.name in fences and not self._passes_over(unit)]
            here = [unit for unit in units if crew is None or self._job.is_done_here(unit.into)]
            workers = max(1, min(self._job.concurrency, len(here)))
            with ThreadPoolExecutor(workers, thread_name_prefix="task") as pool:
                futures = [pool.submit(self._work, unit, fences[unit.into.name]) for unit in here]
                if crew is not None:
                    away = [unit for unit in units if not self._job.is_done_here(unit.into)]
                    self._do_elsewhere(crew, [(self._work_of(unit, fences[unit.into.name]), unit) for unit in away])
                self._wait(futures)
            if heartbeat.lost is not None:
                raise heartbeat.lost

    @contextmanager
    def _crew(self, units: Sequence[Unit]) -> Iterator[Crew | None]:
        """Begun before anything is touched; ``None``: everything is done here."""
        executor, pack = self._job.executor, self._job.pack
        if executor is None or not executor.is_elsewhere or all(self._job.is_done_here(unit.into) for unit in units):
            yield None
            return
        crew = executor.crew(self._job.concurrency)
        if crew is None:
            yield None
            return
        with closing(crew):
            if pack is None:
                raise UsageError("a run that was made of objects has no spec that a worker could read")
            yield crew

    def _do_elsewhere(self, crew: Crew, works: Sequence[tuple[Work, Unit]]) -> None:
        if self._job.pack is None:
            raise AssertionError("whoever has a crew can pack")
        elsewhere = Elsewhere(crew, self._job.pack, observer=self._observer, clock=self._clock, stop=self._stop)
        elsewhere.run(works)

    def _take_over(self, units: Sequence[Unit], heartbeat: Heartbeat) -> dict[str, Fence]:
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

    def _open(self, offer: Offer) -> list[Unit]:
        """Look at every lineage before anything is written. A destination out of reach holds back no other."""
        units, tasks = list[Unit](), offer.tasks
        places = places_of(self._job)
        for into in self._job.into:
            reports = [report_of(self._job, task, into) for task in tasks]
            self._report.tasks += reports
            try:
                ledger = ledger_of(self._job, into)
                await_lease(ledger, self._job.claim, ledger.load, clock=self._clock, stop=self._stop, say=self._tell)
                opened(self._job, into, ledger, offer, places)
                for key in ledger.lineages():
                    state = ledger.stored(key)
                    self._acknowledgements.found(key, state.cursor if state is not None else None)
                self._tell_of_missing(into, ledger, offer)
                pairs = zip(tasks, reports, strict=True)
                found = [unit_of(self._job, task, into, ledger, report) for task, report in pairs]
                units += [*self._planned(found)]
            except UsageError as error:
                self._refused.append(error)
            except (RetryableError, StateConflictError, StateError) as error:
                self._fail(reports, error)
            except StoppedError:
                self._leave(reports)
        if self._refused:  # nothing is done with the others, and nothing is to be said of them
            self._report.tasks = [one for one in self._report.tasks if one.status is Status.FAILED]
        check_refused(self._refused)
        return units

    def _tell_of_missing(self, into: Into, ledger: Ledger, offer: Offer) -> None:
        for one in missing(self._job, into, ledger, offer):
            if one.warning is not None:
                self._warn(one.warning)
            if one.error is None:
                continue
            if isinstance(one.error, UsageError):
                self._refused.append(one.error)
                continue
            report = TaskReport(self._job.name, one.task, into.name, one.tables)
            report.cursor_from = report.cursor_to = one.cursor
            self._report.tasks.append(report)
            self._fail([report], one.error)

    def _warn(self, text: Warned) -> None:
        if text in self._report.warnings:
            return
        self._report.warnings.append(text)
        self._observer(Event(EventKind.WARNING, self._report.run_id, self._job.name, text=text))

    def _tell(self, text: str) -> None:
        self._observer(Event(EventKind.WAITING, self._report.run_id, self._job.name, text=text))

    def _planned(self, units: Sequence[Unit]) -> Iterator[Unit]:
        """Those that may run. Of many at a time the source is asked whether they have to; what is planned of a task is not kept."""
        for start in range(0, len(units), AT_ONCE):
            some = units[start : start + AT_ONCE]
            with some[0].into.looking_at([unit.task for unit in some]):
                plans = [planned(self._job, unit, self._clock.now()) for unit in some]
            for unit, found in zip(some, proved(self._job, plans, self._clock), strict=True):
                if self._may_run(unit, found):
                    unit.idle = found.settled.state if found.settled is not None and found.evidence else None
                    yield unit

    def _may_run(self, unit: Unit, found: TaskPlan) -> bool:
        """Whether nothing is known against it. A table that cannot be stored, or whose state cannot be trusted, fails alone."""
        if isinstance(found.error, UsageError):
            self._refused.append(found.error)
            return False
        if found.error is not None:
            self._fail([unit.report], found.error)
            return False
        if found.lost:
            unit.report.warnings.append(found.lost)
            self._observer(Event(EventKind.WARNING, self._report.run_id, self._job.name, unit.report, found.lost))
        if not any(change.kind == RECREATE for change in found.changes):
            # known before the task begins, and so what its first event says
            unit.report.cursor_from = unit.report.cursor_to = found.cursor
        return True

    def _to_do(self, units: Sequence[Unit]) -> list[Unit]:
        """Those of destinations that a task has something new for. Of the others no lease is taken, and so nothing is written."""
        busy = {unit.ledger for unit in units if unit.idle is None or self._job.claim.takeover}
        return [unit for unit in units if unit.ledger in busy or not self._passes_over(unit)]

    def _passes_over(self, unit: Unit) -> bool:
        """Whether it has nothing new, and still has the state of which that was proved; then it is done."""
        key, report = unit.ledger.key(unit.task.id), unit.report
        stored = unit.ledger.stored(key)
        if unit.idle is None or stored is None or stored.nonce != unit.idle.nonce:
            return False
        report.started_s = self._clock.monotonic_s()
        report.stored = AsStored(unit.into, unit.task)
        self._say(EventKind.TASK_STARTED, report)
        self._acknowledgements.saved(unit.task, key, stored.cursor)
        report.status = Status.COMPLETED
        self._say(EventKind.TASK_FINISHED, report)
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

    def _work(self, unit: Unit, fence: Fence) -> None:
        report, clock = unit.report, self._clock
        if self._stop.requested:
            self._leave([report])
            return
        opened_ = Opened(self._job, unit.into, unit.ledger, report, self._acknowledgements)
        report.started_s = clock.monotonic_s()
        with self._writers[unit.into.name]:
            perform(self._work_of(unit, fence), opened_, observer=self._observer, clock=clock, stop=self._stop)

    def _work_of(self, unit: Unit, fence: Fence) -> Work:
        return Work(
            task=unit.task,
            fence=fence,
            context=self._context,
            refresh=self._job.refresh(unit.task),
            may_migrate=unit.into.may_migrate,
            share_max=unit.into.share_max,
            spec=self._job.spec,
            saved=self._acknowledgements.known(unit.task.id),
        )

    def _say(self, kind: EventKind, report: TaskReport) -> None:
        self._observer(Event(kind, self._report.run_id, self._job.name, report))
