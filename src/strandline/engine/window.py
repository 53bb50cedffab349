"""The messages between two commits."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from strandline.destination import Scope, WriteMode
from strandline.engine.clock import Clock
from strandline.engine.feed import Ended, Feed, NothingYet
from strandline.errors import RetryableError, StrandlineError, TaskError
from strandline.message import (
    Checkpoint,
    Complete,
    Cursor,
    Delete,
    Failure,
    Insert,
    Notice,
    Present,
    Replace,
    Schema,
    SourceMessage,
    Stale,
    Swap,
    Truncate,
    WindowMessage,
)
from strandline.state import Pass, State, StateKey, Token
from strandline.state_format import check_cursor
from strandline.table import Table

__all__ = ["Bounds", "Counts", "Stop", "StoppedError", "StreamWindow", "window_id"]

_POLL_S = 0.2
"""How often a waiting window looks whether it should stop."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a window closes, at the next checkpoint: whichever comes first."""

    rows_max: int = 1_000_000
    bytes_max: int = 32 << 20
    seconds_max: float = 60.0
    stall_s: float = 1800.0
    """A source that sends nothing for so long is taken to hang."""


def window_id(key: StateKey, current: Pass) -> str:
    """See ``strandline.destination.Window``: the lineage, the pass, and how many windows of it were committed before."""
    parts = [key.source, key.task, key.destination, current.sync_time_us, current.windows]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class Stop:
    """Set once, by a signal: stop reading, commit what is read, leave."""

    def __init__(self, *, grace_s: float = 30.0) -> None:
        self.grace_s = grace_s
        self.signal: int | None = None
        self._runs: list[Stop] = []
        self._event = threading.Event()

    def of_run(self) -> "Stop":
        """The stop of one run: set with this one, but fenced alone."""
        run = Stop(grace_s=self.grace_s)
        self._runs.append(run)
        if self.signal is not None:
            run.set(self.signal)
        return run

    def set(self, signal: int) -> None:
        """Ask everyone to stop."""
        self.signal = signal
        self._event.set()
        for run in self._runs:
            run.set(signal)

    def fence(self) -> None:
        """Another run has taken over: everyone in this one leaves."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep; whether it was cut short."""
        return self._event.wait(timeout_s)


class StoppedError(StrandlineError):
    """A signal, or another run, ended the work before its end. A message says what was thrown away; empty: nothing."""


@dataclass(slots=True)
class Counts:
    """What went through a window."""

    rows: Counter[str] = field(default_factory=Counter)
    reread: int = 0
    removes: set[str] = field(default_factory=set)
    """Tables of which rows may have been removed."""
    swept: set[str] = field(default_factory=set)
    """Tables whose keys were all compared."""
    messages: int = 0
    """Without checkpoints; 0 means that there was nothing to write."""
    completed: list[str] = field(default_factory=list)
    bytes: int = 0


class StreamWindow:
    """Implements ``strandline.destination.Window`` over a feed. Iterated once, by the destination, in one thread.

    It ends at a checkpoint: when a bound is passed, when nothing more has come for ``seconds_max``, before a
    ``Schema``, at the end of the stream, or when the run is to stop. A stream that ends or fails anywhere else raises,
    so that the destination writes nothing of the window. ``on_first`` is called before the first message that the
    destination has anything to write of.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        key: StateKey,
        expected: Token | None,
        tables: Mapping[str, Table],
        scope: Scope,
        pass_: Pass,
        mode: WriteMode,
        bounds: Bounds,
        following: Callable[["StreamWindow"], State],
        on_first: Callable[[], None] = lambda: None,
        clock: Clock,
        stop: Stop,
    ) -> None:
        self.key, self.expected, self.tables, self.scope, self.pass_ = key, expected, tables, scope, pass_
        self.id = window_id(key, pass_)
        self.counts = Counts()
        self.empty: frozenset[str] = frozenset()
        """Tables of which the scope has no rows any more."""
        self._lacking: frozenset[str] = frozenset()
        """Those of which a sweep has found that the destination lacks rows."""
        self._feed, self._mode, self._bounds, self._following = feed, mode, bounds, following
        self._on_first, self._writes = on_first, False
        self._clock, self._stop = clock, stop
        self._checkpoint: Checkpoint | None = None
        self.exhausted = False
        """Whether the destination has pulled everything; before, it cannot have committed anything."""
        self._state: State | None = None
        self._open = False
        """Whether messages have come since the last checkpoint."""
        self._began_s = self._heard_s = clock.monotonic_s()

    def __iter__(self) -> Iterator[WindowMessage]:  # noqa: C901 -- one loop, with every way in which it can end
        stopping_since: float | None = None
        while True:
            try:
                message = self._feed.get(timeout_s=_POLL_S)
            except NothingYet:
                if self._may_end() and (self._stop.requested or self._waited_s() >= self._bounds.seconds_max):
                    break
                stopping_since = self._check_grace(stopping_since)
                self._check_stall()
                continue
            except Ended:
                self._end()
                break
            except StrandlineError:
                if not self._may_end():
                    raise
                break  # what came before is good; the feed raises the same again at the next look
            self._heard_s = self._clock.monotonic_s()
            if isinstance(message, Schema):
                if not self._may_end():
                    raise TaskError(
                        f"the source changed table {message.table.name!r} between two checkpoints"
                    ) from None
                self._feed.put_back(message)
                break
            if isinstance(message, Checkpoint):
                self._checkpoint, self._open = message, False
                if self._stop.requested or self._full():
                    break
                continue
            taken = self._take(message)
            if taken is not None:
                yield taken
            stopping_since = self._check_grace(stopping_since)
        if self._checkpoint is not None:
            # a cursor that cannot be saved must be known before any row is durable
            check_cursor(self.key, self._checkpoint.cursor)
        self.exhausted = True

    def _take(self, message: SourceMessage | WindowMessage) -> WindowMessage | None:
        """Count the message; what the destination should see of it."""
        self._open = True
        counts = self.counts
        match message:
            case Failure():
                raise message.error
            case Insert():
                counts.rows[message.table] += message.batch.num_rows
                counts.reread += message.batch.num_rows if message.reread else 0
                counts.bytes += int(message.batch.nbytes)
            case Complete():
                counts.completed.append(message.table)
            case Delete() | Truncate() | Replace() | Present():
                if self._mode is WriteMode.APPEND:
                    return None
                counts.removes.add(message.table)
                counts.swept |= {message.table} if isinstance(message, Present) else set()
            case Stale() | Swap():
                counts.removes.add(message.table)
            case Schema() | Notice():
                raise AssertionError("what the engine handles does not come so far")
        if not (self._writes or isinstance(message, Complete)):
            self._writes = True
            self._on_first()
        counts.messages += 1
        return message

    def _may_end(self) -> bool:
        return self._checkpoint is not None and not self._open

    def _full(self) -> bool:
        return (
            sum(self.counts.rows.values()) >= self._bounds.rows_max
            or self.counts.bytes >= self._bounds.bytes_max
            or self._waited_s() >= self._bounds.seconds_max
        )

    def _waited_s(self) -> float:
        return self._clock.monotonic_s() - self._began_s

    def _end(self) -> None:
        if self._open:
            raise TaskError(
                "the source ended without a checkpoint after its last rows", hint="this is a fault of the source plugin"
            )

    def _check_stall(self) -> None:
        if self._feed.was_alive():
            self._heard_s = self._clock.monotonic_s()
        silent_s = self._clock.monotonic_s() - self._heard_s
        if silent_s >= self._bounds.stall_s:
            raise RetryableError(f"the source has sent nothing for {silent_s:.0f} s")

    def _check_grace(self, since_s: float | None) -> float | None:
        if not self._stop.requested:
            return None
        now_s = self._clock.monotonic_s()
        if since_s is not None and now_s - since_s > self._stop.grace_s:
            raise StoppedError(f"the source came to no checkpoint within {self._stop.grace_s:.0f} s of the signal")
        return now_s if since_s is None else since_s

    def emptied(self, tables: Collection[str], lacking: Collection[str] = ()) -> None:
        """See ``strandline.destination.Window``."""
        self.empty, self._lacking = frozenset(tables), frozenset(lacking)

    @property
    def checkpoint(self) -> Cursor | None:
        """See ``strandline.destination.Window``."""
        if not self.exhausted or self._checkpoint is None:
            raise RuntimeError("a window has no checkpoint before its messages are exhausted")
        return self._checkpoint.cursor

    @property
    def state(self) -> State:
        """See ``strandline.destination.Window``. The same object at every call."""
        if not self.exhausted:
            raise RuntimeError("a window has no state before its messages are exhausted")
        if self._state is None:
            state = self._following(self)
            # tables that are empty because their rows were deleted at the source are no contradiction next time
            tables = {name: replace(one, rows=0) if name in self.empty else one for name, one in state.tables.items()}
            swept = {
                name: replace(tables[name], lacks=name in self._lacking) for name in self.counts.swept & tables.keys()
            }
            self._state = replace(state, tables=tables | swept)
        return self._state
