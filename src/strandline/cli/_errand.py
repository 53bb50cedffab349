"""What a worker is sent: one task of a run, and how it is done there."""

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from strandline.cli._jobs import carried_out
from strandline.engine.elsewhere import told
from strandline.engine.window import Stop
from strandline.engine.work import Work
from strandline.errors import StrandlineError
from strandline.runs import Event, EventKind, Status, TaskReport

__all__ = ["Errand", "packed"]

_POLL_S = 0.2
_SIGTERM = 15


@dataclass(frozen=True, slots=True)
class Errand:
    """See ``strandline.executor.carry_out``."""

    work: Work

    def __call__(self, say: Callable[[bytes], None], asked: Callable[[], bool]) -> bytes:
        """Do it; the report, pickled. Never raises a ``StrandlineError``: it is in the report."""
        fence, task = self.work.fence, self.work.task
        report = TaskReport(fence.source, task.id, fence.destination, tuple(one.name for one in task.tables))
        if asked():
            report.status = Status.STOPPED
            return pickle.dumps(report)

        def heard(event: Event) -> None:
            if event.report is not None and event.kind is not EventKind.TASK_FINISHED:
                say(told(event.kind, event.text, event.report))

        try:
            with _watching(asked) as stop:
                report = carried_out(self.work, observer=heard, stop=stop)
        except StrandlineError as error:
            report.status, report.error = Status.FAILED, error
        return pickle.dumps(report)


def packed(work: Work) -> bytes:
    """What a worker is sent."""
    return pickle.dumps(Errand(work))


@contextmanager
def _watching(asked: Callable[[], bool]) -> Iterator[Stop]:
    """A stop that is set once the run asks."""
    stop, ended = Stop(), threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_S):
            if asked():
                stop.set(_SIGTERM)
                return

    thread = threading.Thread(target=watch, name="asked to stop", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        ended.set()
        thread.join()
