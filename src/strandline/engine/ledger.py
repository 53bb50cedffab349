"""The states of one source in one destination: where they are kept, in which order they are saved, and who holds them.

A destination that keeps states is authoritative, since it commits them with the rows; the configured backend is then a
mirror, saved after it. Elsewhere the backend is all there is.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from strandline.destination import Fence
from strandline.engine.plan import refreshed_task
from strandline.errors import LockedError, RetryableError, StateConflictError, StateError
from strandline.message import Cursor
from strandline.shard import Shard
from strandline.state import RUN_TASK, State, StateBackend, StateKey, Token, is_newer, is_run

__all__ = ["ATTEMPTS_MAX", "LEASE", "Ledger"]

ATTEMPTS_MAX = 1000
"""How many epochs a run has: its own, and one for each worker that goes on for a lost one (``Work.attempt``). The next run is above them all:
else a worker of a run that was overtaken would have the later run's epoch, and be let in."""

LEASE = "lease"
"""Under which name the cursor of ``@run`` keeps who holds it."""
_SIBLINGS_MAX = 20
"""How often what another run has just saved is read again, before this one gives in."""


class Ledger:
    """Opened once a run for each destination; a lineage is then used by its task's thread only.

    Args:
        source: the source's name.
        destination: the destination's name.
        own: the destination's own states, if it keeps any.
        backend: the configured backend.
        shard: which tasks the run has; ``None``: all.
    """

    def __init__(
        self,
        source: str,
        destination: str,
        *,
        own: StateBackend | None,
        backend: StateBackend,
        shard: Shard | None = None,
    ) -> None:
        self.source, self.destination, self.shard = source, destination, shard
        self.run_key = StateKey(source, shard.run if shard is not None else RUN_TASK, destination)
        """Where this run keeps its epoch and its lease."""
        self._root = StateKey(source, RUN_TASK, destination)
        """Where all runs keep what they say of the project."""
        self.atomic = own is not None
        """Whether the destination commits the state with the rows."""
        self.claims = not self.atomic
        """Whether a lineage is claimed before its first row."""
        self._authority = own if own is not None else backend
        self._mirror = backend if own is not None and backend is not own else None
        self._stored: dict[StateKey, State] = {}
        self._mirrored: dict[StateKey, State] = {}
        self._tokens: dict[StateKey, Token] = {}
        self._mirror_tokens: dict[StateKey, Token] = {}
        self._heard = 0
        self.about: Cursor = {}
        """What this run says of itself, to be kept in ``@run`` as long as nobody says otherwise."""
        self.agree: Callable[[], Cursor] = lambda: self.about
        """Says it, by what is loaded."""

    @property
    def mirrors(self) -> bool:
        """Whether there are two states to compare."""
        return self._mirror is not None

    def load(self) -> None:
        """Read everything. Changes nothing.

        The mirror first: while another run goes on, it may then be behind the authority, which is harmless, but never
        know of something that the authority does not.
        """
        if self._mirror is not None:
            self._mirrored, self._mirror_tokens = self._read(self._mirror)
        self._stored, self._tokens = self._read(self._authority)
        for key, state in self._stored.items():
            if state.untrusted is not None and key in self._mirrored:  # the mirror still knows the pass
                self._stored[key] = replace(state, current=self._mirrored[key].current)

    def _read(self, backend: StateBackend) -> tuple[dict[StateKey, State], dict[StateKey, Token]]:
        loaded = backend.load(self.source).items()
        states = {key: state for key, state in loaded if key.destination == self.destination}
        return states, {key: state.token for key, state in states.items() if state.token is not None}

    def key(self, task: str) -> StateKey:
        """The lineage of a task."""
        return StateKey(self.source, task, self.destination)

    def stored(self, key: StateKey) -> State | None:
        """The authoritative state."""
        return self._stored.get(key)

    def mirrored(self, key: StateKey) -> State | None:
        """The mirror's; ``None`` also where there is no mirror."""
        return self._mirrored.get(key)

    def untrusted(self, key: StateKey) -> StateError | None:
        """Why what is kept of a lineage cannot be gone on with."""
        kept = self._stored.get(key), self._mirrored.get(key)
        error = next((one.untrusted for one in kept if one is not None and one.untrusted is not None), None)
        if error is None or kept[0] is None or kept[0].untrusted is not None:
            return error
        away = (
            "the destination's own state is sound: take this one out of the backend, and the next sync writes it again"
        )
        return StateError(error.message, hint=f"{away}; or {error.hint}")

    def lineages(self) -> list[StateKey]:
        """Every lineage that is known on either side, without the run's own, sorted."""
        return sorted(key for key in {*self._stored, *self._mirrored} if not is_run(key.task))

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of a lineage, the newest first, as the authority has them."""
        return self._authority.history(key)

    def token(self, key: StateKey) -> Token | None:
        """What the authority must still hold when the next state is saved."""
        return self._tokens.get(key)

    def check_holder(self) -> None:
        """Whether the epoch is known, without which nobody can be kept out.

        Raises:
            StateError: the state ``@run`` cannot be trusted, on either side.
        """
        for key in sorted({self._root, self.run_key, *self._meeting()}):
            for found in (self._stored.get(key), self._mirrored.get(key)):
                if found is not None and found.untrusted is not None:
                    raise found.untrusted

    @property
    def holder(self) -> State | None:
        """The state ``@run``, or that of the shard: the epoch, and who holds the lease."""
        return self._stored.get(self.run_key)

    @property
    def rivals(self) -> list[tuple[StateKey, State]]:
        """Other runs that can have a task that this one has, too, and have not said that they have ended."""
        found = [(key, self._stored[key]) for key in self._meeting() if key in self._stored]
        return [(key, state) for key, state in found if LEASE in (state.cursor or {})]

    def _meeting(self) -> list[StateKey]:
        """Where runs of all tasks, or of other shards that have some of these tasks, keep their epochs."""
        runs = (key for key in {*self._stored, *self._mirrored} if is_run(key.task) and key != self.run_key)
        return sorted(key for key in runs if self.shard is None or self.shard.meets(Shard.of_run(key.task)))

    @property
    def kept(self) -> Cursor:
        """What is kept in ``@run`` beside the lease, whichever run it is of."""
        root = self._stored.get(self._root)
        kept = dict((root.cursor if root is not None else None) or {})
        kept.pop(LEASE, None)
        return kept

    @property
    def facts(self) -> Cursor:
        """What is to be kept there: also what this run says."""
        return {**self.kept, **self.about}

    def of_run(self, lease: Cursor | None) -> Cursor | None:
        """What to keep in the state of this run: a lease that is held, and, in ``@run``, the facts."""
        return {**(self.facts if self.shard is None else {}), **(lease or {})} or None

    def named(self, source: str, destination: str) -> "Ledger":
        """Where the states of another source or destination would be kept, loaded."""
        own = self._authority if self.atomic else None
        other = Ledger(source, destination, own=own, backend=self._mirror or self._authority)
        other.load()
        return other

    def still_held(self, fence: Fence) -> bool:
        """Whether ``@run`` is this run's own, as it is stored now; the next save then goes on from there."""
        found = self._authority.load(self.source).get(fence.key)
        if found is None or found.token is None or (found.epoch, found.run_id) != (fence.epoch, fence.run_id):
            return False
        self._stored[fence.key], self._tokens[fence.key] = found, found.token
        return True

    def is_overtaken(self, fence: Fence) -> bool:
        """Whether another run is kept in ``@run``, as it is stored now. Where nothing is kept, nobody knows."""
        found = self._authority.load(self.source).get(fence.key)
        return found is not None and (found.epoch, found.run_id) != (fence.epoch, fence.run_id)

    def join(self, fence: Fence, task: str, *, attempt: int = 0) -> None:
        """Go on for a run in another process, once the states are loaded.

        A run that takes over later is safe: it claims what it writes, and the tokens that were loaded are older. At a later
        ``attempt`` at a task, this one claims it, to keep out who may be at work for the same run.

        Raises:
            StateConflictError: the run was overtaken.
        """
        self.claims = self.claims or attempt > 0
        owned = [one for key, one in self._stored.items() if (refreshed_task(key.task) or key.task) == task]
        holder, latest = self.holder, max((state.epoch for state in owned), default=0)
        held = holder is not None and (holder.epoch, holder.run_id) == (fence.epoch, fence.run_id)
        if not held or latest > fence.epoch + attempt:
            raise StateConflictError(
                f"another run has taken over {self.source} into {self.destination} from run {fence.run_id}",
                hint="let one run at a time sync this source",
            )

    def heard(self, epoch: int) -> None:
        """Of an epoch that the destination remembers, though the states may not."""
        self._heard = max(self._heard, epoch)

    def take_over(self, run_id: str, now: datetime, lease: Cursor | None = None) -> Fence:
        """Raise the epoch above all that was ever used here: whoever held it before is fenced, and so are ``rivals``.

        Until now it may have gone on, so everything is read again. What was read is only used if nobody has taken over
        meanwhile: with a later run's tokens, this one would no longer be kept out. ``lease`` is kept beside the epoch.

        Of two runs that begin at once and meet elsewhere than here, each saves its own state and then looks for the other's, so
        that one at least finds the other among its ``rivals``.

        Raises:
            StateConflictError: another run has taken over.
        """
        key = self.run_key
        self._fence_rivals(run_id, now)
        if self.shard is not None:
            self._keep_facts(run_id, now)
        known = [*self._stored.values(), *self._mirrored.values()]
        epoch = _above(max([self._heard, *(state.epoch for state in known)]))
        before = self._stored.get(key) or self._mirrored.get(key) or State(None, epoch, 0, run_id)
        mine = self.save(key, before.following(run_id=run_id, epoch=epoch, now=now, cursor=self.of_run(lease)))
        self.load()
        holder = self._authority.load(self.source).get(key)
        if holder is not None and holder.nonce != mine.nonce:
            raise StateConflictError(
                f"run {holder.run_id} has taken over {self.source} into {self.destination}",
                hint="let one run at a time sync this source",
            )
        return Fence(self.source, self.destination, epoch, run_id, key.task)

    def _fence_rivals(self, run_id: str, now: datetime) -> None:
        """Raise the epochs of runs that have not ended, or did not say so: above their own and their workers', below this run's.

        Other shards that fence out the same run are not fenced out by that.
        """
        for key, state in self.rivals:
            kept = {name: value for name, value in (state.cursor or {}).items() if name != LEASE}
            self.save(key, state.following(run_id=run_id, epoch=_above(state.epoch), now=now, cursor=kept or None))

    def _keep_facts(self, run_id: str, now: datetime) -> None:
        """In ``@run``, of which a run of a shard changes nothing else; of several that begin at once, the first makes it."""
        for _ in range(_SIBLINGS_MAX):
            self.about = self.agree()
            root = self._stored.get(self._root)
            if self.about.items() <= self.kept.items():
                break
            first = root or self._mirrored.get(self._root) or State(None, 1, 0, run_id)
            cursor = {**(first.cursor or {}), **self.facts}
            try:
                self.save(self._root, first.following(run_id=first.run_id, epoch=first.epoch, now=now, cursor=cursor))
            except LockedError:
                raise
            except StateConflictError:
                self.load()
        if self.mirrors and self._root not in self._mirrored:
            self.settle(self._root)

    def save(self, key: StateKey, state: State) -> State:
        """Save without rows: the authority first, then the mirror. The state that is returned has its token."""
        token = self._save(self._authority, key, state, self._tokens.get(key))
        return self.committed(key, replace(state, token=token))

    def claim(self, key: StateKey, state: State) -> State:
        """Save what was found of a lineage under the epoch of this run: from then on no earlier run can save it any more.

        Raises:
            RetryableError: an earlier run has just saved something, which is known now.
            StateConflictError: a later run has claimed it.
        """
        try:
            return self.save(key, state)
        except LockedError:
            raise
        except StateConflictError:
            found = self._authority.load(self.source).get(key)
            if found is None or found.token in (None, self._tokens.get(key)) or found.epoch >= state.epoch:
                raise  # by the token that is known: the destination has refused the epoch of the run
            self._stored[key], self._tokens[key] = found, found.token
            raise RetryableError(f"{key}: run {found.run_id} has saved a state after it was overtaken") from None

    def announce(self, key: StateKey, before: State, doomed: Sequence[str], *, fence: Fence, now: datetime) -> State:
        """Save which tables are about to be created again, before a forced migration drops their rows.

        The cursor goes with the first window after it, and not before: the migration may be refused, or fail. Whoever is
        interrupted in between finds tables with other marks, and knows why.
        """
        tables = {name: replace(table, doomed=name in doomed) for name, table in before.tables.items()}
        if tables == before.tables:
            return before
        note = f"migrate_mode: forced creates {', '.join(doomed)} again"
        return self.claim(
            key, before.following(run_id=fence.run_id, epoch=fence.epoch, now=now, tables=tables, note=note)
        )

    def committed(self, key: StateKey, state: State) -> State:
        """The destination has committed ``state`` with its rows: bring the mirror up to it."""
        if state.token is None:
            raise StateError(f"{key}: the destination named no token for the state it committed")
        self._stored[key], self._tokens[key] = state, state.token
        self._fix(key)
        return state

    def settle(self, key: StateKey) -> None:
        """What was loaded of a lineage counts: bring the mirror up to it."""
        if key in self._stored:
            self._fix(key)

    def _fix(self, key: StateKey) -> None:
        """Make the mirror equal to the authority.

        An older run may have saved its last commit there after this one has looked: that is history.
        """
        state, mirror = self._stored[key], self._mirror
        if mirror is None:
            return
        try:
            token = self._save(mirror, key, state, self._mirror_tokens.get(key))
        except StateConflictError:
            late = mirror.load(self.source).get(key)
            if late is None or is_newer(late, state):
                raise
            token = self._save(mirror, key, state, late.token)
        self._mirror_tokens[key], self._mirrored[key] = token, state

    def _save(self, backend: StateBackend, key: StateKey, state: State, expected: Token | None) -> Token:
        try:
            return backend.save(key, state, expected=expected)
        except StateError as unknown:
            return self._resolve(backend, key, state, expected, unknown)

    def resolve(self, key: StateKey, state: State, unknown: StateError) -> State:
        """The reply to the destination's commit was lost: look whether ``state`` is there. It then has its token.

        Raises:
            RetryableError: it is not; nothing was written.
            StateConflictError: another run's is.
        """
        token = self._resolve(self._authority, key, state, self._tokens.get(key), unknown)
        return replace(state, token=token)

    def _resolve(
        self,
        backend: StateBackend,
        key: StateKey,
        state: State,
        expected: Token | None,
        unknown: StateError,
    ) -> Token:
        found = backend.load(self.source).get(key)
        if found is not None and found.nonce == state.nonce and found.token is not None:
            return found.token
        if (found.token if found is not None else None) == expected:
            raise RetryableError(f"{key}: the state was not saved ({unknown.message})", hint=unknown.hint) from unknown
        raise StateConflictError(
            f"{key}: another run has saved a state meanwhile", hint="let one run at a time sync this source"
        ) from unknown


def _above(epoch: int) -> int:
    """The first epoch of the next run."""
    return (epoch // ATTEMPTS_MAX + 1) * ATTEMPTS_MAX
