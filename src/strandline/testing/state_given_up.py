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

    def test_a_state_that_cannot_be_trusted_says_so_beside_those_that_can(
        self, backend: StateBackend, reopen: Reopen, damage: Callable[[StateKey], None]
    ) -> None:
        """Unknown is not empty: it never looks like a lineage that nobody has begun."""
        good = example_state(7)
        backend.save(KEY, example_state(3), expected=None)
        beside = replace(KEY, task="items")
        backend.save(beside, good, expected=None)
        damage(KEY)
        with closing(reopen()) as other:
            found = other.load(KEY.source)
            assert dict(found).keys() == {KEY, beside}
            assert found[beside] == good
            assert found[beside].untrusted is None
            damaged = found[KEY]
            assert isinstance(damaged.untrusted, StateError)
            assert "state reset 'shop' 'orders'" in damaged.untrusted.hint
            assert (damaged.cursor, damaged.current, damaged.tables, damaged.run_id) == (None, None, {}, "")
            assert damaged.note

    def test_a_state_that_cannot_be_trusted_is_saved_over_only_by_who_has_its_token(
        self, backend: StateBackend, reopen: Reopen, damage: Callable[[StateKey], None]
    ) -> None:
        good, token = example_state(7), backend.save(KEY, example_state(3), expected=None)
        beside = replace(KEY, task="items")
        backend.save(beside, good, expected=None)
        damage(KEY)
        with closing(reopen()) as other:
            damaged = other.load(KEY.source)[KEY]
            for wrong in {None, "0", token} - {damaged.token}:
                with pytest.raises((StateConflictError, StateError)):
                    other.save(KEY, example_state(8), expected=wrong)
            fresh = damaged.following(run_id="run", epoch=1, cursor={"n": 9})
            token = other.save(KEY, fresh, expected=damaged.token)
            found = other.load(KEY.source)
            assert dict(found) == {KEY: fresh, beside: good}
            assert found[KEY].token == token
            assert found[KEY].untrusted is None
