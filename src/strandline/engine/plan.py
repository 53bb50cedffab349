"""What a sync would do: decided from states and tables alone. Nothing here touches the outside."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from strandline.destination import ADD_COLUMN, RECREATE, Held, Migration, WriteMode
from strandline.engine.attached import losses
from strandline.errors import StateError, StrandlineError
from strandline.message import Cursor
from strandline.state import Pass, Phase, State, StateKey, TableState, is_newer
from strandline.table import Guarantee, Table
from strandline.warned import Code, Warned

if TYPE_CHECKING:
    from strandline.engine.owners import Former

__all__ = [
    "Lineage",
    "Opening",
    "basis",
    "doomed_tables",
    "fingerprint",
    "guarantees",
    "has_other_rows",
    "hidden_name",
    "is_same",
    "is_unfinished",
    "next_pass",
    "open_lineage",
    "recreates",
    "refresh_task",
    "refreshed_task",
    "unfilled_columns",
]

_APPENDED = "/append"
_REFRESH = "@refresh/"


@dataclass(frozen=True, slots=True)
class Lineage:
    """One task into one destination, as it was found."""

    key: StateKey
    tables: tuple[Table, ...]
    """As the source offers them."""
    mode: WriteMode
    stored: State | None
    """The authoritative state."""
    mirrored: State | None
    """The mirror's, where there is one."""
    mirrors: bool
    """Whether the destination keeps its own states and a backend mirrors them."""
    found: Mapping[str, Migration]
    """What the destination has of each table, by the source's name of it."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What each table is called at the destination, by the source's name of it."""
    untrusted: StateError | None = None
    """Why a state of the task, or of a full refresh of it, cannot be trusted."""
    held: Mapping[str, Held] = field(default_factory=dict)
    """Where there is no state: what the destination has of each table all the same, by the source's name of it."""
    refused: StrandlineError | None = None
    """Why the task may not write its tables."""
    former: "Former | None" = None
    """Under which names it was known; then ``stored`` is of these."""
    warnings: tuple[Warned, ...] = ()
    """What is said of whose the tables are."""


@dataclass(frozen=True, slots=True)
class Opening:
    """From where a task goes on."""

    state: State | None
    """The last saved state; ``None``: nothing was ever saved."""
    cursor: Cursor | None
    current: Pass
    """The pass to which the next rows belong: a new one, or the interrupted one."""
    resumed: bool
    sweep: Pass | None = None
    """A pass that has delivered everything, but was interrupted before its stale rows were deleted."""
    fix: bool = False
    """The mirror is behind, or lost."""
    unfilled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """See ``unfilled_columns``; of a task that goes on from where it was."""
    doomed: tuple[str, ...] = ()
    """See ``doomed_tables``; because of them the task is read from nothing. The state still has its cursor."""
    warnings: tuple[Warned, ...] = ()

    @property
    def may_be_idle(self) -> bool:
        """Whether the source may have nothing new, so that the task has nothing to write."""
        return self.state is not None and not self.current.full and not self.resumed


def fingerprint(table: Table, mode: WriteMode) -> str:
    """What a table's cursor depends on; also whether rows were appended or overwritten, which cannot be mixed."""
    return table.fingerprint + (_APPENDED if mode is WriteMode.APPEND else "")


def basis(table: Table, mode: WriteMode) -> dict[str, str]:
    """What ``fingerprint`` is of, by setting, in words."""
    return table.basis | {"write_mode": mode.value if mode is WriteMode.APPEND else "overwrite"}


def open_lineage(
    lineage: Lineage, *, now_us: int, stateless: bool = False, anew: bool = False, asked: bool = False
) -> Opening:
    """Decide where a task goes on: the table "who is right when two states differ".

    Args:
        lineage: what was found.
        now_us: the time, microseconds since 1970 UTC; a first guess for the sync time of a new pass.
        stateless: no cursor is kept (backend ``none``): always from nothing, in a new pass.
        anew: a full refresh is to be made, or to be finished, so nothing that was found is a contradiction.
        asked: the user has asked for it just now, so that a state which cannot be trusted is given up.

    Raises:
        StateError: a state cannot be trusted, or resuming could leave a gap.
        UsageError: the tables are another one's.
    """
    if lineage.refused is not None:
        raise lineage.refused
    if lineage.untrusted is not None and not asked:
        raise lineage.untrusted
    stored, warnings, fix = _authoritative(lineage, anew=anew or stateless)
    warnings = (*lineage.warnings, *warnings, *losses(lineage, anew=anew))
    if stored is None and not (anew or stateless):
        _check_lost(lineage)
    if stored is None:
        return Opening(None, None, next_pass(None, now_us, full=True), resumed=False, fix=fix, warnings=warnings)
    if not anew:
        warnings += _not_swept(lineage, stored)
    if stateless:
        fresh = next_pass(stored.current, now_us, full=True)
        return Opening(stored, None, fresh, resumed=False, fix=fix, warnings=warnings)
    if not anew:
        _check_tables(lineage, stored)
        doomed = doomed_tables(lineage, stored)
        if doomed:
            warnings += (_check_others(lineage, stored, doomed),)
            fresh = next_pass(stored.current, now_us, full=True)
            return Opening(stored, None, fresh, resumed=False, fix=fix, doomed=doomed, warnings=warnings)
    started = _same_reading(lineage, stored)
    current = stored.current
    resumed = current is not None and current.phase is Phase.READING and started
    cursor = stored.cursor if started else None
    unfilled = unfilled_columns(lineage, stored) if not anew and (resumed or cursor is not None) else {}
    warnings += tuple(_without_values(lineage.key, *one, mode=lineage.mode) for one in unfilled.items())
    if current is not None and resumed:
        return Opening(stored, cursor, current, resumed=True, unfilled=unfilled, fix=fix, warnings=warnings)
    fresh = next_pass(current, now_us, full=cursor is None)
    sweep = current if current is not None and current.phase is Phase.READ else None
    return Opening(stored, cursor, fresh, resumed=False, sweep=sweep, unfilled=unfilled, fix=fix, warnings=warnings)


def unfilled_columns(lineage: Lineage, stored: State) -> dict[str, tuple[str, ...]]:
    """By table, the columns in which rows that are stored have no value, though their source may have one."""
    found: dict[str, tuple[str, ...]] = {}
    for table in lineage.tables:
        known, there = stored.tables.get(table.name), lineage.found.get(table.name)
        if known is None or not known.rows or not table.refills:
            continue
        added = [change.column for change in there.changes if change.kind == ADD_COLUMN] if there is not None else []
        columns = tuple(name for name in table.schema.names if name in {*known.unfilled, *added})
        found |= {table.name: columns} if columns else {}
    return found


def _without_values(key: StateKey, table: str, columns: Sequence[str], *, mode: WriteMode) -> Warned:
    itself = "`backfill: true` in its table_settings does so by itself"
    if mode is WriteMode.APPEND:
        itself = "it keeps of each row the version that the source has then (so `backfill` does nothing in append mode)"
    return Warned(
        Code.UNFILLED,
        f"{key}: rows of {table!r} that were stored before have no value in {', '.join(columns)}; --full-refresh {table!r} "
        f"reads them again; {itself}",
    )


def recreates(found: Migration) -> bool:
    """Whether a table has to be created again, empty."""
    return any(change.kind == RECREATE for change in found.changes)


def doomed_tables(lineage: Lineage, stored: State) -> tuple[str, ...]:
    """Tables whose rows a forced migration drops, or has dropped before it was interrupted."""
    return tuple(
        name
        for name, found in lineage.found.items()
        if name in stored.tables
        and stored.tables[name].rows
        and (recreates(found) or _was_dropped(stored.tables[name], found))
    )


def _was_dropped(known: TableState, found: Migration) -> bool:
    return known.doomed and not is_same(known, found)


def is_same(known: TableState, found: Migration) -> bool:
    """Whether a stored table is the one that the state knows; of a destination without marks nobody can tell."""
    return bool({known.mark, known.also} & {found.mark, found.also} - {""}) or known.mark == (found.mark or "")


def _check_others(lineage: Lineage, stored: State, doomed: Sequence[str]) -> Warned:
    """What is said of a task that is read from nothing; where that stores no row of its other tables twice."""
    names = ", ".join(map(repr, doomed))
    unfinished = stored.current is not None and stored.current.phase is Phase.READING
    for table in lineage.tables if lineage.mode is WriteMode.APPEND else ():
        known = stored.tables.get(table.name)
        if table.name not in doomed and known is not None and known.rows and (table.incremental or unfinished):
            raise StateError(
                f"{lineage.key}: {names} has to be created again (migrate_mode: forced), and read from nothing; so would "
                f"be {table.name!r}, with which it shares a cursor, and rows of that would be appended a second time",
                hint=f"strandline sync --full-refresh '{lineage.key.task}' replaces the rows of all its tables",
            )
    text = f"{lineage.key}: {names} has to be created again (migrate_mode: forced), and is then read from nothing"
    return Warned(Code.CREATED_AGAIN, text)


def has_other_rows(table: Table, known: TableState | None) -> bool:
    """Whether rows are stored that were read under another selection, so that their age does not prove them stale."""
    return known is not None and bool(known.rows) and not set(known.selections) <= {table.selection_fingerprint}


def next_pass(last: Pass | None, now_us: int, *, full: bool) -> Pass:
    """A new pass. Its sync time is later than the last one's, whatever the clock says."""
    if last is None:
        return Pass(now_us, full)
    spared_us = last.sync_time_us if last.spares and last.full and last.phase is Phase.DONE else 0
    return Pass(
        max(now_us, last.sync_time_us + 1),
        full,
        spares=full and last.expired,
        stale_us=0 if full or last.expired else spared_us,
    )


def _authoritative(lineage: Lineage, *, anew: bool) -> tuple[State | None, tuple[Warned, ...], bool]:
    stored, mirrored, key = lineage.stored, lineage.mirrored, lineage.key
    if not lineage.mirrors or mirrored is None:
        return stored, (), lineage.mirrors and stored is not None
    if stored is None:
        wrote = mirrored.cursor is not None or any(table.rows for table in mirrored.tables.values())
        if wrote and not anew:
            raise StateError(
                f"{key}: the state says that rows were delivered, but the destination knows nothing of it: it was "
                "dropped, emptied or exchanged",
                hint=_again(key),
            )
        # a first sync, or one that was asked for: the epoch and the sync time go on from what the mirror remembers
        return replace(mirrored, cursor=None, current=_done(mirrored.current), tables={}), (), False
    if is_newer(mirrored, stored) and not anew:
        text = (
            f"{key}: the destination is older than the state (restored from a backup?); going on from the destination"
        )
        return stored, (Warned(Code.DESTINATION_OLDER, text),), True
    return stored, (), mirrored.nonce != stored.nonce


def _check_lost(lineage: Lineage) -> None:
    """A state is saved before the first row is written, so rows without one mean that it was lost."""
    names = ", ".join(repr(name) for name, held in lineage.held.items() if held.rows)
    if names:
        key = lineage.key
        raise StateError(
            f"{key}: the destination has rows of this source in {names}, but nothing is known of how far it was read: the "
            "state was lost, or is kept elsewhere",
            hint=f"restore the state, or name the backend that keeps it; or read the table again from nothing: strandline sync "
            f"--full-refresh '{key.task}'",
        )


def _done(current: Pass | None) -> Pass | None:
    return replace(current, phase=Phase.DONE) if current else None


def _check_tables(lineage: Lineage, stored: State) -> None:
    for table in lineage.tables:
        known = stored.tables.get(table.name)
        if known is None:
            continue
        found = lineage.found.get(table.name)
        where = f"{lineage.key}: table {table.name!r}"
        if known.rows and found is not None and not _was_dropped(known, found):
            _check_name(where, lineage, table.name, known, found)
            _check_stored(where, lineage.key, known, found)
        if table.incremental and stored.cursor is not None and not _compatible(known, table, lineage.mode):
            raise StateError(
                f"{where}: {_changed(known, table, lineage.mode)}; going on could leave a gap", hint=_again(lineage.key)
            )


def _changed(known: TableState, table: Table, mode: WriteMode) -> str:
    """Which setting is not the one that the cursor was made for."""
    then, now = known.basis, basis(table, mode)
    if not then:
        return "its key, the key's type, its filter or the write mode is not the one that the cursor was made for"
    return "; ".join(
        f"{setting} was {then.get(setting) or 'none'} when the cursor was made, and is {now.get(setting) or 'none'}"
        for setting in dict.fromkeys([*then, *now])
        if then.get(setting) != now.get(setting)
    )


def _check_name(where: str, lineage: Lineage, name: str, known: TableState, found: Migration) -> None:
    """Another name is another table, unless the stored one has it, too."""
    now = lineage.names.get(name, known.stored)
    if known.stored in ("", now) or (known.mark and is_same(known, found)):
        return
    raise StateError(
        f"{where} is stored as {known.stored!r}, with {known.rows} rows, and would be {now!r} by the spec",
        hint=f"keep its name: `name: {known.stored}` in table_settings; or rename it at the destination, too, and say `adopt: true` for "
        f"one sync; or read all of it again under the new name: strandline sync --full-refresh '{lineage.key.task}'",
    )


def _check_stored(where: str, key: StateKey, known: TableState, found: Migration) -> None:
    if found.mark is None:
        raise StateError(f"{where} had {known.rows} rows delivered, but is gone from the destination", hint=_again(key))
    if known.mark and not is_same(known, found):
        raise StateError(
            f"{where} is not the one that {known.rows} rows were delivered to: it was created again", hint=_again(key)
        )
    if found.empty:
        raise StateError(
            f"{where} had {known.rows} rows delivered, but the destination has none of them any more", hint=_again(key)
        )


def _compatible(known: TableState, table: Table, mode: WriteMode) -> bool:
    """Appending needs the delivered set, which overwriting does not keep; overwriting one row a key, which append has not."""
    return known.fingerprint == fingerprint(table, mode)


def _same_reading(lineage: Lineage, stored: State) -> bool:
    """Whether the stored cursor still means something: a table read in full may change its keys between passes."""
    return all(
        table.name not in stored.tables or _compatible(stored.tables[table.name], table, lineage.mode)
        for table in lineage.tables
    )


def _not_swept(lineage: Lineage, stored: State) -> tuple[Warned, ...]:
    if lineage.mode is not WriteMode.OVERWRITE_DELETE_STALE:
        return ()
    return tuple(
        Warned(
            Code.OTHER_FILTER,
            f"{lineage.key}: rows of {table.name!r} were read with another filter, so no stale rows are deleted; to replace "
            f"them by what the filter lets through now: --full-refresh {table.name!r}",
        )
        for table in lineage.tables
        if has_other_rows(table, stored.tables.get(table.name))
    )


def _again(key: StateKey) -> str:
    return (
        f"to read it again from nothing: strandline sync --full-refresh '{key.task}'; "
        f"or restore the destination; or strandline state reset {key.source!r} {key.task!r}"
    )


def refresh_task(task: str) -> str:
    """The task name under which a full refresh keeps its own state."""
    return f"{_REFRESH}{task}"


def refreshed_task(task: str) -> str | None:
    """The task that a full refresh of that task name replaces; ``None``: it is no full refresh."""
    return task.removeprefix(_REFRESH) if task.startswith(_REFRESH) else None


def is_unfinished(state: State | None) -> bool:
    """Whether a full refresh was begun, and has not replaced the rows."""
    return state is not None and state.current is not None and state.current.phase is not Phase.DONE


def hidden_name(key: StateKey, table: str, current: Pass) -> str:
    """The table into which a full refresh writes. Its own for every refresh, so that leftovers cannot mix in."""
    parts = "\0".join([key.source, key.task, table, str(current.sync_time_us)])
    return f"_cq_refresh_{hashlib.sha256(parts.encode()).hexdigest()[:16]}"


def guarantees(tables: Sequence[Table]) -> tuple[Guarantee, ...]:
    """The distinct guarantees of the tables, in their order."""
    return tuple(dict.fromkeys(table.guarantee for table in tables))
