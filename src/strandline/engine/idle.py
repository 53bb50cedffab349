"""A source that has nothing new: what tells so, before anything is written."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from strandline.destination import Migration, WriteMode
from strandline.engine.feed import Feed
from strandline.engine.plan import basis, fingerprint, is_same
from strandline.message import Checkpoint, Complete, Cursor, SourceMessage, WindowMessage
from strandline.state import Pass, Phase, State, TableState
from strandline.table import Table

__all__ = ["noted", "pass_over", "says_the_same"]


def pass_over(
    feed: Feed, cursor: Cursor | None, more: Callable[[], bool], ends: Callable[[Sequence[str]], bool]
) -> None:
    """Take a stream that has nothing but checkpoints at ``cursor``, and tables that are complete; leave any other as it is.

    Args:
        feed: the stream, from its beginning.
        cursor: where the source goes on from.
        more: waits for the next message, and leaves it in the feed; false: there is none, or the run is to stop.
        ends: whether the pass may end so, with these tables complete.
    """
    seen: list[SourceMessage | WindowMessage] = []
    while more():
        seen.append(feed.get(timeout_s=0))
        match seen[-1]:
            case Complete():
                continue
            case Checkpoint(cursor=at) if at == cursor:
                continue
        break
    else:
        completed = [one.table for one in seen if isinstance(one, Complete)]
        if seen and isinstance(seen[-1], Checkpoint) and ends(completed):
            return
    for message in reversed(seen):
        feed.put_back(message)


def noted(
    table: Table, known: TableState | None, found: Migration, mode: WriteMode, *, rows: int = 0, stored: str = ""
) -> TableState:
    """What a state says of a table once so many more of its rows are stored.

    Args:
        table: as its source offers it.
        known: what the last state says of it.
        found: the stored table.
        mode: how it is written.
        rows: that have come.
        stored: its name at the destination.
    """
    before = known.rows if known is not None and is_same(known, found) else 0
    selections = {table.selection_fingerprint, *(known.selections if known is not None and before else ())}
    return TableState(
        fingerprint(table, mode),
        mark=found.mark or "",
        rows=before + rows,
        selections=tuple(sorted(selections)),
        basis=basis(table, mode),
        unfilled=known.unfilled if known is not None else (),
        lacks=known is not None and known.lacks,
        stored=stored,
        also=found.also,
    )


def says_the_same(saved: State, following: State) -> bool:
    """Whether the state after a pass tells the next run nothing that the saved one does not."""
    if saved.current is None or following.current is None:
        return False
    said = [(one.cursor, one.tables, one.versions_of, one.forms or {}) for one in (saved, following)]
    return said[0] == said[1] and _is_settled(saved.current) and _is_settled(following.current)


def _is_settled(current: Pass) -> bool:
    """Whether it is complete, and the next one depends on nothing of it."""
    plain = Pass(current.sync_time_us, full=current.full, phase=Phase.DONE)
    return replace(current, completed=(), windows=0) == plain
