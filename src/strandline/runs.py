"""What a run did: events while it goes on, a report when it ends."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from strandline.errors import (
    LockedError,
    StateConflictError,
    StateError,
    StrandlineError,
    UnreachableError,
    UsageError,
)
from strandline.logs import as_json, redact
from strandline.message import Cursor
from strandline.parted import Parted, plain
from strandline.table import Table
from strandline.warned import Warned

__all__ = [
    "RUNS",
    "Event",
    "EventKind",
    "Observer",
    "RunReport",
    "RunStore",
    "Status",
    "TaskReport",
    "append_record",
    "describe_cursor",
    "signal_name",
]

EXIT_BUG = 70
_CURSOR_CHARS_MAX = 1_000
"""A longer cursor is not written down as it is; of a hundred thousand files it has megabytes."""
RUNS = Path(".cq/runs")
"""Where a project has its log of runs."""
_RUNS_BYTES_MAX = 8 << 20
_RECORD = {"run_id", "source", "seconds", "exit_code", "stopped_by", "error", "warnings", "tasks"}
_TASK_RECORD = {
    "task",
    "destination",
    "status",
    "rows_written",
    "seconds",
    "cursor_from",
    "cursor_to",
    "error",
    "warnings",
}


class EventKind(StrEnum):
    """What can be said of a run while it goes on."""

    RUN_STARTED = "run_started"
    TASK_STARTED = "task_started"
    COMMITTED = "committed"
    WARNING = "warning"
    WAITING = "waiting"
    """For another run, or process, to end; only while it goes on, so that no report has it."""
    RETRY = "retry"
    TASK_FINISHED = "task_finished"
    RUN_FINISHED = "run_finished"


class Status(StrEnum):
    """How a task ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    """Before its pass was complete: by a signal, or since another run has taken over. What was committed is kept."""


@dataclass(slots=True)
class TaskReport:
    """One task into one destination. Written by the task's thread; read by anyone."""

    source: str
    task: str
    destination: str
    tables: tuple[str, ...]
    guarantee: str = ""
    limits: str = ""
    delivery: str = ""
    """What the destination promises of rows that come again, as ``plan`` says it."""
    status: Status = Status.RUNNING
    rows_about: int = 0
    """About how many rows its tables have, where the source knows; 0: it does not."""
    rows_read: int = 0
    rows_by_table: Counter[str] = field(default_factory=Counter)
    """Of the rows read, how many were of each of its tables; of none: it is missing."""
    rows_written: int = 0
    """Rows that the destination took, less those it knew already. In the overwrite modes a row read again counts."""
    rows_reread: int = 0
    """Of the rows read by a pass that went on from a cursor, those in the re-read region: around the cursor, in the
    future, or without a key. 0 in a pass that began from nothing."""
    rows_known: int = 0
    """Of the rows read, those already stored, and so not stored again (append mode)."""
    rows_unsure: int = 0
    """Of the rows written, those that were stored before, maybe as they are: all of a table that is read in full once
    more, and the re-read region, in the overwrite modes. In append mode it is known, and this 0."""
    rows_rejected: int = 0
    rows_deleted: int = 0
    windows: int = 0
    full: bool = False
    """Whether the pass read the table from nothing."""
    cursor_from: Cursor | None = None
    cursor_to: Cursor | None = None
    started_s: float = 0.0
    seconds: float = 0.0
    statement_s: float = 0.0
    """The longest that one statement was open at the source, and its snapshot with it; 0: the source does not tell."""
    warnings: list[Warned] = field(default_factory=list)
    error: StrandlineError | None = None
    bug: bool = False
    stored: Mapping[str, Table] = field(default_factory=dict, repr=False)
    """Its tables as the destination has them, by the names that the source gives them."""

    def held(self, seconds: float) -> None:
        """A statement was open at the source for so long. From the reader's thread."""
        self.statement_s = max(self.statement_s, seconds)

    @property
    def begun(self) -> bool:
        """Whether its work was begun, or it was stopped, locked out or refused before."""
        return bool(self.started_s or self.windows)

    @property
    def name(self) -> str:
        """The task as a person would say it."""
        return f"{self.source}/{self.task} → {self.destination}"

    def record(self) -> dict[str, Any]:
        """JSON values, for the summary file and the run store. Of a long cursor they have only ``shown``, for people."""
        skipped = {"error", "started_s", "stored"}
        record = {name: value for name, value in _shallow(self).items() if name not in skipped}
        error = self.error
        record["error"] = None if error is None else {"kind": type(error).__name__, "message": error.message}
        record |= {name: _brief(record[name]) for name in ("cursor_from", "cursor_to")}
        record |= {"seconds": round(self.seconds, 3), "statement_s": round(self.statement_s, 3)}
        return record | {"warning_codes": [one.code for one in self.warnings]}


def signal_name(number: int | None) -> str | None:
    """``SIGINT``, say."""
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shallow(report: TaskReport) -> dict[str, Any]:
    return {name: getattr(report, name) for name in TaskReport.__dataclass_fields__}


@dataclass(slots=True)
class RunReport:
    """One execution of one source."""

    run_id: str
    source: str
    started_at: datetime
    tasks: list[TaskReport] = field(default_factory=list)
    seconds: float = 0.0
    signal: int | None = None
    """The signal that stopped the run, if one did."""
    error: StrandlineError | None = None
    """What ended the run before or beside its tasks."""
    shard: str = ""
    """Which tasks it had, ``3/16``; empty: all."""
    warnings: list[Warned] = field(default_factory=list)
    """What concerns no task of this run, as a table that the source offers no longer."""

    @property
    def name(self) -> str:
        """What was run, as a person would say it."""
        return f"{self.source}, shard {self.shard}" if self.shard else self.source

    @property
    def exit_code(self) -> int:
        """0 exactly when every task completed and committed with no row rejected."""
        errors = [task.error for task in self.tasks if task.error is not None]
        if self.error is not None:
            errors.append(self.error)
        if any(task.bug for task in self.tasks):
            return EXIT_BUG
        if isinstance(self.error, UsageError):  # nothing was touched
            return self.error.exit_code
        if any(isinstance(error, StateError) for error in errors):
            return StateError.exit_code
        if any(isinstance(error, StateConflictError | LockedError) for error in errors):
            return StateConflictError.exit_code
        if self.error is not None:
            return self.error.exit_code
        if self.signal is not None:
            return 128 + self.signal
        done = [task for task in self.tasks if task.status is Status.COMPLETED]
        if errors and not done and all(isinstance(error, UnreachableError) for error in errors):
            return UnreachableError.exit_code
        return 0 if len(done) == len(self.tasks) and not any(task.rows_rejected for task in self.tasks) else 1

    def record(self) -> dict[str, Any]:
        """JSON values: one line of the summary file."""
        return {
            "run_id": self.run_id,
            "source": self.source,
            "shard": self.shard or None,
            "started_at": self.started_at.isoformat(),
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
            "stopped_by": signal_name(self.signal),
            "error": self.error and {"kind": type(self.error).__name__, "message": self.error.message},
            "warnings": list(self.warnings),
            "warning_codes": [one.code for one in self.warnings],
            "tasks": [task.record() for task in self.tasks],
        }


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened. ``report`` is the live report of the task, or ``None`` for events of the run."""

    kind: EventKind
    run_id: str
    source: str
    report: TaskReport | None = None
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """Of a warning; see ``strandline.warned``."""
        return self.text.code if isinstance(self.text, Warned) else ""


Observer: TypeAlias = Callable[[Event], None]
"""Called from any thread of the engine; must be quick and must not raise."""


def describe_cursor(cursor: Cursor | None, *, width_max: int = 60) -> str:
    """A cursor for people: ``–`` for none, the single value of a one-field cursor, else compact JSON, cut to width."""
    if cursor is None:
        return "–"
    shown = cursor["shown"] if "shown" in cursor else plain(cursor)
    text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= width_max else text[: width_max - 1] + "…"


def _brief(cursor: Cursor | None) -> Cursor | None:
    """A cursor as it is, or what people see of one that is long."""
    if cursor is None or not _is_long(cursor):
        return plain(cursor)
    return {"shown": describe_cursor(cursor, width_max=_CURSOR_CHARS_MAX)}


def _is_long(cursor: Cursor) -> bool:
    parts = [part for value in cursor.values() if isinstance(value, Parted) for part in value.parts]
    if sum(map(len, parts)) > _CURSOR_CHARS_MAX:
        return True
    return len(json.dumps(plain(cursor), ensure_ascii=False)) > _CURSOR_CHARS_MAX


class RunStore:
    """The reports of past runs: one JSON line each in ``runs.jsonl`` of a directory. Never needed for correctness.

    Once that has 8 MiB it becomes ``runs.1.jsonl``, in the place of the one before.
    """

    def __init__(self, directory: Path) -> None:
        self._path, self._former = directory / "runs.jsonl", directory / "runs.1.jsonl"

    def add(self, report: RunReport) -> None:
        """Append a report; a reader may meet a last line that is torn by a crash, and skips it."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._path.exists() and self._path.stat().st_size >= _RUNS_BYTES_MAX:
            self._path.replace(self._former)  # whoever appends to it just then does so under its new name
        append_record(self._path, report)

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """The records that are still there, oldest first, and how many lines are none."""
        records, unreadable = [], 0
        for path in (self._former, self._path):
            for line in path.read_bytes().splitlines() if path.exists() else ():
                try:
                    record = json.loads(line)
                    datetime.fromisoformat(record["started_at"])
                    if not (record.keys() >= _RECORD and all(task.keys() >= _TASK_RECORD for task in record["tasks"])):
                        raise KeyError
                except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                    unreadable += 1
                else:
                    records.append(record)
        return records, unreadable


def append_record(path: Path, report: RunReport) -> None:
    """Append a report as a line of JSON. A line that a crash or a full disk has torn is ended first."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(_line(report))


def _line(report: RunReport) -> bytearray:
    """``report.record()`` as a line of JSON; of ten thousand tasks, only one at a time is there in another form, too."""
    mask, line = cache(redact), bytearray()
    head = replace(report, tasks=[]).record() | {"exit_code": report.exit_code}
    del head["tasks"]
    line += as_json(head, mask=mask).removesuffix("}").encode() + b', "tasks": ['
    for at, task in enumerate(report.tasks):
        line += b", " * bool(at) + as_json(task.record(), mask=mask).encode()
    line += b"]}\n"
    return line
