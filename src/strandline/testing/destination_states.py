"""Cases: the state is committed with the rows, under a fence. Elsewhere a receipt says that there is none."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from strandline.destination import MigrateMode, WriteMode
from strandline.errors import StateConflictError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, WindowMessage
from strandline.state import HISTORY_MAX, KeepsState, Phase, State
from strandline.testing.destination_fixtures import DestinationFixtures, Reopen, needs, orders, same
from strandline.testing.windows import Lineage

__all__ = ["FenceCases", "StateCases"]


def _row(lineage: Lineage, number: int) -> Any:
    return lineage.insert(orders(), id=[number], name=[f"row {number}"], note=[None])


def _fenced(lineage: Lineage) -> "tuple[Lineage, pa.RecordBatch]":
    """The lineage after another run has taken over from it, and the row that it had written."""
    lineage.take_over()
    lineage.migrate(orders())
    row = _row(lineage, 1)
    lineage.write(row)
    replace(lineage).take_over()
    return lineage, row.batch


class StateCases(DestinationFixtures):
    """What an atomic destination keeps beside the rows."""

    @needs(states=True)
    def test_the_state_of_the_window_is_committed_with_the_rows(self, lineage: Lineage, reopen: Reopen) -> None:
        lineage.migrate(orders())
        lineage.take_over()
        lineage.pass_ = replace(lineage.pass_, phase=Phase.READ, completed=("orders",))
        cursor = {"updated_at": "2024-02-29", "id": 2**63, "x": [1.5, None, {"e\u0301\0": ["\U0001faa3"]}]}
        row = _row(lineage, 1)
        window = lineage.window([row, Complete("orders"), Checkpoint(cursor)])
        receipt = lineage.write_window(window)
        assert receipt.state == window.state
        assert receipt.state is not None
        stored = lineage.stored()
        assert stored == window.state
        assert stored.token == receipt.state.token is not None
        lineage.destination.close()
        with closing(reopen()) as destination:
            lineage.destination = destination
            assert lineage.stored() == window.state
            same(lineage, orders(), row.batch)

    @needs(states=True)
    def test_every_window_continues_from_the_one_before(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        committed = []
        for number in range(3):
            lineage.write(_row(lineage, number))
            committed.append(lineage.state)
        assert list(lineage.states.history(lineage.key)) == committed[::-1]
        assert len({state.token for state in committed if state}) == 3

    @needs(states=True)
    def test_the_history_of_windows_is_bounded(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        for number in range(HISTORY_MAX + 2):
            lineage.write(_row(lineage, number))
        history = lineage.states.history(lineage.key)
        assert len(history) == HISTORY_MAX
        assert history[0] == lineage.state

    @needs(states=True)
    def test_a_window_without_rows_moves_the_cursor(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        window = lineage.window([Checkpoint({"id": 7})])
        lineage.write_window(window)
        assert lineage.stored() == window.state
        lineage.write_window(lineage.window([Checkpoint(None)]))
        stored = lineage.stored()
        assert stored is not None
        assert stored.cursor is None

    @needs(states=True)
    def test_each_lineage_has_a_state_of_its_own(self, lineage: Lineage) -> None:
        other = Lineage(lineage.destination, lineage.mode, task="other")
        strange = Lineage(lineage.destination, lineage.mode, source="other shop")
        for one in (lineage, other, strange):
            one.migrate(orders())
            one.write(_row(one, 1))
        assert lineage.states.load("shop") == {lineage.key: lineage.state, other.key: other.state}
        assert lineage.states.load("other shop") == {strange.key: strange.state}

    @needs(states=True)
    def test_states_can_be_saved_between_windows(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        lineage.write(_row(lineage, 1))
        before = lineage.stored()
        assert before is not None
        following = before.following(run_id="by hand", epoch=before.epoch, cursor={"id": 0}, note="rewound")
        token = lineage.states.save(lineage.key, following, expected=before.token)
        lineage.state = replace(following, token=token)
        lineage.write(_row(lineage, 2))
        assert [state.run_id for state in lineage.states.history(lineage.key)] == ["run-1", "by hand", "run-1"]

    @needs(states=True)
    def test_a_stale_token_changes_nothing(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        first = _row(lineage, 1)
        lineage.write(first)
        late = replace(lineage)
        second = _row(lineage, 2)
        lineage.write(second)
        never_saved = State(cursor=None, epoch=1, sequence=1, run_id="run-1", token="0" * 32)
        for state in (late.state, None, never_saved):
            late.state = state
            with pytest.raises(StateConflictError):
                late.write(_row(late, 3))
            assert lineage.stored() == lineage.state
            same(lineage, orders(), first.batch, second.batch)
        lineage.write(_row(lineage, 4))

    @needs(states=True)
    def test_a_token_where_nothing_is_stored_changes_nothing(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        lineage.state = State(cursor=None, epoch=1, sequence=1, run_id="run-1", token="0" * 32)
        with pytest.raises(StateConflictError):
            lineage.write(_row(lineage, 1))
        assert lineage.stored() is None
        same(lineage, orders())

    @needs(states=True)
    def test_a_state_that_changes_while_the_window_is_read_changes_nothing(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        first = _row(lineage, 1)
        lineage.write(first)
        other, second = replace(lineage), _row(lineage, 2)

        def messages() -> Iterator[WindowMessage]:
            yield _row(lineage, 3)
            other.write(second)
            yield Checkpoint({"id": 3})

        with pytest.raises(StateConflictError):
            lineage.write_window(lineage.window(messages()))
        assert other.stored() == other.state
        same(lineage, orders(), first.batch, second.batch)

    @needs(states=True)
    def test_of_several_windows_after_one_state_one_is_stored(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        lineage.write(_row(lineage, 0))
        rivals = [replace(lineage) for _ in range(min(4, lineage.destination.capabilities.writers_max))]

        def write(number: int) -> bool:
            try:
                rivals[number].write(_row(lineage, number + 1))
            except StateConflictError:
                return False
            return True

        with ThreadPoolExecutor(len(rivals)) as pool:
            won = list(pool.map(write, range(len(rivals))))
        assert won.count(True) == 1
        winner = won.index(True)
        assert lineage.stored() == rivals[winner].state
        same(lineage, orders(), _row(lineage, 0).batch, _row(lineage, winner + 1).batch)

    @needs(WriteMode.OVERWRITE, states=True)
    def test_a_window_that_is_replayed_changes_no_rows(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        messages = [
            lineage.insert(table, id=[1, 2, 2], name=["a", "b", "c"], note=["x", "y", "z"]),
            lineage.insert(table, id=[3, 1], name=["d", "e"]),
        ]
        lineage.write(*messages)
        expected = lineage.batch(table, id=[1, 2, 3], name=["e", "c", "d"], note=["x", "z", None])
        same(lineage, table, expected)
        lineage.write(*messages)
        same(lineage, table, expected)


class FenceCases(DestinationFixtures):
    """Nothing of an older epoch is accepted: rows, changes of tables and deletes."""

    @needs(states=True)
    def test_a_fenced_run_writes_nothing(self, lineage: Lineage) -> None:
        old, row = _fenced(lineage)
        stored = old.stored()
        with pytest.raises(StateConflictError):
            old.write(_row(old, 2))
        same(lineage, orders(), row)
        assert old.stored() == stored

    @needs(states=True)
    def test_a_run_that_is_fenced_while_it_reads_writes_nothing(self, lineage: Lineage) -> None:
        lineage.take_over()
        lineage.migrate(orders())
        row = _row(lineage, 1)
        lineage.write(row)

        def messages() -> Iterator[WindowMessage]:
            yield _row(lineage, 2)
            replace(lineage).take_over()
            yield Checkpoint({"id": 2})

        with pytest.raises(StateConflictError):
            lineage.write_window(lineage.window(messages()))
        assert lineage.stored() == lineage.state
        same(lineage, orders(), row.batch)

    @needs(states=True)
    def test_a_fenced_run_writes_no_new_lineage(self, lineage: Lineage) -> None:
        old, row = _fenced(lineage)
        other = replace(old, task="other", state=None)
        with pytest.raises(StateConflictError):
            other.write(_row(other, 2))
        same(lineage, orders(), row)
        assert other.stored() is None

    @needs(states=True)
    def test_a_fenced_run_saves_no_state(self, lineage: Lineage) -> None:
        old, _ = _fenced(lineage)
        before = dict(old.states.load(old.source))
        for key in (old.key, replace(old, task="other").key):
            stored = before.get(key, State(cursor=None, epoch=old.epoch, sequence=0, run_id=old.fence.run_id))
            following = stored.following(run_id=old.fence.run_id, epoch=old.epoch, cursor=None)
            with pytest.raises(StateConflictError):
                old.states.save(key, following, expected=stored.token)
        assert dict(old.states.load(old.source)) == before

    @needs(states=True)
    def test_a_fenced_run_changes_no_table(self, lineage: Lineage) -> None:
        old, row = _fenced(lineage)
        wider = orders(name=pa.string(), note=pa.string(), more=pa.string())
        other_type = orders(name=pa.binary(), note=pa.string())
        for table, mode in (
            (wider, MigrateMode.SAFE),
            (other_type, MigrateMode.FORCED),
            (orders("new"), MigrateMode.SAFE),
        ):
            with pytest.raises(StateConflictError):
                old.migrate(table, mode=mode)
        same(lineage, orders(), row)
        new = replace(lineage, epoch=lineage.epoch + 1)
        assert [change.kind for change in new.migrate(wider, apply=False).changes] == ["add_column"]
        assert new.migrate(orders("new"), apply=False).mark is None

    @needs(WriteMode.OVERWRITE, deletes=True, states=True)
    def test_a_fenced_run_deletes_nothing(self, lineage: Lineage) -> None:
        old, row = _fenced(lineage)
        old.next_pass()
        with pytest.raises(StateConflictError):
            old.delete_stale(orders())
        same(lineage, orders(), row)

    @needs(states=True)
    def test_the_run_that_took_over_goes_on(self, lineage: Lineage) -> None:
        old, row = _fenced(lineage)
        new = replace(old, epoch=old.epoch + 1)
        new.migrate(orders())
        second = _row(new, 2)
        new.write(second)
        same(lineage, orders(), row, second.batch)
        assert isinstance(lineage.destination, KeepsState)

    @needs(states=True)
    def test_a_fence_is_one_source_s(self, lineage: Lineage) -> None:
        old, row = _fenced(lineage)
        other = Lineage(old.destination, old.mode, source="other shop")
        other.migrate(orders())
        second = _row(other, 2)
        other.write(second)
        same(lineage, orders(), row, second.batch)
