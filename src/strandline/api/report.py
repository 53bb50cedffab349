"""What a sync did, and what one would do: for people, notebooks and programs."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from html import escape
from typing import Any, NoReturn

from strandline.cli._plan_table import in_full, in_lines
from strandline.cli._plan_words import Words
from strandline.cli._summary import HEAD, cells, exit_code, summary
from strandline.destination import Readable
from strandline.errors import StrandlineError, UsageError, did_you_mean
from strandline.lazy import pa
from strandline.logs import said
from strandline.message import Cursor
from strandline.runs import RunReport, Status, TaskReport, describe_cursor
from strandline.spec import Config

__all__ = ["Plan", "Report", "SyncError", "TableReport", "tables_of"]

_CURSOR_CHARS_MAX = 1_000
_BEST_FIRST = (Status.COMPLETED, Status.STOPPED, Status.FAILED, Status.RUNNING)


class SyncError(StrandlineError):
    """Some tables were not brought up to date; ``report`` has all of them, ``exit_code`` is that of the command line."""

    def __init__(self, message: str, *, hint: str = "", report: "Report | None" = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report
        self.exit_code = report.exit_code if report is not None else StrandlineError.exit_code


@dataclass(frozen=True, slots=True)
class TableReport:
    """What a sync did with one table in one destination. Every text is without secrets.

    A task may read several tables, and a table may be read by several tasks, one for each partition.
    """

    source: str
    name: str
    """As the source calls it; ``select`` takes it."""
    destination: str
    stored: str
    """As the destination calls it; empty where it never got so far."""
    status: Status
    """The worst of its tasks."""
    rows_read: int
    rows_written: int
    """As this and the other counts, of all tables of its tasks; see ``beside``."""
    rows_known: int
    rows_deleted: int
    rows_rejected: int
    seconds: float
    cursor_from: str
    """Where its tasks began, for people; ``–``: nowhere."""
    cursor_to: str
    """Up to where every row is durable."""
    guarantee: str
    delivery: str
    """What is promised of rows that come again."""
    error: str
    hint: str
    beside: tuple[str, ...]
    """Other tables that were read by the same tasks."""

    @property
    def ok(self) -> bool:
        """Whether it was brought up to date."""
        return self.status is Status.COMPLETED and not self.rows_rejected


def tables_of(tasks: Iterable[TaskReport]) -> list[TableReport]:
    """Of these tasks, each table in each destination, in order."""
    found: dict[tuple[str, str, str], list[TaskReport]] = {}
    for task in tasks:
        for name in task.tables:
            found.setdefault((task.source, name, task.destination), []).append(task)
    return [_of_table(*key, mine) for key, mine in found.items()]


def _of_table(source: str, name: str, destination: str, tasks: Sequence[TaskReport]) -> TableReport:
    failed = [task.error for task in tasks if task.error is not None]
    stored = next((task.stored[name].name for task in tasks if name in task.stored), "")
    return TableReport(
        source=source,
        name=name,
        destination=destination,
        stored=stored,
        status=max((task.status for task in tasks), key=_BEST_FIRST.index),
        rows_read=sum(task.rows_by_table[name] for task in tasks),
        rows_written=sum(task.rows_written for task in tasks),
        rows_known=sum(task.rows_known for task in tasks),
        rows_deleted=sum(task.rows_deleted for task in tasks),
        rows_rejected=sum(task.rows_rejected for task in tasks),
        seconds=round(sum(task.seconds for task in tasks), 3),
        cursor_from=_cursors({task.task: task.cursor_from for task in tasks}),
        cursor_to=_cursors({task.task: task.cursor_to for task in tasks}),
        guarantee=" + ".join(dict.fromkeys(task.guarantee for task in tasks)),
        delivery="; ".join(dict.fromkeys(task.delivery for task in tasks)),
        error=said("; ".join(dict.fromkeys(error.message for error in failed))),
        hint=said(failed[0].hint) if failed else "",
        beside=tuple(dict.fromkeys(other for task in tasks for other in task.tables if other != name)),
    )


def _cursors(cursors: Mapping[str, Cursor | None]) -> str:
    told = {task: describe_cursor(one, width_max=_CURSOR_CHARS_MAX) for task, one in cursors.items()}
    text = next(iter(told.values())) if len(told) == 1 else ", ".join(f"{task}: {one}" for task, one in told.items())
    return said(text if len(text) <= _CURSOR_CHARS_MAX else text[: _CURSOR_CHARS_MAX - 1] + "…")


@dataclass(frozen=True)
class Report:
    """What a sync did: text in a terminal, a table in a notebook, Arrow on demand."""

    runs: tuple[RunReport, ...] = field(repr=False)
    config: Config = field(repr=False)

    @property
    def exit_code(self) -> int:
        """As the command line would end."""
        return exit_code(self.runs)

    @property
    def ok(self) -> bool:
        """Whether every table was brought up to date."""
        return self.exit_code == 0

    @property
    def tasks(self) -> list[TaskReport]:
        """One for each table or log, in each destination."""
        return [task for one in self.runs for task in one.tasks]

    @property
    def tables(self) -> list[TableReport]:
        """One for each table in each destination, whatever tasks have read it."""
        return tables_of(self.tasks)

    def record(self) -> list[dict[str, Any]]:
        """JSON values, one for each source: as ``--summary-location`` writes them."""
        return [one.record() for one in self.runs]

    def check(self) -> "Report":
        """This report.

        Raises:
            UsageError: nothing was touched.
            SyncError: not every table was brought up to date.
        """
        if not self.ok:
            self._fail()
        return self

    def _fail(self) -> NoReturn:
        error = next((one.error for one in self.runs if one.error is not None), None)
        if isinstance(error, UsageError):
            raise error
        failed = [task for task in self.tasks if task.error is not None]
        causes = [f"{task.name}: {task.error.message}" for task in failed if task.error is not None]
        first = error or next((task.error for task in failed), None)
        causes = [error.message] if error is not None else causes or ["it was stopped"]
        hint = first.hint if first is not None else ""
        raise SyncError(said("; ".join(dict.fromkeys(causes))), hint=said(hint), report=self) from first

    def arrow(self, name: str = "") -> "pa.Table":
        """The stored rows of a table, with the columns of their lineage; of the only one, where no name is given.

        Raises:
            UsageError: there is no such table, or its destination cannot show its rows.
        """
        stored = {known: (task, one) for task in self.tasks for known, one in task.stored.items()}
        if name not in stored and (name or len(stored) != 1):
            raise UsageError(
                f"no table {name!r} was synced", hint=did_you_mean(name, stored, f"there are {', '.join(stored)}")
            )
        task, wanted = stored[name] if name else next(iter(stored.values()))
        with closing(self.config.destination(task.destination).open()) as opened:
            if not isinstance(opened, Readable):
                raise UsageError(f"destination {task.destination!r} cannot show its rows")
            return pa.Table.from_batches(list(opened.read(wanted)), schema=wanted.schema)

    def __str__(self) -> str:
        return summary(self.runs)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """For notebooks."""
        rows = "".join(_row("td", cells(task)) for task in self.tasks)
        below = "\n".join(line for line in str(self).splitlines() if not line.startswith("  ") or ": " in line[:12])
        return f"<table>{_row('th', HEAD)}{rows}</table><pre>{escape(below)}</pre>"


def _row(tag: str, texts: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in texts)}</tr>"


@dataclass(frozen=True)
class Plan:
    """What a sync would do, as ``strandline plan`` prints it."""

    words: tuple[Words, ...] = field(repr=False)
    errors: tuple[StrandlineError, ...] = field(default=(), repr=False)

    @property
    def exit_code(self) -> int:
        """With which a sync would begin: 0 unless a table cannot be synced."""
        return max([0, *(one.plan.exit_code for one in self.words), *(one.exit_code for one in self.errors)])

    def in_full(self) -> str:
        """As ``plan -v`` prints it."""
        return "\n".join(in_full(self.words, width=None))

    def __str__(self) -> str:
        return "\n".join([*in_lines(self.words, width=None), *(said(one.message) for one in self.errors)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<pre>{escape(str(self))}</pre>"
