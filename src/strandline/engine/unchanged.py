"""Tasks that have nothing new, as their source can tell of many at once: such a task is not begun."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from strandline.destination import WriteMode
from strandline.engine.clock import Clock
from strandline.engine.idle import noted, says_the_same
from strandline.engine.into import Into
from strandline.engine.plan import Lineage, Opening
from strandline.reading import Reading
from strandline.source import KnowsIdle, Source, Task
from strandline.state import Phase, State

__all__ = ["AT_ONCE", "Settled", "evidence", "settled"]

AT_ONCE = 1_000
"""How many tasks are asked of together."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A task in a destination of which a pass that brings nothing would leave everything as it is."""

    task: Task
    into: Into
    state: State


def settled(task: Task, into: Into, lineage: Lineage, opening: Opening) -> Settled | None:
    """The task, if so: nothing is to be written of it, or said, unless its source has something new."""
    state, owner = opening.state, into.ownership
    if state is None or not opening.may_be_idle or opening.cursor is None or state.forms is None:
        return None
    to_do = (opening.fix, opening.sweep, opening.doomed, opening.unfilled, opening.warnings, opening.current.stale_us)
    if any(to_do) or lineage.former is not None or any(one.lacks for one in state.tables.values()):
        return None
    tables = dict(state.tables)
    for table in task.tables:
        found = lineage.found[table.name]
        ours = found.owners is None or owner(table, lineage.key.source).owner in found.owners
        if found.changes or found.kept or not ours:
            return None
        stored = into.stored_name(table)
        tables[table.name] = noted(table, tables.get(table.name), found, into.mode, stored=stored)
    following = replace(state, tables=tables, current=replace(opening.current, phase=Phase.DONE))
    return Settled(task, into, state) if says_the_same(state, following) else None


def evidence(source: Source, some: Sequence[Settled], clock: Clock) -> Mapping[str, str]:
    """By task, what proves that it has nothing new; without those of which that is not known. All are of one destination."""
    if not isinstance(source, KnowsIdle) or not some:
        return {}
    found = dict[str, str]()
    for start in range(0, len(some), AT_ONCE):
        found |= source.idle([*_asked(some[start : start + AT_ONCE], clock)])
    return found


def _asked(some: Sequence[Settled], clock: Clock) -> Iterator[tuple[Task, Reading]]:
    now = clock.now()
    for one in some:
        mode = one.into.mode
        mirror, absorbs = mode is WriteMode.OVERWRITE_DELETE_STALE, mode is not WriteMode.APPEND
        yield one.task, Reading(one.state.cursor, now, mirror=mirror, absorbs=absorbs)
