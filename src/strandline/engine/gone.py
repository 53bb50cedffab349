"""Rows that cannot be read again are dropped only for who says so."""

from collections.abc import Sequence
from datetime import datetime

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.plan import Lineage
from strandline.errors import StateError, UsageError
from strandline.reading import Reading
from strandline.source import KnowsGone, Source, Task
from strandline.warned import Code, Warned

__all__ = ["dropped"]


def dropped(
    source: Source, task: Task, lineage: Lineage, into: Into, now: datetime, *, refresh: bool, doomed: Sequence[str]
) -> Warned | None:
    """What is dropped of the stored rows and cannot be read again, as the user has allowed; or nothing.

    Args:
        source: of the task.
        task: that is read from nothing.
        lineage: what there is of it.
        into: where.
        now: when the run begins.
        refresh: a full refresh is asked for.
        doomed: tables that have to be created again; see ``doomed_tables``.

    Raises:
        UsageError: the user has not allowed it.
    """
    state = lineage.stored or lineage.mirrored
    stored = any(not found.empty for found in lineage.found.values())
    if not (refresh or doomed) or not stored or state is None or state.cursor is None:
        return None
    try:
        reading = Reading(state.cursor, now, absorbs=into.mode is not WriteMode.APPEND)
        gone = source.gone(task, reading) if isinstance(source, KnowsGone) else ""
    except StateError:
        return None  # a cursor that cannot be read is given up, and by a full refresh only
    if not gone:
        return None
    back = "put back what is gone, and sync"
    if not refresh:
        replaced = (
            f"; or strandline sync --full-refresh '{task.id}' --allow-mass-delete, which drops the rows of what is gone once it has "
            "read all else"
        )
        raise UsageError(
            f"{lineage.key}: {', '.join(map(repr, doomed))} would be created again, empty (migrate_mode: forced), and cannot be read "
            f"again in full: gone are {gone}",
            hint=back + replaced * into.destination.capabilities.replace,
        )
    if into.share_max is None:
        text = f"{lineage.key}: the full refresh drops the rows of what is gone at the source, and cannot be read again: {gone}"
        return Warned(Code.ROWS_DROPPED, text)
    raise UsageError(
        f"{lineage.key}: a full refresh would drop rows that cannot be read again: gone are {gone}",
        hint=f"{back}; or, if these rows may go, run again with --allow-mass-delete",
    )
