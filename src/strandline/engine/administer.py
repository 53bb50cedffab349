"""What people do to lineages on purpose: migrate tables without rows, discard a cursor."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from strandline.destination import Change, Fence
from strandline.engine.answer import answered
from strandline.engine.clock import Clock
from strandline.engine.into import Into
from strandline.engine.job import Job, ledger_of, offer_of, opened, planned, report_of, unit_of
from strandline.engine.lease import Heartbeat, await_lease, take_over
from strandline.engine.ledger import Ledger
from strandline.engine.missing import missing
from strandline.engine.owners import check_refused
from strandline.engine.pipeline import Pipeline
from strandline.engine.plan import doomed_tables, is_unfinished, refresh_task, refreshed_task
from strandline.engine.project import agreed, places_of
from strandline.engine.refresh import drops
from strandline.engine.rewinding import Asked, Move, foreseen
from strandline.engine.task import survey
from strandline.engine.window import Stop
from strandline.errors import RetryableError, StateError, StrandlineError, TaskError, UsageError
from strandline.message import Forget, WindowMessage
from strandline.runs import TaskReport
from strandline.source import RunContext, Task
from strandline.state import RUN_TASK, Pass, Phase, State, StateKey
from strandline.warned import Warned

__all__ = ["Migrated", "leased", "loaded", "migrate", "reset_states"]


@dataclass(slots=True)
class Migrated:
    """What a migration has done."""

    changes: list[Change] = field(default_factory=list)
    failures: list[tuple[StateKey, StrandlineError]] = field(default_factory=list)
    """Tasks that could not be looked at or migrated, each with the reason; the others were."""
    warnings: list[Warned] = field(default_factory=list)
    """What was left out."""


def migrate(job: Job, *, run_id: str, clock: Clock | None = None) -> Migrated:
    """Make every table of every destination fit. Holds the lease and takes over, as a sync does.

    Raises:
        UsageError: the spec is wrong, or a table is not ours; everything that is wrong is listed, and nothing was touched.
    """
    clock, done = clock or Clock(), Migrated()
    offer = offer_of(job)
    places = answered(lambda: places_of(job), of=f"source {job.name!r}")
    refused, fit = list[UsageError](), dict[str, list[Task]]()
    both = list(loaded(job, clock=clock))  # all of them are looked at before the first is changed
    for into, ledger in both:
        opened(job, into, ledger, offer, places)
        looked = [
            planned(job, unit_of(job, task, into, ledger, report_of(job, task, into)), clock.now())
            for task in offer.tasks
        ]
        fit[into.name] = [task for task, one in zip(offer.tasks, looked, strict=True) if one.error is None]
        unread = list(missing(job, into, ledger, offer))
        done.warnings += [one.warning for one in unread if one.warning and one.warning not in done.warnings]
        wrong = [*((one.key, one.error) for one in looked), *((ledger.key(one.task), one.error) for one in unread)]
        refused += [error for _, error in wrong if isinstance(error, UsageError)]
        done.failures += [(key, error) for key, error in wrong if error is not None]
    check_refused(refused)
    for into, ledger in both:
        with leased(job, ledger, run_id, clock) as fence:
            for task in fit[into.name]:
                try:
                    done.changes += _migrate(task, into.of(task), ledger, fence, clock)
                except (StateError, TaskError) as error:
                    done.failures.append((ledger.key(task.id), error))
    return done


def _migrate(task: Task, into: Into, ledger: Ledger, fence: Fence, clock: Clock) -> list[Change]:
    lineage = survey(task, into, ledger, fence)
    if lineage.stored is not None and (doomed := doomed_tables(lineage, lineage.stored)):
        ledger.announce(lineage.key, lineage.stored, doomed, fence=fence, now=clock.now())
    changes: list[Change] = []
    # what an interrupted full refresh replaces is left to it
    refreshed = is_unfinished(ledger.stored(ledger.key(refresh_task(task.id))))
    replaces = into.replaced(task, fence) if refreshed else None
    for table in task.tables:
        # who follows another name registers when the rows go over to it
        ownership = into.ownership(table, ledger.source) if lineage.former is None else None
        changes += into.migrate(into.stored(table, task), fence, ownership, replaces).changes
    return changes


def loaded(
    job: Job, destinations: Collection[str] = (), *, clock: Clock | None = None
) -> Iterator[tuple[Into, Ledger]]:
    """The ledger of each of these destinations, or of all, read once no run is going on there."""
    wanted = [into for into in job.into if not destinations or into.name in destinations]
    for into, ledger in [(into, ledger_of(job, into)) for into in wanted]:
        await_lease(ledger, job.claim, ledger.load, clock=clock or Clock(), stop=Stop())
        yield into, ledger


@contextmanager
def leased(job: Job, ledger: Ledger, run_id: str, clock: Clock) -> Iterator[Fence]:
    """Holds the lease, under a raised epoch, as a sync does."""
    stop = Stop()
    fence = take_over(ledger, job.claim, run_id, clock=clock, stop=stop)
    with Heartbeat(clock=clock, stop=stop) as heartbeat:
        heartbeat.begin(ledger, fence)
        yield fence  # who overtakes is kept out, and keeps us out, by the fence alone


def reset_states(
    job: Job,
    tasks: Sequence[str],
    destinations: Sequence[str],
    *,
    actor: str,
    now: datetime,
    may: Callable[[Sequence[Move]], bool] = lambda _: True,
) -> list[tuple[StateKey, State]]:
    """Discard cursors, under a raised epoch and recorded in the history; what each state was before.

    Rows stay. What was delivered is discarded with the cursor, so that it comes again; and a full refresh
    that was interrupted is dropped.

    Args:
        job: the source with its destinations and backend.
        tasks: ids; none means all.
        destinations: names; none means all.
        actor: who did it, and why, for the history.
        now: for people.
        may: whether it is to be done, once everything is known.
    """
    done: list[tuple[StateKey, State]] = []
    named = {RUN_TASK, *tasks, *map(refresh_task, tasks)}

    def meant(key: StateKey) -> bool:
        return not tasks or key.task in named

    try:
        places = answered(lambda: places_of(job), of=f"source {job.name!r}")
    except RetryableError:
        places = ()  # a cursor can be forgotten while the source is away
    found: list[tuple[Into, Ledger, list[StateKey]]] = []
    for into, ledger in loaded(job, destinations):  # all of them are looked at before the first is changed
        ledger.about = agreed(ledger, places, adopts=False).facts
        keys = [key for key in ledger.lineages() if meant(key) and _is_there(ledger, key)]
        unknown = sorted(set(tasks) - {RUN_TASK} - {key.task for key in keys})
        if unknown:
            raise UsageError(
                f"source {job.name!r} has no state of {unknown[0]!r} in {into.name!r}",
                hint="`strandline state list` shows them all",
            )
        if keys or RUN_TASK in tasks:
            found.append((into, ledger, keys))
    asked = Asked(job)
    if not may([foreseen(asked, into, key, _known(ledger, key), None) for into, ledger, keys in found for key in keys]):
        return []
    for into, ledger, keys in found:
        with leased(job, ledger, f"reset by {actor}", Clock()) as fence:
            done += [(key, _reset(job, into, ledger, fence, key, now)) for key in keys]
    return done


def _is_there(ledger: Ledger, key: StateKey) -> bool:
    """Whether there is something to discard: a full refresh that replaced the rows is none."""
    state = ledger.stored(key) or ledger.mirrored(key)
    return refreshed_task(key.task) is None or is_unfinished(state) or state is None or not state.run_id


def _known(ledger: Ledger, key: StateKey) -> State:
    state = ledger.stored(key) or ledger.mirrored(key)
    if state is None:
        raise AssertionError("a lineage has a state")
    return state


def _reset(job: Job, into: Into, ledger: Ledger, fence: Fence, key: StateKey, now: datetime) -> State:
    before = _known(ledger, key)
    last, refreshed = before.current or Pass(0, full=True), refreshed_task(key.task)
    note = fence.run_id if before.run_id else f"{fence.run_id}; {before.note}"
    state = before.given_up(run_id=fence.run_id, epoch=fence.epoch, note=note, now=now)
    messages: list[WindowMessage] = [Forget(table) for table in before.tables]
    if refreshed is not None:
        messages = drops(ledger.key(refreshed), before, last)
    Pipeline(
        key=key,
        task=Task(key.task, ()),
        source=job.source,
        into=into,
        fence=fence,
        ledger=ledger,
        context=RunContext(fence.run_id, job.name, now),
        report=TaskReport(job.name, key.task, into.name, ()),
        state=before,
        current=replace(last, phase=Phase.DONE),
        clock=Clock(),
        stop=Stop(),
    ).settle(messages, state)
    return before
