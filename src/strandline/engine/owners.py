"""Whose are the tables of a task: what may be written, and what a source is told whose table is another one's."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from strandline.destination import Held, Migration
from strandline.engine.into import Into
from strandline.engine.ledger import Ledger
from strandline.engine.plan import is_same, is_unfinished, recreates, refresh_task
from strandline.engine.project import read_apart, were_same
from strandline.errors import StateError, StrandlineError, UsageError
from strandline.ownership import Owner, Ownership, refusal
from strandline.source import Task
from strandline.state import State, StateKey
from strandline.table import Table
from strandline.warned import Code, Warned

__all__ = ["Former", "Standing", "check_refused", "standing"]


@dataclass(frozen=True, slots=True)
class Former:
    """The lineage of a task under the names that its source and destination had before."""

    owner: Owner
    ledger: Ledger
    state: State
    """Under that name."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a task stands to the tables that it writes."""

    refused: StrandlineError | None = None
    """Why it may not write them."""
    former: Former | None = None
    """Whom it follows, as ``adopt`` says, before it writes anything."""
    warnings: tuple[Warned, ...] = ()


def standing(
    task: Task, into: Into, ledger: Ledger, found: Mapping[str, Migration], held: Mapping[str, Held] | None
) -> Standing:
    """Look whose the tables are.

    Args:
        task: with its tables.
        into: where they are written.
        ledger: loaded.
        found: what is there of each table, by the source's name of it.
        held: what is there of the task's own rows, where it has no state; ``None``: it has one.
    """
    key, said = ledger.key(task.id), list[Warned]()
    former = _former(key, task, into, ledger, found) if _begins(ledger, key, found) else None
    for table in task.tables:
        name, ownership, there = into.stored_name(table), into.ownership(table, key.source), found[table.name]
        evidence = held.get(table.name) if held is not None else _evidence(table, task, into, ledger, there)
        refused = _refusal(name, ownership, there, evidence)
        if former is not None and (refused is not None or not ownership.adopt):
            return Standing(_renamed(key, name, former.owner))
        if refused is not None:
            return Standing(refused)
        said += _said(key, table, name, ownership, there)
    if former is not None and former.state.untrusted is not None:
        return Standing(former.state.untrusted)
    if former is not None and is_unfinished(former.ledger.stored(former.ledger.key(refresh_task(task.id)))):
        return Standing(
            StateError(
                f"{key}: a full refresh of {task.id!r} was interrupted when it was {former.owner}",
                hint="finish it under the old name, with one sync; then adopt the table",
            )
        )
    if former is not None:
        text = f"{key}: goes on as {former.owner}, as it was called before (`adopt: true`)"
        said.append(Warned(Code.RENAMED, text))
    return Standing(former=former, warnings=tuple(said))


def check_refused(refused: Iterable[UsageError]) -> None:
    """Whether everything may be done that a run is about to do.

    Raises:
        UsageError: something may not; all of it is listed.
    """
    errors = {error.each(): error for error in refused}
    if len(errors) == 1:
        (error,) = errors.values()
        if error.problems and error.message == error.problems[0].message:
            raise UsageError("the spec has a problem; nothing was touched", problems=error.problems)
        if error.problems:
            raise error
        raise UsageError(f"{error.message}; nothing was touched", hint=error.hint) from error
    problems = list(dict.fromkeys(problem for each in errors for problem in each))
    if problems:
        raise UsageError(f"the spec has {len(problems)} problems; nothing was touched", problems=problems)


def _evidence(table: Table, task: Task, into: Into, ledger: Ledger, found: Migration) -> Held:
    """What is there of the rows of a task that has a state, which may be of another table.

    A partition may have no rows in a table that is ours.
    """
    key = ledger.key(task.id)
    state = ledger.stored(key)
    known = state.tables.get(table.name) if state is not None else None
    same = known is not None and known.mark != "" and is_same(known, found)
    if found.owners is not None or found.empty or task.partition is not None or same:
        return Held(rows=True)
    return into.holds(table, task, key)


def _refusal(name: str, ownership: Ownership, found: Migration, held: Held | None) -> UsageError | None:
    exists, empty, anew = found.mark is not None, found.empty, recreates(found)
    if found.owners is not None:
        return refusal(name, ownership, found.owners, exists=exists, empty=empty, recreates=anew)
    if held is not None and held.rows and not (anew and ownership.owner.shared):
        return None
    # without a register the rows tell: those that have our name are ours
    trusted = () if not ownership.owner.shared or anew else (ownership.owner,)
    return refusal(name, ownership, trusted, exists=exists, empty=empty, recreates=anew)


def _begins(ledger: Ledger, key: StateKey, found: Mapping[str, Migration]) -> bool:
    """Whether a task begins in its tables: it has no state, or had given them up, and none is registered as its own."""
    states = [one for one in (ledger.stored(key), ledger.mirrored(key)) if one is not None]
    mine = Owner(key.source, key.destination)
    registered = any(owner.is_same(mine) for one in found.values() for owner in one.owners or ())
    return not states or (not registered and all(one.is_blank and one.untrusted is None for one in states))


def _former(key: StateKey, task: Task, into: Into, ledger: Ledger, found: Mapping[str, Migration]) -> Former | None:
    """The owner of the tables that the spec has no more, and that was this source."""
    registered = {owner for one in found.values() for owner in one.owners or ()}
    known = {Owner(key.source, key.destination), *into.known}
    for owner in sorted(registered):
        if any(owner.is_same(one) for one in known):
            continue
        theirs = ledger.named(owner.source, owner.destination)
        if owner.shared and read_apart(theirs, ledger):
            continue  # another source, in a spec of its own
        state = theirs.stored(theirs.key(task.id))
        if state is not None and were_same(theirs, ledger):
            return Former(owner, theirs, state)
    return None


def _renamed(key: StateKey, name: str, old: Owner) -> StateError:
    return StateError(
        f"{key}: table {name!r} is full of rows of {old}, as it was called before: under its new name, this would be a first "
        "sync, and read everything a second time",
        hint="use the old name again; or say `adopt: true` for the table in table_settings, for one sync: its rows and its "
        "cursor then go by the new name",
    )


def _said(key: StateKey, table: Table, name: str, ownership: Ownership, found: Migration) -> Iterator[Warned]:
    """What is said of a table that may be written, and is not plainly ours."""
    owner, owners = ownership.owner, found.owners or ()
    others = [one for one in owners if not one.is_same(owner)]
    if others and not owner.shared and any(one.is_same(owner) and one.shared for one in owners):
        names = ", ".join(map(str, others))
        yield Warned(
            Code.SHARED_TABLE,
            f"{key}: table {name!r} is written by {names}, too, as it was before, though nobody says so here: whichever comes "
            f"last overwrites rows of equal keys; say `shared: true` for {table.name!r} in table_settings of both if their keys "
            "are disjoint, or give one of them another `name`",
        )
    if found.mark is not None and found.owners == ():
        what = "has rows that are not Strandline's" if not found.empty else "was there already, empty"
        yield Warned(Code.TABLE_ADOPTED, f"{key}: table {name!r} {what}, and is taken over")
