"""What a sync would do, task by task: looks at everything, and touches nothing."""

from dataclasses import replace

from strandline.engine.answer import answered
from strandline.engine.clock import Clock
from strandline.engine.into import Into
from strandline.engine.job import Job, ledger_of, offer_of, opened, planned, proved, report_of, unit_of, unplanned
from strandline.engine.lease import live_lease
from strandline.engine.missing import Missing, missing
from strandline.engine.project import places_of
from strandline.engine.task_plan import TaskPlan
from strandline.engine.unchanged import AT_ONCE
from strandline.errors import StrandlineError
from strandline.state import StateKey
from strandline.warned import Code, Warned

__all__ = ["plan"]


def plan(job: Job, *, clock: Clock | None = None) -> list[TaskPlan]:
    """A plan for each selected task in each destination; one that could not run says why in ``error``."""
    clock = clock or Clock()
    offer, plans = offer_of(job), list[TaskPlan]()
    places = answered(lambda: places_of(job), of=f"source {job.name!r}")
    for into in job.into:
        try:
            ledger = ledger_of(job, into)
            ledger.load()
            opened(job, into, ledger, offer, places)
        except StrandlineError as error:  # another destination may do
            plans += [unplanned(job, task, into.of(task), error) for task in offer.tasks]
            continue
        live = live_lease(ledger, clock.now())
        held = (Warned(Code.BEING_SYNCED, live[1].message),) if live is not None else ()
        found = list[TaskPlan]()
        for start in range(0, len(offer.tasks), AT_ONCE):
            tasks = offer.tasks[start : start + AT_ONCE]
            units = [unit_of(job, task, into, ledger, report_of(job, task, into)) for task in tasks]
            with into.looking_at([unit.task for unit in units]):
                some = [planned(job, unit, clock.now()) for unit in units]
            found += proved(job, some, clock)
        plans += [replace(one, warnings=(*one.warnings, *held)) for one in found]
        plans += [_unread(job, into, one) for one in missing(job, into, ledger, offer)]
    return plans


def _unread(job: Job, into: Into, one: Missing) -> TaskPlan:
    return TaskPlan(
        key=StateKey(job.name, one.task, into.name),
        tables=one.tables or (one.task,),
        mode=into.mode,
        guarantees=(),
        delivery="",
        access=(),
        cursor=one.cursor,
        full=False,
        resumed=False,
        error=one.error,
        left_out=one.warning,
    )
