"""What is planned for one task, in words: how it is read, from where, and what would change."""

from collections.abc import Mapping
from dataclasses import dataclass

from strandline.cli._grouping import bare
from strandline.describe import TellsHow, how_by
from strandline.destination import BY_REFRESH, Reach, WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.task_plan import TaskPlan
from strandline.errors import UsageError
from strandline.runs import describe_cursor
from strandline.shard import Shard
from strandline.source import Source
from strandline.table import Table

__all__ = ["CANNOT_RUN", "Words", "notes_of"]

CANNOT_RUN = "cannot run"
_CELL_MAX, _CURSOR_MAX = 40, 1_000
"""Characters of a cursor in a table, and where there is room."""
_COLUMNS_MAX = 6
"""Columns that are named in a table; of more, how many there are."""


_TURNS = (
    "shards: one process at a time can have it open, so that shards cannot run at once; each waits for the one before with "
    "--wait-lock, or ends with exit code 4; one run of all tables does the same in less time"
)
_ONE_MACHINE = "shards: it lies on one machine; runs of other shards there write it in turns, a commit each"
_OF_SHARDS = {Reach.HOST: _ONE_MACHINE, Reach.FILE: _ONE_MACHINE, Reach.PROCESS: _TURNS}
_HERE = "executor: all of its tasks, reading included, are done by this one process, since "
_WHY_HERE = {
    Reach.HOST: "it lies on this machine",
    Reach.FILE: "it is one file",
    Reach.PROCESS: "only one process can have it open",
    Reach.ANYWHERE: "no cursor is kept, where a worker could go on",
}


def notes_of(job: Job, into: Into) -> list[str]:
    """What is to be known of a destination where several runs, of a shard each, or several workers would write it at once."""
    reach, notes = into.destination.capabilities.reach, list[str]()
    if job.shard is not None and job.shard.count > 1 and reach in _OF_SHARDS:
        notes.append(_OF_SHARDS[reach])
    if job.executor is not None and job.executor.is_elsewhere and job.is_done_here(into):
        notes.append(_HERE + _WHY_HERE[reach])
    return notes


@dataclass(frozen=True, slots=True)
class Words:
    """See above."""

    plan: TaskPlan
    source: Source
    known: Mapping[str, Table]
    """The source's tables, by name."""
    shard: Shard | None = None
    """Which of them are planned; ``None``: all."""

    @property
    def mode(self) -> str:
        """How it is read, in one or two words."""
        one = self.plan
        if one.problem:
            return CANNOT_RUN if one.error is not None else "left out"
        if one.refresh or one.backfill:
            return "full refresh" if one.refresh else "backfill"
        return "incremental" if self._is_incremental else "in full"

    @property
    def problems(self) -> list[tuple[str, str]]:
        """What is wrong, in words, each with what to do; nothing, where it can run."""
        error, names = self.plan.error, (str(self.plan.key), self.plan.key.task, *self.plan.tables)
        if error is None:
            return [(bare(self.plan.left_out, names), "")] if self.plan.left_out else []
        if not isinstance(error, UsageError):
            return [(bare(error.message, names), error.hint)]
        return [(bare(one.message, names) + (f" ({one.where})" if one.where else ""), one.hint) for one in error.each()]

    @property
    def found_by(self) -> str:
        """How changes are found: ``by updated_at (lag: 5m)``; empty: they are not looked for."""
        if self.plan.problem or self.plan.refresh or not self._is_incremental:
            return ""
        return ", ".join(dict.fromkeys(map(self._how, self._tables)))

    @property
    def start(self) -> str:
        """From where it is read, for a cell of a table."""
        one = self.plan
        if one.problem:
            return ""
        start = "everything"
        if one.cursor is not None and self._is_incremental:
            at = describe_cursor(one.cursor, width_max=_CELL_MAX)
            start = at if self._moved else "the beginning"
        elif self.mode == "incremental":
            start += " (first sync)"
        return f"{start}, resumed" if one.resumed else start

    @property
    def changes(self) -> str:
        """What would change at the destination, for a cell of a table."""
        if self.plan.problem:
            return ""
        columns: dict[tuple[str, str, str], list[str]] = {}
        for one in self.plan.changes:
            of = "" if len(self.plan.tables) == 1 else f"{one.table}: "
            later = " by the full refresh" if one.kind in BY_REFRESH else ""
            columns.setdefault((of, one.kind.replace("_", " "), later), []).extend([one.column] if one.column else [])
        said = []
        for (of, kind, later), names in columns.items():
            what = f"{kind} {', '.join(names)}".rstrip()
            if len(names) > _COLUMNS_MAX and kind.endswith(" column"):
                what = f"{kind.removesuffix('column')}{len(names)} columns"
            said.append(f"{of}{what}{later}")
        return "; ".join(said) or "nothing"

    @property
    def sentence(self) -> str:
        """By which key, with which settings, and from where."""
        one = self.plan
        if one.refresh:
            return "a full refresh beside the table, which replaces its rows when complete"
        resumed = ["resuming an interrupted pass"] if one.resumed else []
        if not self._is_incremental:
            return ", ".join(["read in full at every sync", *resumed])
        if one.backfill:
            return "everything once more, to fill new columns (`backfill`)"
        start = "the first sync reads everything"
        if one.cursor is not None:
            start = (
                f"from cursor {describe_cursor(one.cursor, width_max=_CURSOR_MAX)}"
                if self._moved
                else "from the beginning again"
            )
        how = [
            f"incrementally {self._how(table)}".rstrip() if table.incremental else self._how(table)
            for table in self._tables
        ]
        unread = [f"not read now: {one.evidence}"] if one.evidence else []
        return ", ".join([*dict.fromkeys(how), start, *resumed, *unread])

    @property
    def _tables(self) -> list[Table]:
        return [self.known[name] for name in self.plan.tables if name in self.known]

    @property
    def _is_incremental(self) -> bool:
        return any(table.incremental for table in self._tables)

    @property
    def _moved(self) -> bool:
        """One that could not move yet shows nothing."""
        return describe_cursor(self.plan.cursor) != describe_cursor(None)

    def _how(self, table: Table) -> str:
        if not table.incremental:
            return f"{table.name} in full"
        if isinstance(self.source, TellsHow):
            return self.source.how(table, mirror=self.plan.mode is WriteMode.OVERWRITE_DELETE_STALE)
        return how_by(", ".join(table.incremental_key), {})
