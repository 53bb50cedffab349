"""Cases: what a run keeps of itself under ``@run``, and whom that keeps out."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from strandline.errors import StateConflictError
from strandline.state import HISTORY_MAX, RUN_TASK, State, StateBackend, Token
from strandline.testing.state_given_up import KEY, Reopen, example_state

__all__ = ["RunCases"]

_RUN = replace(KEY, task=RUN_TASK)


class RunCases:
    """Part of ``StateBackendConformance``."""

    def test_a_run_that_was_taken_over_saves_nothing(self, backend: StateBackend, reopen: Reopen) -> None:
        token = backend.save(KEY, example_state(1), expected=None)
        held = backend.save(_RUN, example_state(1), expected=None)
        token = backend.save(KEY, example_state(2), expected=token)
        with closing(reopen()) as other:
            other.save(_RUN, example_state(2, epoch=2), expected=held)
        kept, history = dict(backend.load(KEY.source)), list(backend.history(KEY))
        for key, expected in ((KEY, token), (replace(KEY, task="items"), None)):
            with pytest.raises(StateConflictError):
                backend.save(key, example_state(3, cursor=None), expected=expected)
        assert dict(backend.load(KEY.source)) == kept
        assert list(backend.history(KEY)) == history
        for elsewhere in (replace(KEY, source="crm"), replace(KEY, destination="lake")):
            backend.save(elsewhere, example_state(3), expected=None)
        backend.save(KEY, example_state(3, epoch=2), expected=token)

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

    def test_a_later_run_may_save_before_its_own_epoch_is_there(self, backend: StateBackend) -> None:
        """A mirror hears of a run when it has begun elsewhere already."""
        backend.save(_RUN, example_state(1, epoch=2), expected=None)
        backend.save(KEY, example_state(1, epoch=3), expected=None)
        assert backend.load(KEY.source)[KEY].epoch == 3

    def test_once_a_run_has_taken_over_the_states_stay(self, backend: StateBackend, reopen: Reopen) -> None:
        """Whatever the run before it is doing just then."""
        held = backend.save(_RUN, example_state(1), expected=None)
        saving, taken = threading.Event(), threading.Event()

        def save(number: int, stored: Token | None = None) -> None:
            late = False
            with closing(reopen()) as other:
                while not late:
                    late = taken.is_set()
                    stored = other.save(replace(KEY, task=str(number)), example_state(), expected=stored)
                    saving.set()

        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(save, number) for number in range(2)]
            assert saving.wait(60)
            backend.save(_RUN, example_state(2, epoch=2), expected=held)
            kept = dict(backend.load(KEY.source))
            taken.set()
            for run in runs:
                assert isinstance(run.exception(60), StateConflictError)
        assert dict(backend.load(KEY.source)) == kept
