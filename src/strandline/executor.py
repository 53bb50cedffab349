"""The contract of an executor: what has the tasks of a run done, in this process or by workers elsewhere.

The run itself stays where it was begun. It looks at every lineage, takes over, holds the lease, makes a parcel of each task and destination,
and puts the report together of what it is told. A worker opens the spec's plugins, loads the states, and goes on at the last saved
cursor: it needs nothing that another worker has, so that a parcel may be done by anybody, and again by somebody else if its worker is
lost. What keeps rows safe then is what keeps them safe from any other run (``strandline.engine.elsewhere``); an executor need not see to
it that a parcel is done once only.

::

    class OurExecutor:
        class Spec(BaseModel): ...
        def __init__(self, spec: Spec) -> None: ...        # touches nothing outside
        is_elsewhere = spans_hosts = True
        def crew(self, at_once: int) -> Crew: ...

The suite: ``strandline.testing.executor``.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = ["Crew", "Done", "Executor", "Happening", "Lost", "Parcel", "Said", "carry_out"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one worker is to do."""

    id: str
    """No two parcels of a crew have the same one."""
    content: bytes
    """For ``carry_out``. No secret is in it: a spec's variables are sent by their names."""


@dataclass(frozen=True, slots=True)
class Said:
    """A worker has said something on its way, by the ``say`` of ``carry_out``."""

    parcel: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """A parcel is done: what ``carry_out`` has returned. Comes after everything that was ``Said`` of it, and last."""

    parcel: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Whoever had a parcel will not say any more of it: the worker died, or is not heard of. Comes last.

    It may still be at work, unseen. The run gives the same task out again, in another parcel.
    """

    parcel: str
    why: str
    """In words."""


Happening: TypeAlias = Said | Done | Lost


class Crew(Protocol):
    """The workers of one run. Used by one thread."""

    def submit(self, parcel: Parcel) -> None:
        """Have a worker do it: ``carry_out(parcel.content, say, asked)``, in another process. Returns at once.

        As many are done at once as there are workers, and the others wait for their turn.
        """

    def events(self, timeout_s: float) -> Sequence[Happening]:
        """What has happened since the last call; waits for something, for so long. Loses nothing, and repeats nothing.

        A parcel whose worker cannot be begun is ``Lost``; so is one whose ``carry_out`` raises.
        """

    def ask_to_stop(self) -> None:
        """From now on ``asked`` is true in every worker, soon: who has begun ends after its next commit. A second call does nothing."""

    def close(self) -> None:
        """End every worker that this crew has begun, also in the middle of a parcel. A second call does nothing."""


class Executor(Protocol):
    """Constructed as ``cls(cls.Spec(...))`` with its pydantic settings; that must not touch the outside."""

    is_elsewhere: bool
    """Whether there is a crew at all: other processes than this one."""
    spans_hosts: bool
    """Whether workers may be on other machines than this one. What lies on this machine is then not for them to write."""

    def crew(self, at_once: int) -> Crew | None:
        """Begin workers, or find them; ``None``: the threads of this process do everything.

        Args:
            at_once: how many tasks are to be done at once, unless the executor's settings say otherwise.

        Raises:
            UnreachableError: there is nobody.
        """


def carry_out(content: bytes, say: Callable[[bytes], None], asked: Callable[[], bool]) -> bytes:
    """Do a parcel. For executors to call, in a worker.

    Args:
        content: of the parcel.
        say: sends something to the run, which gets it as ``Said``; from any thread, in order.
        asked: whether the run has asked everyone to stop; called several times a second.

    Returns:
        What ``Done`` tells the run.
    """
    errand: Callable[[Callable[[bytes], None], Callable[[], bool]], bytes] = pickle.loads(content)  # noqa: S301 -- this run has made it
    return errand(say, asked)
