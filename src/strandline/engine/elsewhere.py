"""Tasks that a crew does: who is given what, what is heard of it, and what becomes of the task of a worker that is lost.

A worker that is lost may be at work, unseen. So whoever goes on in its stead does so under an epoch of its own for this lineage, above
the run's, and claims it before the first row: from then on the lost one's token is another, and in a store that knows windows again its epoch
is an older one. The epoch in ``@run`` stays, so that no other worker is fenced out.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from strandline.engine.clock import Clock
from strandline.engine.job import Unit
from strandline.engine.ledger import ATTEMPTS_MAX
from strandline.engine.window import Stop
from strandline.engine.work import Work
from strandline.errors import LockedError, StateConflictError, StrandlineError, TaskError, UsageError
from strandline.executor import Crew, Happening, Lost, Parcel, Said
from strandline.runs import Event, EventKind, Observer, Status, TaskReport

__all__ = ["Elsewhere", "told"]

_TRIES = 5
_SLICE_S = 0.2
"""How long is waited at once, so that signal handlers run."""
_OURS = {"source", "task", "destination", "tables", "started_s", "rows_about", "guarantee", "limits", "delivery"}
_SUMS = (
    "rows_read",
    "rows_by_table",
    "rows_written",
    "rows_reread",
    "rows_known",
    "rows_unsure",
    "rows_rejected",
    "rows_deleted",
    "windows",
)


def told(kind: EventKind, text: str, report: TaskReport) -> bytes:
    """What a worker says: an event of its task, with the report as it is then."""
    return pickle.dumps((kind, text, replace(report)))


@dataclass(slots=True)
class _Sent:
    """A task that somebody has been given."""

    work: Work
    unit: Unit
    begun: bool = False
    tries: int = 0
    """Since a cursor was saved that was not known before."""
    reached: object = None
    before: dict[str, Any] = field(default_factory=dict)
    """What those have done who were lost."""


class Elsewhere:
    """The tasks of one run that its crew does.

    Args:
        crew: does them; closed by whoever has begun it.
        pack: what a worker is sent for a work.
        observer: is told as if the tasks were done here.
        clock: for durations.
        stop: of the run.
    """

    def __init__(
        self, crew: Crew, pack: Callable[[Work], bytes], *, observer: Observer, clock: Clock, stop: Stop
    ) -> None:
        self._crew, self._pack, self._observer, self._clock, self._stop = crew, pack, observer, clock, stop
        self._open: dict[str, _Sent] = {}
        self._number = 0

    def run(self, works: Sequence[tuple[Work, Unit]]) -> None:
        """Until all of them are done, have failed or are stopped; the units' reports say so. Never raises a ``StrandlineError``."""
        for work, unit in works:
            self._send(_Sent(work, unit))
        asked = False
        while self._open:
            if self._stop.requested and not asked:
                self._crew.ask_to_stop()
                asked = True
            for happened in self._crew.events(_SLICE_S):
                self._hear(happened)

    def _send(self, sent: _Sent) -> None:
        try:
            content = self._pack(sent.work)
        except StrandlineError as error:
            self._end(sent, error)
            return
        except Exception as error:  # noqa: BLE001 -- whatever a source's payload raises when it is pickled
            text = f"the task cannot be sent to a worker: {type(error).__name__}: {error}"
            self._end(sent, UsageError(text, hint="use the executor `threads` for this source"))
            return
        self._number += 1
        parcel = Parcel(f"{sent.work.context.run_id}-{self._number}", content)
        self._open[parcel.id] = sent
        self._crew.submit(parcel)

    def _hear(self, happened: Happening) -> None:
        sent = self._open.get(happened.parcel)
        if sent is None:
            return
        if isinstance(happened, Said):
            kind, text, report = pickle.loads(happened.content)  # noqa: S301 -- from a worker of ours
            self._merge(sent, report)
            self._say(sent, kind, text)
            return
        del self._open[happened.parcel]
        if isinstance(happened, Lost):
            self._again(sent, f"a worker was lost: {happened.why}")
            return
        self._merge(sent, pickle.loads(happened.content))  # noqa: S301 -- from a worker of ours
        error = sent.unit.report.error
        if isinstance(error, StateConflictError):
            if not isinstance(error, LockedError) and self._is_ours(sent):
                sent.unit.report.error = None
                self._again(sent, error.message)
                return
            self._stop.fence()
        self._say(sent, EventKind.TASK_FINISHED)

    def _is_ours(self, sent: _Sent) -> bool:
        """Whether the run goes on all the same: whoever has written was one of its own that had been lost."""
        try:
            return not sent.unit.ledger.is_overtaken(sent.work.fence)
        except StrandlineError:
            return False

    def _again(self, sent: _Sent, why: str) -> None:
        report = sent.unit.report
        if self._stop.requested:
            report.status = Status.STOPPED
            self._say(sent, EventKind.TASK_FINISHED)
            return
        sent.tries = 1 if report.cursor_to != sent.reached else sent.tries + 1
        sent.reached = report.cursor_to
        lost = sent.work.attempt + 1
        if sent.tries >= _TRIES or lost >= ATTEMPTS_MAX:
            hint = "look after the workers: their memory, above all; the next sync goes on from the last saved cursor"
            times = f"{_TRIES} times at the same cursor" if sent.tries >= _TRIES else f"{lost} times"
            self._end(sent, TaskError(f"{why}, {times}", hint=hint))
            return
        sent.before = {name: getattr(report, name) for name in _SUMS}
        self._say(sent, EventKind.RETRY, f"{why}; another one goes on")
        sent.work = replace(sent.work, attempt=lost)
        self._send(sent)

    def _end(self, sent: _Sent, error: StrandlineError) -> None:
        report = sent.unit.report
        report.status, report.error = Status.FAILED, error
        self._say(sent, EventKind.TASK_FINISHED)

    def _merge(self, sent: _Sent, theirs: TaskReport) -> None:
        """What a worker tells, in the report of the run: as if one had done all of it."""
        report, kept = sent.unit.report, sent.unit.report.cursor_from
        saved = report.cursor_to
        for one in fields(TaskReport):
            if one.name not in _OURS:
                more = sent.before.get(one.name)
                value = getattr(theirs, one.name)
                setattr(report, one.name, value if more is None else value + more)
        if sent.work.attempt:
            report.cursor_from = kept
            if theirs.cursor_to is None:  # it has not looked yet
                report.cursor_to = saved
        report.seconds = self._clock.monotonic_s() - report.started_s if sent.begun else 0.0

    def _say(self, sent: _Sent, kind: EventKind, text: str = "") -> None:
        if kind is EventKind.TASK_STARTED:
            if sent.begun:
                return
            sent.begun, sent.unit.report.started_s = True, self._clock.monotonic_s()
        context = sent.work.context
        self._observer(Event(kind, context.run_id, context.source_name, sent.unit.report, text))
