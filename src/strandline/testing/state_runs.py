"""Cases: what a run keeps of itself under ``@run``, and how it keeps an earlier one out."""

from contextlib import closing
from dataclasses import replace

import pytest

from strandline.errors import StateConflictError
from strandline.state import HISTORY_MAX, RUN_TASK, State, StateBackend
from strandline.testing.state_given_up import KEY, Reopen, example_state

__all__ = ["RunCases"]

_RUN = replace(KEY, task=RUN_TASK)


class RunCases:
    """Part of ``StateBackendConformance``."""

    def test_a_lineage_that_was_claimed_is_saved_by_nobody_else(self, backend: StateBackend, reopen: Reopen) -> None:
        """Which is all that keeps a run out that was overtaken: it does not know the token any more."""
        token = backend.save(KEY, example_state(1), expected=None)
        with closing(reopen()) as later:
            claimed = later.save(KEY, example_state(2, epoch=2), expected=later.load(KEY.source)[KEY].token)
        kept, history = dict(backend.load(KEY.source)), list(backend.history(KEY))
        for expected in (token, None):
            with pytest.raises(StateConflictError):
                backend.save(KEY, example_state(3), expected=expected)
        assert (dict(backend.load(KEY.source)), list(backend.history(KEY))) == (kept, history)
        backend.save(KEY, example_state(3, epoch=2), expected=claimed)

    def test_the_history_of_runs_has_one_state_of_each(self, backend: StateBackend, reopen: Reopen) -> None:
        """Signs of life of one run would soon be all that is in it."""
        token, before, sequence = None, list[State](), 0
        for epoch in range(1, HISTORY_MAX + 3):
            for _ in range(2 if epoch > 1 else HISTORY_MAX + 1):
                sequence += 1
                state = example_state(sequence, epoch=epoch)
                token = backend.save(_RUN, state, expected=token)
                assert backend.load(KEY.source)[_RUN].token == token
                assert list(backend.history(_RUN)) == [state, *before][:HISTORY_MAX]
            before.insert(0, state)
        with closing(reopen()) as other:
            assert list(other.history(_RUN)) == before[:HISTORY_MAX]
            another = example_state(sequence + 1, epoch=HISTORY_MAX + 2, run_id="another")
            other.save(_RUN, another, expected=token)
            assert list(other.history(_RUN)) == [another, *before][:HISTORY_MAX]
