"""Selected tables and tasks that a sync does not read: they cannot be read, or are offered no longer. None is left out silently."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job, Offer
from strandline.engine.ledger import Ledger
from strandline.engine.plan import is_unfinished, refreshed_task
from strandline.errors import NothingYetError, StateError, StrandlineError, TaskError, UsageError
from strandline.message import Cursor
from strandline.source import MissesTasks, TaskFailure
from strandline.state import State, StateKey
from strandline.table import Table
from strandline.warned import Code, Warned

__all__ = ["Missing", "missing"]


@dataclass(frozen=True, slots=True)
class Missing:
    """One that is not read."""

    task: str
    tables: tuple[str, ...]
    warning: Warned | None = None
    """What is said of it, where that is enough."""
    error: StrandlineError | None = None
    """With which it fails, otherwise."""
    cursor: Cursor | None = None


def missing(job: Job, into: Into, ledger: Ledger, offer: Offer) -> Iterator[Missing]:
    """What one destination is not brought up to date in. The ledger is loaded."""
    unread = {table.name: table for table in offer.unreadable}
    yield from (_failed(ledger, one) for one in offer.failed)
    known = {task.id for task in offer.tasks} | {one.id for one in offer.failed}
    for key in ledger.lineages():
        state = ledger.stored(key) or ledger.mirrored(key)
        refreshed = refreshed_task(key.task)
        if state is None or (refreshed or key.task) in known:
            continue
        lost = [unread.pop(name) for name in state.tables if name in unread and refreshed is None]
        if not job.owns(refreshed or key.task):
            continue
        if refreshed is not None and is_unfinished(state):
            text = (
                f"{key}: a full refresh of {refreshed!r} was interrupted, and is not gone on with here; the next sync of "
                f"{refreshed!r} finishes it; to drop it: strandline state reset {job.name!r} {refreshed!r}"
            )
            yield Missing(key.task, (), Warned(Code.REFRESH_UNFINISHED, text))
        if lost:
            yield _lost(into, key, state, lost)
        elif not key.task.startswith("@"):
            yield from _offered_no_longer(job, key, state)
    for table in unread.values():
        if job.owns(table.name):
            yield _never_read(job, table)


def _lost(into: Into, key: StateKey, state: State, lost: Sequence[Table]) -> Missing:
    """What was synced and cannot be read now. Where the source has no rows of it any more, that is fine for who deletes none."""
    error = next(
        (one.unreadable for one in lost if not isinstance(one.unreadable, NothingYetError)), lost[0].unreadable
    )
    names = ", ".join(repr(one.name) for one in lost)
    if not isinstance(error, NothingYetError):
        return Missing(key.task, tuple(state.tables), error=error, cursor=state.cursor)
    modes = {into.rules(one).write_mode or into.mode for one in lost}
    stored = any(one.rows for one in state.tables.values())
    if stored and state.cursor is None and WriteMode.OVERWRITE_DELETE_STALE in modes:
        empty = TaskError(
            f"table {names}: the source has no row of it any more, and all of those that are stored would be deleted",
            hint="if that is true, declare its columns (`types`), so that it is read as an empty one; or remove it from `tables`",
        )
        return Missing(key.task, tuple(state.tables), error=empty, cursor=state.cursor)
    text = f"{key}: the source has no row of {names} now; what is stored stays as it is"
    return Missing(key.task, tuple(state.tables), Warned(Code.NOTHING_YET, text), cursor=state.cursor)


def _failed(ledger: Ledger, one: TaskFailure) -> Missing:
    key = ledger.key(one.id)
    state = ledger.stored(key) or ledger.mirrored(key)
    tables = one.tables or (tuple(state.tables) if state is not None else ())
    return Missing(one.id, tables, error=one.error, cursor=state.cursor if state is not None else None)


def _offered_no_longer(job: Job, key: StateKey, state: State) -> Iterator[Missing]:
    named = [key.task] if state.untrusted is not None else [*state.tables]
    if not any(map(job.selects, named)):
        return
    try:
        if state.untrusted is not None:
            raise state.untrusted
        if isinstance(job.source, MissesTasks):
            job.source.missing(key.task)
    except (StateError, TaskError) as error:
        yield Missing(key.task, tuple(state.tables), error=error, cursor=state.cursor)
        return
    synced_at = datetime.fromtimestamp((state.current.sync_time_us if state.current else 0) / 1e6, UTC)
    text = (
        f"{key}: the source does not offer {key.task!r} any more, which last had something new "
        f"at {synced_at:%Y-%m-%d %H:%M} UTC; its rows stay; to discard its cursor: strandline state reset {job.name!r} {key.task!r}"
    )
    yield Missing(key.task, tuple(state.tables), Warned(Code.OFFERED_NO_LONGER, text))


def _never_read(job: Job, table: Table) -> Missing:
    """Whoever asks for a table by its name gets an error; a glob takes what can be read, and the rest is named.

    What the spec says of a table has to fit it in any case.
    """
    error = table.unreadable
    if isinstance(error, NothingYetError):
        return Missing(table.name, (table.name,), Warned(Code.NOTHING_YET, f"{error.message}; {error.hint}"))
    if error is None or isinstance(error, UsageError) or table.never_left_out or job.names(table):
        return Missing(table.name, (table.name,), error=error)
    text = f"table {table.name!r} is left out: {error.message}; {error.hint}"
    return Missing(table.name, (table.name,), Warned(Code.LEFT_OUT, text))
