"""What a source and a destination have to say before a person moves a cursor: where it would be, and what is read again."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from strandline.destination import WriteMode
from strandline.engine.answer import answered
from strandline.engine.delivery import delivery
from strandline.engine.into import Into
from strandline.engine.job import Job, offer_of
from strandline.errors import StrandlineError, UsageError
from strandline.message import Cursor
from strandline.source import Rewinds, Task
from strandline.state import State, StateKey

__all__ = ["Again", "Asked", "Move", "foreseen"]

_ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class Again:
    """What a pass from another cursor reads again."""

    rows: int | None
    """About how many."""
    unknown: str = ""
    """Why nobody knows how many, in words."""


@dataclass(frozen=True, slots=True)
class Move:
    """What is asked for, of one destination."""

    key: StateKey
    before: State
    cursor: Cursor | None
    """``None``: it is discarded."""
    appends: bool
    """Whether rows that are read again are stored again."""
    again: Again
    delivery: str
    """What is promised, as `plan` says it; empty: the source does not say what it is about."""


class Asked:
    """A job's source, asked for people: what it cannot say now is no reason not to move a cursor."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def rewound(self, key: StateKey, cursor: Cursor | None, to: str | timedelta) -> Cursor:
        """See ``strandline.source.Rewinds``.

        Raises:
            UsageError: there is no such place, or the source has no word for it.
            StrandlineError: the source cannot be asked.
        """
        source = self._job.source
        if not isinstance(source, Rewinds):
            raise UsageError(
                f"source {key.source!r} does not know where a cursor was, but for the history",
                hint="--to-time, or `strandline state restore --version`",
            )
        if isinstance(self._offered, StrandlineError):
            raise self._offered
        task = self._task(key.task)
        if task is None or cursor is None:
            raise UsageError(
                f"{key}: {'there is no such task any more' if task is None else 'it has no cursor, and is read in full'}"
            )
        return answered(lambda: source.rewound(task, cursor, to), of=_named(key), within_s=_ANSWER_S)

    def between(self, key: StateKey, earlier: Cursor | None, later: Cursor | None) -> Again:
        """About what a pass from ``earlier`` reads of what ``later`` covers; ``None`` is from nothing."""
        source = self._job.source
        if isinstance(self._offered, StrandlineError):
            return Again(None, f"the source cannot be asked: {self._offered.message}")
        task = self._task(key.task)
        if task is None:
            return Again(None, "the source does not offer it any more")
        if earlier is None or later is None:
            known = [table.rows_about for table in task.tables]
            whole = earlier is None and task.partition is None and None not in known
            return Again(sum(one or 0 for one in known)) if whole else Again(None, "it is read from nothing")
        if earlier == later:
            return Again(0)
        if not isinstance(source, Rewinds):
            return Again(None, "this source has no estimate")
        try:
            rows = answered(lambda: source.rows_between(task, earlier, later), of=_named(key), within_s=_ANSWER_S)
        except StrandlineError as error:
            return Again(None, error.message)
        return Again(rows, "" if rows is not None else "to know how many, one would have to read them")

    def delivery(self, task: str, into: Into) -> str:
        """What is promised of it in a destination, as `plan` says it; empty where the source does not offer it."""
        found = self._task(task)
        if found is None:
            return ""
        into, able = into.of(found), into.destination.capabilities.delivery
        return delivery(found.tables, into.mode, able, keeps_cursor=not self._job.stateless)

    def _task(self, name: str) -> Task | None:
        offered = self._offered
        return None if isinstance(offered, StrandlineError) else offered.get(name)

    @cached_property
    def _offered(self) -> dict[str, Task] | StrandlineError:
        try:
            return {task.id: task for task in offer_of(self._job).tasks}
        except StrandlineError as error:
            return error


def _named(key: StateKey) -> str:
    return f"source {key.source!r}"


def foreseen(asked: Asked, into: Into, key: StateKey, before: State, cursor: Cursor | None) -> Move:
    """What follows from another cursor."""
    again = asked.between(key, cursor, before.cursor)
    return Move(key, before, cursor, _appends(before, into), again, asked.delivery(key.task, into))


def _appends(before: State, into: Into) -> bool:
    """As its rows were written; the spec may give a table a mode of its own."""
    modes = {table.basis["write_mode"] for table in before.tables.values() if "write_mode" in table.basis}
    return WriteMode.APPEND in (modes or {into.mode})
