"""What a backend must do that keeps the parts of large cursors by themselves (``strandline.parted``).

A class to subclass beside ``StateBackendConformance``, with two fixtures more::

    class TestSQLiteState(StateBackendConformance, PartsCases):
        @pytest.fixture
        def parts(self, tmp_path: Path) -> Callable[[StateKey], set[str]]:
            return lambda key: names_of_parts(tmp_path / "state.db", key)

        @pytest.fixture
        def put_part(self, tmp_path: Path) -> PutPart:
            return lambda key, name, text: put(tmp_path / "state.db", key, name, text)

A backend that keeps none saves every state in one piece, as ``StateBackendConformance`` checks.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from strandline.errors import StateConflictError, StateError
from strandline.parted import Parted
from strandline.state import HISTORY_MAX, State, StateBackend, StateKey
from strandline.testing.state_given_up import KEY, Reopen, example_state

__all__ = ["PartsCases", "PlainCases", "PutPart", "large_mapping"]

PutPart: TypeAlias = Callable[[StateKey, str, str | None], None]
"""Puts another text in the place of a part, behind the backend's back; ``None``: removes it."""

_KEYS = 400


def large_mapping(first: int = 0, count: int = _KEYS) -> dict[str, Any]:
    """Some 100 bytes for each key, so that all of it is too large to stay with its state."""
    return {f"key \u00e9 {number}": [number, "x" * 80, None] for number in range(first, first + count)}


def parted_state(sequence: int, files: Parted, **changes: Any) -> State:
    """A state with a large mapping in its cursor."""
    return example_state(sequence, cursor={"n": sequence, "files": files}, **changes)


class PlainCases:
    """Part of ``StateBackendConformance``."""

    def test_a_mapping_that_has_parts_comes_back_like_a_plain_one(self, backend: StateBackend, reopen: Reopen) -> None:
        """Whether the backend keeps parts or not: see ``strandline.parted``."""
        files, token, saved = Parted.of({"a": [1]}), None, list[State]()
        for sequence, more in enumerate(({}, large_mapping(), large_mapping(500, 10), large_mapping(0, 300)), 1):
            files = files.changed(more, gone=["a", "key \u00e9 503", "never there"][:sequence])
            saved.insert(0, example_state(sequence, cursor={"n": sequence, "files": files, "": None}))
            token = backend.save(KEY, saved[0], expected=token)
            with closing(reopen()) as other:
                for handle in (backend, other):
                    assert handle.load(KEY.source) == {KEY: saved[0]}
                    assert list(handle.history(KEY)) == saved
        assert backend.load(KEY.source)[KEY].cursor == {"n": 4, "files": files.whole(), "": None}


class PartsCases:
    """Subclass it, and provide the fixtures ``parts`` and ``put_part``."""

    @pytest.fixture
    def parts(self) -> Callable[[StateKey], set[str]]:
        """The names of the parts that are stored of a lineage."""
        raise NotImplementedError

    @pytest.fixture
    def put_part(self) -> PutPart:
        """Damages or removes a part that is stored."""
        raise NotImplementedError

    def test_a_commit_writes_no_part_that_has_not_changed(
        self, backend: StateBackend, parts: Callable[[StateKey], set[str]]
    ) -> None:
        files = Parted.of(large_mapping())
        token = backend.save(KEY, parted_state(1, files), expected=None)
        before = parts(KEY)
        assert len(before) == 1
        for sequence in (2, 3):
            files = files.changed({f"new {sequence}": [1]}, gone=[f"key \u00e9 {sequence}"])
            token = backend.save(KEY, parted_state(sequence, files), expected=token)
            assert parts(KEY) == before
        files = files.changed(large_mapping(1000, _KEYS // 2 - 10))
        backend.save(KEY, parted_state(4, files), expected=token)
        assert parts(KEY) > before
        assert len(parts(KEY)) == 2
        assert backend.load(KEY.source)[KEY].cursor == {"n": 4, "files": files.whole()}

    def test_every_version_of_the_history_keeps_its_parts_and_no_others_stay(
        self, backend: StateBackend, reopen: Reopen, parts: Callable[[StateKey], set[str]]
    ) -> None:
        beside, small = replace(KEY, task="items"), Parted.of(large_mapping(5000))
        backend.save(beside, parted_state(1, small), expected=None)
        files, saved, token = Parted(), list[State](), None
        for sequence in range(1, HISTORY_MAX + 6):
            gone = [f"key \u00e9 {number}" for number in range(sequence * 100, sequence * 100 + 40)]
            files = files.changed(large_mapping(sequence * 100, 200), gone)
            saved.insert(0, parted_state(sequence, files))
            token = backend.save(KEY, saved[0], expected=token)
        named = {part.name for state in saved[:HISTORY_MAX] for part in state.cursor["files"].split()[0]}  # type: ignore[index]
        assert parts(KEY) == named
        with closing(reopen()) as other:
            assert list(other.history(KEY)) == saved[:HISTORY_MAX]
            assert other.load(KEY.source) == {
                KEY: saved[0],
                beside: parted_state(1, small, nonce=_nonce(other, beside)),
            }
            for sequence in range(30, 30 + 2 * HISTORY_MAX):
                token = other.save(KEY, example_state(sequence), expected=token)
            assert parts(KEY) == set()
            assert len(parts(beside)) == 1

    def test_a_save_that_is_refused_changes_no_parts(
        self, backend: StateBackend, reopen: Reopen, parts: Callable[[StateKey], set[str]]
    ) -> None:
        """Of two runs at once, neither takes away what the other one needs."""
        files = Parted.of(large_mapping())
        stale = backend.save(KEY, parted_state(1, files), expected=None)
        with closing(reopen()) as other:
            taken = parted_state(2, files.changed(large_mapping(2000, 150)), epoch=2)
            other.save(KEY, taken, expected=stale)
            before = parts(KEY)
            for late in (parted_state(2, Parted.of(large_mapping(7000))), example_state(2)):
                for expected in (stale, None):
                    with pytest.raises(StateConflictError):
                        backend.save(KEY, late, expected=expected)
            assert parts(KEY) == before
            assert other.load(KEY.source)[KEY] == taken

    @pytest.mark.parametrize("text", [None, "", '{"gone":[],"values":{}}'], ids=["gone", "empty", "another"])
    def test_a_state_without_one_of_its_parts_cannot_be_trusted(
        self,
        backend: StateBackend,
        reopen: Reopen,
        parts: Callable[[StateKey], set[str]],
        put_part: PutPart,
        text: str | None,
    ) -> None:
        """Unknown is not empty: it never looks like a cursor that knows less."""
        files, beside = Parted.of(large_mapping()), replace(KEY, task="items")
        good = parted_state(7, files.changed({"more": 1}))
        backend.save(KEY, parted_state(1, files), expected=None)
        backend.save(beside, good, expected=None)
        (name,) = parts(KEY)
        put_part(KEY, name, text)
        with closing(reopen()) as other:
            found = other.load(KEY.source)
            assert found[beside] == good
            damaged = found[KEY]
            assert isinstance(damaged.untrusted, StateError)
            assert "state reset 'shop' 'orders'" in damaged.untrusted.hint
            assert (damaged.cursor, damaged.tables) == (None, {})
            with suppress(StateError):  # of a file with its history in it
                assert [commit.untrusted is None for commit in other.history(KEY)] == [False]
            fresh = damaged.following(run_id="run", epoch=1, cursor={"n": 9})
            other.save(KEY, fresh, expected=damaged.token)
            assert other.load(KEY.source) == {KEY: fresh, beside: good}

    def test_a_version_of_the_history_can_be_saved_again(self, backend: StateBackend) -> None:
        """As `state restore` does; and what another backend has loaded, as `state copy` does."""
        files = Parted.of(large_mapping())
        token = backend.save(KEY, parted_state(1, files), expected=None)
        token = backend.save(KEY, parted_state(2, Parted.of(large_mapping(3000))), expected=token)
        old = backend.history(KEY)[1]
        again = backend.load(KEY.source)[KEY].following(run_id="by hand", epoch=1, cursor=old.cursor)
        token = backend.save(KEY, again, expected=token)
        assert backend.load(KEY.source) == {KEY: again}
        elsewhere = replace(KEY, source="crm")
        backend.save(elsewhere, again, expected=None)
        assert backend.load("crm") == {elsewhere: again}
        assert again.cursor == {"n": 1, "files": large_mapping()}


def _nonce(backend: StateBackend, key: StateKey) -> str:
    return backend.load(key.source)[key].nonce
