"""What a sync did, and what one would do: for people, notebooks and programs."""

from collections.abc import Sequence
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
from strandline.runs import RunReport, TaskReport
from strandline.spec import Config

__all__ = ["Plan", "Report", "SyncError"]


class SyncError(StrandlineError):
    """Some tables were not brought up to date; ``report`` has all of them, ``exit_code`` is that of the command line."""

    def __init__(self, message: str, *, hint: str = "", report: "Report | None" = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report
        self.exit_code = report.exit_code if report is not None else StrandlineError.exit_code


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
