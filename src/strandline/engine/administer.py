"""What people do to lineages on purpose: migrate tables without rows, forget a cursor."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from strandline.destination import Change
from strandline.engine.clock import Clock
from strandline.engine.run import Job, ledger_of, tasks_of
from strandline.errors import UsageError
from strandline.state import RUN_TASK, Phase, State, StateKey

__all__ = ["migrate", "reset_states"]


def migrate(job: Job, *, run_id: str, clock: Clock | None = None) -> list[Change]:
    """Make every table of every destination fit. Takes over, as a sync does."""
    now = (clock or Clock()).now()
    changes: list[Change] = []
    tasks = tasks_of(job)
    for into in job.into:
        ledger = ledger_of(job, into)
        ledger.load()
        fence = ledger.take_over(run_id, now)
        tables = {table.name: into.stored(table, task) for task in tasks for table in task.tables}
        for stored in tables.values():
            changes += into.migrate(stored, fence).changes
    return changes


def reset_states(
    job: Job, tasks: Sequence[str], destinations: Sequence[str], *, actor: str, now: datetime
) -> list[tuple[StateKey, State]]:
    """Forget cursors, under a raised epoch and recorded in the history; what each state was before.

    Args:
        job: the source with its destinations and backend.
        tasks: ids; none means all.
        destinations: names; none means all.
        actor: who did it, for the history.
        now: for people.
    """
    done: list[tuple[StateKey, State]] = []
    for into in job.into:
        if destinations and into.name not in destinations:
            continue
        ledger = ledger_of(job, into)
        ledger.load(lambda key: not tasks or key.task in {RUN_TASK, *tasks})
        keys = [key for key in ledger.lineages() if not tasks or key.task in tasks]
        unknown = sorted(set(tasks) - {RUN_TASK} - {key.task for key in keys})
        if unknown:
            raise UsageError(
                f"source {job.name!r} has no state of {unknown[0]!r} in {into.name!r}",
                hint="`strandline state list` shows them all",
            )
        if not keys and RUN_TASK not in tasks:
            continue
        run_id = f"reset by {actor}"
        fence = ledger.take_over(run_id, now)
        for key in keys:
            before = ledger.stored(key) or ledger.mirrored(key)
            if before is None:
                continue
            current = replace(before.current, phase=Phase.DONE) if before.current else None
            note = run_id if before.run_id else f"{run_id}; {before.note}"
            state = before.following(
                run_id=run_id, epoch=fence.epoch, now=now, cursor=None, current=current, tables={}, note=note
            )
            ledger.save(key, state)
            done.append((key, before))
    return done
