"""A sync that goes on: its events, how to end it, and what it did."""

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeAlias

from strandline.api.report import Report, TableReport, tables_of
from strandline.cli._progress import Lines
from strandline.engine.window import Stop
from strandline.runs import Event, EventKind, Observer, RunReport, TaskReport
from strandline.spec import Config

__all__ = ["Running", "Say"]

_POLL_S = 0.2
Say: TypeAlias = Callable[[int, str], None]
"""Is given a level of ``logging`` and a line without secrets, as the command line would log it."""


class Running:
    """A sync in a thread of its own: what ``Project.start`` gives. Leaving the block ends it, after a commit, and waits.

    ::

        with sl.load("strandline.yml").start() as running:
            for event in running:
                print(event.kind)
        print(running.report())

    Whoever iterates gets the events of all runs, one after the other. What is not fetched waits.
    """

    def __init__(
        self,
        config: Config,
        go: Callable[[Observer, Stop, list[RunReport]], None],
        say: Say | None = None,
    ) -> None:
        self._config, self._stop = config, Stop()
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._runs, self._errors = list[RunReport](), list[BaseException]()
        self._live: RunReport | None = None
        self._tasks: dict[str, list[TaskReport]] = {}
        """Of the run that goes on, by table; empty until the first one begins."""
        self._finished: set[int] = set()
        self._lines = Lines(write=say) if say is not None else None

        def guarded() -> None:
            try:
                go(self._events.put, self._stop, self._runs)
            except BaseException as error:  # noqa: BLE001 -- raised again by the one who waits
                self._errors.append(error)
            finally:
                self._events.put(None)

        self._thread = threading.Thread(target=guarded, name="sync")
        self._thread.start()

    def __iter__(self) -> Iterator[Event]:
        """Each event once, until the sync has ended."""
        while (event := self._next()) is not None:
            if event.kind is EventKind.RUN_STARTED:
                self._live, self._tasks = event.data["report"], {}
            if event.kind is EventKind.TASK_STARTED and not self._tasks:
                self._sort()
            if event.kind is EventKind.TASK_FINISHED:
                self._finished.add(id(event.report))
            if self._lines is not None:
                self._lines(event)
            yield event

    def _sort(self) -> None:
        for task in self._live.tasks if self._live is not None else ():
            for name in task.tables:
                self._tasks.setdefault(name, []).append(task)

    def _next(self) -> Event | None:
        while True:  # in slices, so that handlers of signals run
            try:
                event = self._events.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if event is None:
                self._events.put(None)  # for who asks again
            return event

    def ended(self, event: Event) -> list[TableReport]:
        """The tables that came to an end with this event of a task, in all of their tasks and destinations; each once.

        A run that fails before its tasks, and tables that were read elsewhere, are in the ``report`` only.
        """
        if event.kind is not EventKind.TASK_FINISHED or event.report is None:
            return []
        found = list[TableReport]()
        for name in event.report.tables:
            tasks = self._tasks.get(name, ())
            if all(id(task) in self._finished for task in tasks):
                found += [one for one in tables_of(tasks) if one.name == name]
        return found

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end after the current commit, as a signal does; returns at once, and may be called from a signal handler."""
        self._stop.set(number)

    def report(self, *, check: bool = True) -> Report:
        """Wait for the end; see ``strandline.sync``."""
        for _ in self:
            pass
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        report = Report(tuple(self._runs), self._config)
        return report.check() if check else report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Whatever ends the block, also what a signal raises in it: nothing goes on behind it."""
        if self._thread.is_alive():
            self.stop(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
        interrupted: BaseException | None = None
        while self._thread.is_alive():
            try:
                self._thread.join(_POLL_S)
            except BaseException as again:  # noqa: BLE001 -- raised again once the sync has ended
                self.stop(signal.SIGINT if isinstance(again, KeyboardInterrupt) else signal.SIGTERM)
                interrupted = again
        if interrupted is not None and error is None:
            raise interrupted
