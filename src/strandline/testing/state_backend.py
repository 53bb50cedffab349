"""What every state backend must do, as a class to subclass.

::

    class TestSQLiteState(StateBackendConformance):
        @pytest.fixture
        def reopen(self, tmp_path: Path) -> Callable[[], StateBackend]:
            cls = load_plugin("state_backend", "sqlite")       # through the entry point, as a user would
            return lambda: cls(cls.Spec(path=str(tmp_path / "state.db")))

        @pytest.fixture
        def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
            backend = reopen()
            yield backend
            backend.close()

        @pytest.fixture
        def raw(self, tmp_path: Path) -> Raw:                  # how what is stored is damaged behind its back
            return RawRow(tmp_path / "state.db")
"""

import itertools
import threading
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from strandline.errors import StateConflictError, StrandlineError
from strandline.state import (
    HISTORY_BYTES_MAX,
    HISTORY_MAX,
    RUN_TASK,
    Pass,
    Phase,
    State,
    StateBackend,
    StateKey,
    TableState,
    Token,
)
from strandline.testing.state_given_up import KEY, GivenUpCases, Reopen, example_state
from strandline.testing.state_parts import PlainCases
from strandline.testing.state_raw import RawCases
from strandline.testing.state_runs import RunCases

__all__ = ["KEY", "NAMES", "StateBackendConformance", "example_state", "states"]

NAMES = (
    *("aws", "aws-prod", "aws-prod-xyz", "aws.", "aws ", ".aws", "aws.json", "AWS", "Aws", "%61ws", "aws%", "%"),
    *(".", "..", "../aws", "/etc/passwd", "a/b", "a\\b", "a:b", "a b", " ", "\u200b", "\n", "~", "-", "--help"),
    *(
        "@",
        RUN_TASK,
        "a@b",
        "a@b@c",
        "con",
        "CON",
        "nul.json",
        "'",
        '"',
        "`",
        'x"; drop table y; --',
        "$(id)",
        "*",
        "?",
    ),
    *(unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD")),
    *("stra\u00dfe", "strasse", "\u0131", "i", "I", "\u4e2d\u6587", "\u202ertl", "\uffff"),
    *("\U0001faa3" * 70, "\U0001faa3" * 69 + "\U0001fad9", "x" * 300, "x" * 299 + "y"),
)
"""Names that are easily taken for each other, or for something else. The emoji are 280 bytes long in UTF-8."""

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
# Explaining a failure runs it hundreds of times more, which takes minutes where states are kept on a server.
_SETTINGS = settings(
    max_examples=25, stateful_step_count=12, deadline=None, phases=set(hypothesis.Phase) - {hypothesis.Phase.explain}
)
_INT64 = st.integers(0, 2**63 - 1)


def states() -> st.SearchStrategy[State]:
    """Everything that may be a state."""
    passes = st.builds(Pass, _INT64, st.booleans(), st.sampled_from(Phase), st.lists(st.text(), max_size=2).map(tuple))
    selections = st.lists(st.text(), max_size=2).map(tuple)
    tables = st.dictionaries(st.text(), st.builds(TableState, st.text(), st.text(), _INT64, selections), max_size=2)
    cursors = st.none() | st.dictionaries(st.text(), _JSON, max_size=4)
    texts, forms = [st.text()] * 3, st.none() | st.dictionaries(st.text(), _JSON, max_size=2)
    return st.builds(State, cursors, _INT64, _INT64, st.text(), st.none() | passes, tables, *texts, forms=forms)


def _load(backend: StateBackend, key: StateKey) -> State | None:
    return backend.load(key.source).get(key)


def _token(backend: StateBackend, key: StateKey) -> Token | None:
    stored = _load(backend, key)
    return stored.token if stored else None


def _raise_by_one(backend: StateBackend, key: StateKey, run_id: str) -> int:
    """Save the next state, against all others who try the same; the sequence that was saved."""
    for _ in range(1000):
        stored = _load(backend, key)
        following = replace(example_state(stored.sequence + 1 if stored else 1), run_id=run_id)
        with suppress(StateConflictError):
            backend.save(key, following, expected=stored.token if stored else None)
            return following.sequence
    pytest.fail("a save conflicts although its token was just loaded")


class StateBackendConformance(GivenUpCases, PlainCases, RawCases, RunCases):
    """Subclass it, and provide the fixtures ``backend``, ``reopen`` and ``raw``."""

    @pytest.fixture
    def backend(self) -> Iterator[StateBackend]:
        """A backend on an empty store, closed after the test."""
        raise NotImplementedError

    @pytest.fixture
    def reopen(self) -> Reopen:
        """Opens another, independent handle on the store of ``backend``; the suite closes it.

        A backend that keeps its states in the handle itself gives that one.
        """
        raise NotImplementedError

    def test_nothing_is_stored_at_first(self, backend: StateBackend) -> None:
        assert dict(backend.load("shop")) == {}
        assert list(backend.history(KEY)) == []

    def test_a_state_comes_back_as_it_was_saved(self, backend: StateBackend, reopen: Reopen) -> None:
        state = State(
            cursor={"updated_at": "2024-02-29T23:59:60Z", "id": 2**63, "x": [1.5, None, {"e\u0301\0": ["\U0001faa3"]}]},
            epoch=3,
            sequence=41,
            run_id="run-\u4e2d",
            current=Pass(1_709_251_199_000_001, full=True, phase=Phase.READ, completed=("orders", "or\u00fcders")),
            tables={"orders": TableState("0123456789abcdef", "mark", 5, basis={"filter": "x > 0"}), "": TableState("")},
            note="rewound by m\u00fcller: \u201cwhy not\u201d",
            saved_at="2024-02-29T23:59:59.000001+00:00",
            nonce="feedfacecafebeef",
            forms={"orders": {"by": [["a", "typed"], ["b", None]]}},
        )
        token = backend.save(KEY, state, expected=None)
        with closing(reopen()) as other:
            for handle in (backend, other):
                assert dict(handle.load("shop")) == {KEY: state}
                assert _token(handle, KEY) == token
                assert list(handle.history(KEY)) == [state]

    def test_no_cursor_is_not_an_empty_cursor(self, backend: StateBackend) -> None:
        for cursor in (None, {}, {"": None}):
            backend.save(KEY, example_state(cursor=cursor), expected=_token(backend, KEY))
            stored = _load(backend, KEY)
            assert stored is not None
            assert stored.cursor == cursor

    def test_any_state_may_replace_any_other(self, backend: StateBackend) -> None:
        numbers = itertools.count()

        @_SETTINGS
        @given(states(), states())
        def replaces(old: State, new: State) -> None:
            key = replace(KEY, source=f"source {next(numbers)}")
            token = backend.save(key, new, expected=backend.save(key, old, expected=None))
            assert _load(backend, key) == new
            assert _token(backend, key) == token
            assert list(backend.history(key)) == [new, old]

        replaces()

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), datetime(2024, 1, 1, tzinfo=UTC), {1}, b"x"])
    def test_a_cursor_that_is_not_json_is_refused(self, backend: StateBackend, value: object) -> None:
        kept = example_state()
        token = backend.save(KEY, kept, expected=None)
        with pytest.raises((TypeError, ValueError, StrandlineError)):
            backend.save(KEY, example_state(2, cursor={"x": value}), expected=token)
        assert _load(backend, KEY) == kept
        assert _token(backend, KEY) == token

    def test_a_second_create_conflicts(self, backend: StateBackend, reopen: Reopen) -> None:
        kept = example_state()
        backend.save(KEY, kept, expected=None)
        with closing(reopen()) as other:
            for handle in (backend, other):
                with pytest.raises(StateConflictError):
                    handle.save(KEY, example_state(2), expected=None)
        assert list(backend.history(KEY)) == [kept]

    def test_a_stale_token_conflicts_and_changes_nothing(self, backend: StateBackend, reopen: Reopen) -> None:
        first, second = example_state(1), example_state(2)
        stale = backend.save(KEY, first, expected=None)
        with closing(reopen()) as other:
            token = other.save(KEY, second, expected=stale)
        for expected in (stale, None, "", "0", token + "0", token[:-1]):
            with pytest.raises(StateConflictError):
                backend.save(KEY, example_state(3), expected=expected)
        assert list(backend.history(KEY)) == [second, first]
        assert _token(backend, KEY) == token

    def test_the_same_save_again_conflicts(self, backend: StateBackend) -> None:
        state = example_state()
        token = backend.save(KEY, state, expected=None)
        following = example_state(2)
        backend.save(KEY, following, expected=token)
        with pytest.raises(StateConflictError):
            backend.save(KEY, following, expected=token)
        assert list(backend.history(KEY)) == [following, state]

    def test_a_token_needs_a_state(self, backend: StateBackend) -> None:
        token = backend.save(KEY, example_state(), expected=None)
        for key in (replace(KEY, task="items"), replace(KEY, destination="lake"), replace(KEY, source="crm")):
            with pytest.raises(StateConflictError):
                backend.save(key, example_state(), expected=token)
            assert list(backend.history(key)) == []
        assert set(backend.load("shop")) == {KEY}

    def test_equal_states_have_tokens_of_their_own(self, backend: StateBackend) -> None:
        state, other = example_state(1), example_state(2)
        tokens: list[Token] = []
        for each in (state, other, state, state, state):
            tokens.append(backend.save(KEY, each, expected=tokens[-1] if tokens else None))
        assert len(set(tokens)) == len(tokens)
        with pytest.raises(StateConflictError):
            backend.save(KEY, other, expected=tokens[0])

    @pytest.mark.parametrize("part", ["source", "task", "destination"])
    def test_names_are_never_taken_for_each_other(self, backend: StateBackend, reopen: Reopen, part: str) -> None:
        kept = {replace(KEY, **{part: name}): example_state(number) for number, name in enumerate(NAMES)}
        for key, state in kept.items():
            backend.save(key, state, expected=None)
        with closing(reopen()) as other:
            for source in {key.source for key in kept}:
                assert dict(other.load(source)) == {key: state for key, state in kept.items() if key.source == source}
            assert {key: list(other.history(key)) for key in kept} == {key: [state] for key, state in kept.items()}
            assert dict(other.load("aw")) == {}

    def test_borders_between_names_count(self, backend: StateBackend) -> None:
        parts = [("a", "b@c", "d"), ("a", "b", "c@d"), ("a/b", "c", "d"), ("a", "b/c", "d"), ("a.b", "c", "d")]
        kept = {StateKey(*each): example_state(number) for number, each in enumerate([*parts, ("a", "b.c", "d")])}
        for key, state in kept.items():
            backend.save(key, state, expected=None)
        assert {**backend.load("a"), **backend.load("a/b"), **backend.load("a.b")} == kept

    def test_history_keeps_the_last_commits(self, backend: StateBackend, reopen: Reopen) -> None:
        saved: list[State] = []
        token = None
        for sequence in range(1, HISTORY_MAX + 4):
            saved.insert(0, example_state(sequence))
            token = backend.save(KEY, saved[0], expected=token)
            assert list(backend.history(KEY)) == saved[:HISTORY_MAX]
        with closing(reopen()) as other:
            assert list(other.history(KEY)) == saved[:HISTORY_MAX]
        assert list(backend.history(replace(KEY, destination="lake"))) == []

    def test_large_states_have_a_short_history(self, backend: StateBackend, reopen: Reopen) -> None:
        """Of a hundred thousand files a cursor has megabytes."""
        saved: list[State] = []
        token = None
        for sequence in range(1, 5):
            cursor = {"n": sequence, "files": "x" * (HISTORY_BYTES_MAX // 2)}
            saved.insert(0, example_state(sequence, cursor=cursor))
            token = backend.save(KEY, saved[0], expected=token)
            assert list(backend.history(KEY)) == saved[:2]
        idle = example_state(5, cursor=saved[0].cursor)
        token = backend.save(KEY, idle, expected=token)
        assert list(backend.history(KEY)) == [idle, saved[1]]
        small = example_state(6)
        backend.save(KEY, small, expected=token)
        with closing(reopen()) as other:
            assert list(other.history(KEY)) == [small, idle]

    def test_a_save_fences_out_the_other_handle(self, backend: StateBackend, reopen: Reopen) -> None:
        token = backend.save(KEY, example_state(1), expected=None)
        taken_over = example_state(2, epoch=2)
        with closing(reopen()) as other:
            other.save(KEY, taken_over, expected=_token(other, KEY))
        with pytest.raises(StateConflictError):
            backend.save(KEY, example_state(2), expected=token)
        assert _load(backend, KEY) == taken_over

    @pytest.mark.parametrize("handles", ["one handle", "a handle each"])
    def test_of_several_writers_each_save_has_one_winner(
        self, backend: StateBackend, reopen: Reopen, handles: str
    ) -> None:
        writers, saves = 4, 8
        opened = [backend if handles == "one handle" else reopen() for _ in range(writers)]
        start = threading.Barrier(writers, timeout=60)

        def write(number: int) -> list[int]:
            start.wait()
            return [_raise_by_one(opened[number], KEY, str(number)) for _ in range(saves)]

        with ThreadPoolExecutor(writers) as pool:
            won = list(pool.map(write, range(writers)))
        assert sorted(itertools.chain(*won)) == list(range(1, writers * saves + 1))
        expected = {sequence: str(number) for number, each in enumerate(won) for sequence in each}
        history = backend.history(KEY)
        assert [state.sequence for state in history] == sorted(expected, reverse=True)[:HISTORY_MAX]
        assert all(state.run_id == expected[state.sequence] for state in history)
        for handle in opened:
            handle.close()

    def test_a_reader_sees_whole_states_that_never_go_back(self, backend: StateBackend, reopen: Reopen) -> None:
        backend.save(KEY, example_state(1), expected=None)
        done = threading.Event()

        def read(other: StateBackend) -> list[int]:
            seen: list[int] = []
            while not done.is_set() or not seen:
                history = other.history(KEY)
                assert [state.cursor for state in history] == [{"n": state.sequence} for state in history]
                seen += [history[0].sequence, other.load("shop")[KEY].sequence]
            return seen

        with closing(reopen()) as other, ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read, other)
            try:
                for _ in range(40):
                    _raise_by_one(backend, KEY, "writer")
            finally:
                done.set()
            seen = reading.result(60)
        assert seen == sorted(seen)

    def test_it_does_what_a_dictionary_would_do(self, backend: StateBackend, reopen: Reopen) -> None:
        del backend
        numbers = itertools.count()
        machine = cast(Any, lambda: _Model(reopen, f"source {next(numbers)}"))
        run_state_machine_as_test(machine, settings=settings(_SETTINGS, max_examples=8))

    def test_closing_twice_keeps_what_was_saved(self, backend: StateBackend, reopen: Reopen) -> None:
        state = example_state()
        backend.save(KEY, state, expected=None)
        backend.close()
        backend.close()
        with closing(reopen()) as other:
            assert _load(other, KEY) == state


class _Model(RuleBasedStateMachine):
    """The backend beside a dictionary of lists, with a new handle now and then."""

    keys = st.tuples(st.sampled_from("AaB"), st.sampled_from("xX"))

    def __init__(self, reopen: Reopen, source: str) -> None:
        super().__init__()
        self.reopen = reopen
        self.source = source
        self.backend = reopen()
        self.commits: dict[StateKey, list[State]] = {}
        self.tokens: dict[StateKey, Token] = {}
        self.spent: list[Token] = []

    @rule(names=keys)
    def save(self, names: tuple[str, str]) -> None:
        key = StateKey(self.source, *names)
        state = example_state(len(self.spent))
        token = self.backend.save(key, state, expected=self.tokens.get(key))
        assert token not in self.spent
        self.spent.append(token)
        self.tokens[key] = token
        self.commits[key] = [state, *self.commits.get(key, [])][:HISTORY_MAX]

    @rule(names=keys, pick=st.integers(0, 10))
    def save_with_a_wrong_token(self, names: tuple[str, str], pick: int) -> None:
        key = StateKey(self.source, *names)
        wrong = [token for token in (None, "unknown", *self.spent) if token != self.tokens.get(key)]
        with pytest.raises(StateConflictError):
            self.backend.save(key, example_state(), expected=wrong[pick % len(wrong)])

    @rule()
    def open_again(self) -> None:
        self.backend.close()
        self.backend = self.reopen()

    @invariant()
    def everything_is_there(self) -> None:
        found = self.backend.load(self.source)
        assert dict(found) == {key: commits[0] for key, commits in self.commits.items()}
        assert {key: state.token for key, state in found.items()} == self.tokens
        assert {key: list(self.backend.history(key)) for key in self.commits} == self.commits

    def teardown(self) -> None:
        self.backend.close()
