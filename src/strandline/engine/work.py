"""One task into one destination, as a value: what whoever does it needs to know, here or in another process.

The run that has looked at everything and holds the fence makes a ``Work`` for each task and destination, and does it, by
``perform``. Another process that has the spec's plugins, and the variables that it names, can do it as well: ``Work`` is pickled,
and holds nothing that is open and no secret (ADR 47).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from strandline.destination import Fence
from strandline.engine.acknowledgement import Acknowledgements
from strandline.engine.clock import Clock
from strandline.engine.into import Into
from strandline.engine.job import Job, ledger_of, report_of
from strandline.engine.ledger import Ledger
from strandline.engine.task import TaskRun
from strandline.engine.window import Stop, StoppedError
from strandline.errors import MACHINE, StateConflictError, StrandlineError, TaskError
from strandline.message import Cursor
from strandline.runs import Event, EventKind, Observer, Status, TaskReport
from strandline.source import RunContext, Task
from strandline.spec import Written
from strandline.state import StateKey
from strandline.warned import Code, Warned

__all__ = ["Opened", "Work", "perform"]


@dataclass(frozen=True, slots=True)
class Work:
    """What one task in one destination is to be brought up to date with."""

    task: Task
    """With what the source has decided once for the whole run."""
    fence: Fence
    """Under which epoch; it names source and destination."""
    context: RunContext
    """The run, when it began, and the bounds of batches."""
    refresh: bool = False
    """Whether the task is read again from nothing."""
    may_migrate: bool = True
    share_max: float | None = 0.5
    """See ``Scope.share_max``."""
    spec: Written | None = field(default=None, repr=False)
    """From which another process opens the plugins; ``None``: the run was made of objects."""
    saved: Mapping[str, Cursor] = field(default_factory=dict)
    """What each destination had saved of the task when the work was begun, by name: what the source may be told."""
    attempt: int = 0
    """How many workers that had it were lost. They may be at work, unseen, so that this one keeps them out: by an epoch of
    the lineage that is so much above the run's, under which it is claimed."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What is open in this process for a ``Work``."""

    job: Job
    into: Into
    ledger: Ledger
    report: TaskReport
    acknowledgements: Acknowledgements

    @classmethod
    def elsewhere(cls, work: Work, job: Job) -> "Opened":
        """In a process that has not looked at the lineages, of a run that goes on in another one.

        Raises:
            StateConflictError: that run was overtaken.
        """
        (into,) = (one.of(work.task) for one in job.into if one.name == work.fence.destination)
        ledger = ledger_of(job, into)
        ledger.load()
        ledger.join(work.fence, work.task.id, attempt=work.attempt)
        acknowledgements = Acknowledgements(job.source, [one.name for one in job.into])
        for (
            name,
            cursor,
        ) in work.saved.items():  # of the other destinations nobody asks again: they may be open elsewhere
            acknowledgements.found(StateKey(job.name, work.task.id, name), cursor)
        state = ledger.stored(ledger.key(work.task.id))
        acknowledgements.found(ledger.key(work.task.id), state.cursor if state is not None else None)
        return cls(job, into, ledger, report_of(job, work.task, into), acknowledgements)


def perform(work: Work, opened: Opened, *, observer: Observer, clock: Clock, stop: Stop) -> None:
    """Bring the task up to date, and say in ``opened.report`` what came of it. Never raises a ``StrandlineError``."""
    report, job = opened.report, opened.job
    run = TaskRun(
        task=work.task,
        source=job.source,
        into=opened.into,
        ledger=opened.ledger,
        fence=replace(work.fence, epoch=work.fence.epoch + work.attempt),
        context=work.context,
        report=report,
        observer=observer,
        clock=clock,
        stop=stop,
        refresh=work.refresh,
        stateless=job.stateless,
        retries=job.retries,
        acknowledgements=opened.acknowledgements,
    )

    def say(kind: EventKind) -> None:
        observer(Event(kind, work.context.run_id, work.context.source_name, report))

    say(EventKind.TASK_STARTED)
    try:
        run.run()
        report.status = Status.COMPLETED if run.done else Status.STOPPED
    except StoppedError as error:
        report.status = Status.STOPPED
        report.warnings += [Warned(Code.STOPPED, error.message)] if error.message else []
    except StrandlineError as error:
        report.status, report.error = Status.FAILED, error
        if isinstance(error, StateConflictError):
            stop.fence()
    except Exception as error:  # noqa: BLE001 -- the one place where a bug is turned into a failed task
        report.status, report.bug = Status.FAILED, not (isinstance(error, OSError) and error.errno in MACHINE)
        report.error = _bug(error) if report.bug else _of_machine(cast("OSError", error))
        report.error.__cause__ = error
    report.seconds = clock.monotonic_s() - report.started_s
    say(EventKind.TASK_FINISHED)


def _bug(error: Exception) -> TaskError:
    return TaskError(f"a bug: {type(error).__name__}: {error}", hint="please report it (--debug shows where)")


def _of_machine(error: OSError) -> TaskError:
    place = f"{error.filename}: " if error.filename else ""
    return TaskError(f"{place}{error.strerror}", hint=MACHINE[error.errno or 0])
