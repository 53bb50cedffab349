"""A source or destination that is called otherwise than before: its rows and its cursor go by the new name."""

from typing import TYPE_CHECKING

from strandline.engine.lease import Claim, await_lease
from strandline.message import Adopt
from strandline.state import Pass

if TYPE_CHECKING:
    from strandline.engine.owners import Former
    from strandline.engine.task import TaskRun

__all__ = ["adopt"]


def adopt(run: "TaskRun", former: "Former") -> None:
    """Rows, what was delivered, and the state, in one commit. A run under the old name is fenced out before.

    Raises:
        LockedError: such a run goes on.
    """
    old, theirs = former.owner, former.ledger
    await_lease(theirs, Claim(), theirs.load, clock=run.clock, stop=run.stop)
    key, fence = theirs.key(run.task.id), theirs.take_over(run.fence.run_id, run.clock.now())
    found = theirs.stored(key) or former.state
    # under the raised epoch, so that the mirror takes what follows it
    before = theirs.save(key, found.following(run_id=fence.run_id, epoch=fence.epoch, now=run.clock.now()))
    pipeline = run.pipeline(run.ledger.key(run.task.id), None, before.current or Pass(0, full=True))
    pipeline.look(run.task.tables)
    state = run.following(before, note=f"was {old}", versions_of=before.versions_of or old.source)
    messages = [Adopt(table.name, old.source, run.task.id, old.destination) for table in run.task.tables]
    pipeline.settle(messages, state)
    theirs.load()
    theirs.settle(key)
