"""Faults at the border between the engine and the outside: a kill, or an error, at the n-th call.

Everything that an engine does to the outside goes through the wrappers of this module, and so through one ``Outside``,
which stands for the process and counts its calls by name::

    recorder = Outside()                        # a run that meets no fault, to learn its calls
    killer = Killer(Point("destination.write", 2, after=True))
    job = Job(…, source=FaultySource(source, killer), backend=FaultyStates(backend, killer, "backend"))

=========================  ============================================================================
source.tables, .tasks      the calls of that name
source.read, .message      the call that begins a reading, and each message that is taken from it
source.acknowledge
destination.look           ``migrate(apply=False)``, which changes nothing
destination.migrate, .write, .holds, .read
window.message             each message that the destination pulls inside ``write``, and the end of them
states.load, .save         the states that an atomic destination keeps
backend.load, .save        the states of the configured backend
….close
=========================  ============================================================================
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from strandline.destination import (
    Capabilities,
    Destination,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Receipt,
    Scope,
    Window,
    WriteMode,
)
from strandline.errors import StrandlineError
from strandline.message import Cursor, SourceMessage, WindowMessage
from strandline.ownership import Ownership
from strandline.reading import Reading
from strandline.source import Source, Task, TaskFailure
from strandline.state import KeepsState, State, StateBackend, StateKey, Token
from strandline.table import Table

__all__ = [
    "FaultyDestination",
    "FaultyKeeper",
    "FaultySource",
    "FaultyStates",
    "FaultyWindow",
    "Injector",
    "Killed",
    "Killer",
    "Meanwhile",
    "Outside",
    "Point",
    "faulty_destination",
]

T = TypeVar("T")


class Killed(BaseException):
    """The process is dead. No ``except Exception`` and no retry sees it, and clean-up code reaches nothing."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One side of one outside call: before it, or after it was done and before its reply arrived."""

    call: str
    number: int
    """From 1, among the calls of that name in one process."""
    after: bool = False

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.call} {self.number}"


class Outside:
    """What one process does to the outside. Safe to share between its threads; has no fault of its own."""

    def __init__(self) -> None:
        self.calls: list[Point] = []
        """Every call that was begun, in order."""
        self.watch: Callable[[Point], None] = lambda _: None
        """Called after each call that was done, before any fault: the outside as another process would find it."""
        self._numbers: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def points(self) -> list[Point]:
        """Both sides of every call that was begun: where a fault can strike when the same is done again."""
        return [Point(one.call, one.number, after=after) for one in self.calls for after in (False, True)]

    def reach(self, call: str, do: Callable[[], T]) -> T:
        """Make one outside call."""
        with self._lock:
            self._numbers[call] += 1
            point = Point(call, self._numbers[call])
            self.calls.append(point)
        self.strike(point)
        result = do()
        self.watch(point)
        self.strike(Point(call, point.number, after=True))
        return result

    def strike(self, point: Point) -> None:
        """Where a fault raises. Called from any thread of the process, at both sides of each call."""


class Killer(Outside):
    """Kills at one point. From then on the process is dead: each later call of any of its threads raises too.

    Args:
        point: where; ``None``: nowhere.
        die: what dying is. By default ``Killed`` is raised; a child process may send itself a SIGKILL.
    """

    def __init__(self, point: Point | None, die: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.point = point
        self.dead = False
        self._die = die

    def strike(self, point: Point) -> None:
        """Die here, or be dead."""
        if not self.dead and point == self.point:
            self.dead = True
            self._die()
        if self.dead:
            raise Killed(str(point))


class Injector(Outside):
    """Raises an error at one point, once or from then on; the process lives.

    An error *after* a call is a lost reply: it was done, and the caller does not know.

    Args:
        point: where.
        error: makes what is raised.
        forever: also at the same side of every later call of that name.
    """

    def __init__(self, point: Point, error: Callable[[], StrandlineError], *, forever: bool = False) -> None:
        super().__init__()
        self.point = point
        self.struck = 0
        """How often it was raised."""
        self._error, self._forever = error, forever

    def strike(self, point: Point) -> None:
        """Raise here."""
        at = point == self.point
        later = self._forever and (point.call, point.after) == (self.point.call, self.point.after)
        if at or (later and point.number > self.point.number):
            self.struck += 1
            raise self._error()


class Meanwhile(Outside):
    """Lets other things happen at some points while the process waits: another run, or a change at the source."""

    def __init__(self, happenings: Mapping[Point, Callable[[], object]]) -> None:
        super().__init__()
        self.happened: list[Point] = []
        self._happenings = happenings

    def strike(self, point: Point) -> None:
        """Let it happen here. The thread that calls is the one that waits."""
        if point in self._happenings:
            self.happened.append(point)
            self._happenings[point]()


class FaultySource:
    """A source whose every call, and every message, goes through an ``Outside``."""

    def __init__(self, source: Source, outside: Outside) -> None:
        self._source, self._outside = source, outside

    def tables(self) -> Sequence[Table]:
        """See ``strandline.source.Source``."""
        return self._outside.reach("source.tables", self._source.tables)

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task | TaskFailure]:
        """See ``strandline.source.Source``."""
        return self._outside.reach("source.tasks", lambda: list(self._source.tasks(tables)))

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """See ``strandline.source.Source``."""
        messages = self._outside.reach("source.read", lambda: iter(self._source.read(task, reading)))
        return _struck(messages, self._outside, "source.message")

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """See ``strandline.source.Source``."""
        self._outside.reach("source.acknowledge", lambda: self._source.acknowledge(task, cursors))

    def close(self) -> None:
        """See ``strandline.source.Source``."""
        self._outside.reach("source.close", self._source.close)


class FaultyStates:
    """A state backend whose every call goes through an ``Outside``, under the ``name`` given."""

    def __init__(self, states: StateBackend, outside: Outside, name: str = "backend") -> None:
        self._states, self._outside, self._name = states, outside, name

    def load(self, source: str) -> Mapping[StateKey, State]:
        """See ``strandline.state.StateBackend``."""
        return self._outside.reach(f"{self._name}.load", lambda: self._states.load(source))

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """See ``strandline.state.StateBackend``."""
        return self._outside.reach(f"{self._name}.save", lambda: self._states.save(key, state, expected=expected))

    def history(self, key: StateKey) -> Sequence[State]:
        """See ``strandline.state.StateBackend``."""
        return self._outside.reach(f"{self._name}.history", lambda: self._states.history(key))

    def close(self) -> None:
        """See ``strandline.state.StateBackend``."""
        self._outside.reach(f"{self._name}.close", self._states.close)


class FaultyWindow:
    """A window of which each message is pulled through an ``Outside``."""

    def __init__(self, window: Window, outside: Outside) -> None:
        self.id, self.key, self.expected, self.tables = window.id, window.key, window.expected, window.tables
        self.scope, self.pass_ = window.scope, window.pass_
        self._window, self._outside = window, outside

    def __iter__(self) -> Iterator[WindowMessage]:
        return _struck(iter(self._window), self._outside, "window.message")

    def emptied(self, tables: Collection[str], lacking: Collection[str] = ()) -> None:
        """See ``strandline.destination.Window``."""
        self._window.emptied(tables, lacking)

    @property
    def checkpoint(self) -> Cursor | None:
        """See ``strandline.destination.Window``."""
        return self._window.checkpoint

    @property
    def state(self) -> State:
        """See ``strandline.destination.Window``."""
        return self._window.state


class FaultyDestination:
    """A destination whose every call, and every message pulled inside ``write``, goes through an ``Outside``."""

    def __init__(self, destination: Destination, outside: Outside) -> None:
        self._destination, self._outside = destination, outside

    @property
    def capabilities(self) -> Capabilities:
        """See ``strandline.destination.Destination``. Not a call: it touches nothing outside."""
        return self._destination.capabilities

    def migrate(
        self,
        table: Table,
        *,
        mode: MigrateMode,
        fence: Fence,
        apply: bool = True,
        ownership: Ownership | None = None,
        replaces: Scope | None = None,
    ) -> Migration:
        """See ``strandline.destination.Destination``."""
        return self._outside.reach(
            "destination.migrate" if apply else "destination.look",
            lambda: self._destination.migrate(
                table, mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces
            ),
        )

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """See ``strandline.destination.Destination``."""
        struck = FaultyWindow(window, self._outside)
        return self._outside.reach("destination.write", lambda: self._destination.write(struck, mode=mode, fence=fence))

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """See ``strandline.destination.Destination``."""
        return self._outside.reach("destination.holds", lambda: self._destination.holds(table, scope=scope))

    def close(self) -> None:
        """See ``strandline.destination.Destination``."""
        self._outside.reach("destination.close", self._destination.close)


class FaultyKeeper(FaultyDestination):
    """The same of one that keeps states: they are reached through the ``Outside`` too."""

    @property
    def states(self) -> FaultyStates:
        """See ``strandline.state.KeepsState``."""
        return FaultyStates(cast(KeepsState, self._destination).states, self._outside, "states")


def faulty_destination(destination: Destination, outside: Outside) -> FaultyDestination:
    """Wrap a destination; one that keeps states still does."""
    kind = FaultyKeeper if isinstance(destination, KeepsState) else FaultyDestination
    return kind(destination, outside)


def _struck(messages: Iterator[T], outside: Outside, call: str) -> Iterator[T]:
    """The messages, each pulled as a call of its own, as is the end of them."""
    while True:
        message = outside.reach(call, lambda: next(messages, None))
        if message is None:
            return
        yield message
