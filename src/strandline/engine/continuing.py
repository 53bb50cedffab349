"""A source goes on where another tool has stopped: its cursor becomes the first state of a lineage."""

from datetime import datetime

from strandline.engine.administer import leased, loaded
from strandline.engine.clock import Clock
from strandline.engine.job import Job, offer_of
from strandline.errors import UsageError
from strandline.source import Continues
from strandline.state import State, StateKey
from strandline.state_format import check_cursor

__all__ = ["continue_from"]


def continue_from(job: Job, table: str, value: str, *, note: str, now: datetime) -> list[StateKey]:
    """Save the first cursor of the task that has ``table``, in each destination: where another tool's ``value`` has ended.

    The destination's own state comes first, then the backend's.

    Raises:
        UsageError: the source has no such table, does not know the value, or has a state of the task already.
        LockedError: a run holds the lease.
    """
    source = job.source
    task = next((one for one in offer_of(job).tasks if table in {each.name for each in one.tables}), None)
    if task is None:
        raise UsageError(f"source {job.name!r} has no table {table!r} that can be read")
    if task.partition is not None:
        raise UsageError(
            f"{task.id}: it is one of several partitions, and a cursor of another tool does not say of which"
        )
    if not isinstance(source, Continues):
        raise UsageError(f"source {job.name!r} does not know the cursors of other tools", hint="sync it from nothing")
    cursor = source.continued(task, value)
    ledgers = [ledger for _, ledger in loaded(job)]
    for ledger in ledgers:
        key = ledger.key(task.id)
        check_cursor(key, cursor)
        before = ledger.stored(key) or ledger.mirrored(key)
        if before is not None and not before.is_blank:
            raise UsageError(
                f"{key}: there is a state already",
                hint=f"strandline state reset {key.source!r} {key.task!r} discards it; nothing was imported",
            )
    keys = []
    for ledger in ledgers:
        key = ledger.key(task.id)
        with leased(job, ledger, note, Clock()) as fence:
            before = ledger.stored(key) or State(None, fence.epoch, 0, note)
            first = before.following(run_id=note, epoch=fence.epoch, now=now, cursor=cursor, note=note)
            ledger.save(key, first)
        keys.append(key)
    return keys
