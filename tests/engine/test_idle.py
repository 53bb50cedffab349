"""When a pass may end without a word: the next run would learn nothing from the state after it."""

from dataclasses import replace

import pytest

from strandline.engine.idle import says_the_same
from strandline.state import Pass, Phase, State, TableState

DONE = Pass(1, full=False, phase=Phase.DONE, completed=("a",))
SAVED = State({"next": 6}, 1, 4, "a run", DONE, {"a": TableState("keys", "mark", 6)})
LATER = replace(SAVED, epoch=2, sequence=5, run_id="another", current=replace(DONE, sync_time_us=2, windows=1))


def test_a_later_pass_that_knows_no_more_says_the_same():
    assert says_the_same(SAVED, LATER)
    assert says_the_same(replace(SAVED, current=replace(DONE, full=True)), LATER)


@pytest.mark.parametrize(
    "change",
    [
        {"cursor": {"next": 7}},
        {"versions_of": "shop"},
        {"tables": {"a": TableState("other keys", "mark", 6)}},
        {"tables": {"a": TableState("keys", "another mark", 6)}},
        {"tables": {"a": TableState("keys", "mark", 7)}},
        {"tables": {"a": TableState("keys", "mark", 6, doomed=True)}},
        {"tables": {}},
        {"current": None},
        {"current": replace(DONE, phase=Phase.READING)},
        {"current": replace(DONE, phase=Phase.READ)},
        {"current": replace(DONE, expired=True)},
        {"current": replace(DONE, spares=True)},
        {"current": replace(DONE, stale_us=1)},
    ],
    ids=str,
)
def test_whatever_the_next_run_would_go_by_is_saved(change):
    assert not says_the_same(SAVED, replace(LATER, **change))
    assert not says_the_same(replace(SAVED, **change), LATER)
