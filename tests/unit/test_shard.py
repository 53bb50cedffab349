"""Which tasks a shard has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.shard import Shard
from strandline.state import RUN_TASK, is_run

SHARDS = st.integers(1, 64).flatmap(lambda count: st.integers(0, count - 1).map(lambda number: Shard(number, count)))


@given(st.text(), st.integers(1, 200))
def test_of_the_shards_of_one_count_exactly_one_owns_a_task(task, count):
    assert sum(Shard(number, count).owns(task) for number in range(count)) == 1


@given(SHARDS, SHARDS, st.lists(st.text(), max_size=50))
def test_shards_that_own_one_task_meet(one, other, tasks):
    both = any(one.owns(task) and other.owns(task) for task in tasks)
    assert one.meets(other) or not both
    assert one.meets(other) == other.meets(one)
    assert one.meets(None)


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [("0/2", "1/2", False), ("0/2", "2/4", True), ("0/2", "1/4", False), ("1/2", "2/3", True), ("3/16", "3/16", True)],
)
def test_shards_that_can_have_no_task_in_common_do_not_meet(one, other, meets):
    one, other = Shard.of(one), Shard.of(other)
    assert one.meets(other) is meets
    assert any(one.owns(task) and other.owns(task) for task in map(str, range(500))) is meets


def test_where_a_task_belongs_is_the_same_in_every_version():
    owners = {task: next(n for n in range(16) if Shard(n, 16).owns(task)) for task in ("orders", "items", "a/x", "ü")}
    assert owners == {"orders": 9, "items": 8, "a/x": 4, "ü": 15}


@pytest.mark.parametrize("text", ["", "3", "16/16", "-1/4", "1/0", "0/10001", "a/b", "1/2/3", "1.0/2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="shard"):
        Shard.of(text)


def test_a_run_of_a_shard_is_told_from_other_tasks():
    assert Shard.of_run(Shard(3, 16).run) == Shard(3, 16)
    assert Shard.of_run(RUN_TASK) is None
    assert [is_run(task) for task in (RUN_TASK, Shard(3, 16).run, "@refresh/a", "@runs", "run")] == [
        True,
        True,
        *[False] * 3,
    ]
