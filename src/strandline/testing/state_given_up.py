"""Cases: a state that cannot be trusted, and who may save over it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from strandline.errors import StateConflictError, StateError
from strandline.state import State, StateBackend, StateKey

__all__ = ["KEY", "GivenUpCases", "Reopen", "example_state"]

Reopen: TypeAlias = Callable[[], StateBackend]

KEY = StateKey("shop", "orders", "warehouse")
"""The lineage of most tests."""


def example_state(sequence: int = 1, **changes: Any) -> State:
    """A plain state; a fresh nonce each time."""
    return replace(State(cursor={"n": sequence}, epoch=1, sequence=sequence, run_id="run"), **changes)


class GivenUpCases:
    """Part of ``StateBackendConformance``."""

    @pytest.fixture
    def damage(self) -> Callable[[StateKey], None]:
        """Damages the stored state of a key behind the backend's back, as a torn write or a careless hand would."""
        raise NotImplementedError

    def test_a_state_that_cannot_be_trusted_is_refused_until_it_is_given_up(
        self, backend: StateBackend, reopen: Reopen, damage: Callable[[StateKey], None]
    ) -> None:
        good, token = example_state(7), backend.save(KEY, example_state(3), expected=None)
        beside = replace(KEY, task="items")
        backend.save(beside, good, expected=None)
        damage(KEY)
        with closing(reopen()) as other:
            for anew in (None, lambda key: key != KEY):
                with pytest.raises(StateError) as refused:
                    other.load(KEY.source, anew=anew)
                assert "state reset 'shop' 'orders'" in refused.value.hint
            found = other.load(KEY.source, anew=lambda key: key == KEY)
            given_up = found[KEY]
            assert (given_up.cursor, given_up.current, given_up.tables, given_up.run_id) == (None, None, {}, "")
            assert given_up.note
            assert dict(found) == {KEY: given_up, beside: good}
            with pytest.raises(StateError):
                other.load(KEY.source)
            for wrong in {None, "0", token} - {given_up.token}:
                with pytest.raises((StateConflictError, StateError)):
                    other.save(KEY, example_state(8), expected=wrong)
            fresh = example_state(9)
            token = other.save(KEY, fresh, expected=given_up.token)
            assert dict(other.load(KEY.source)) == {KEY: fresh, beside: good}
            assert other.load(KEY.source)[KEY].token == token

    def test_beginning_anew_gives_up_nothing_that_can_be_trusted(self, backend: StateBackend) -> None:
        state = example_state()
        token = backend.save(KEY, state, expected=None)
        found = backend.load(KEY.source, anew=lambda _: True)
        assert dict(found) == {KEY: state}
        assert found[KEY].token == token
