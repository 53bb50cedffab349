"""A small sample of `make stress`, so that it keeps working; and that it sees what it is there to see."""

import pytest
from postgresql_stress import CELLS, FIRST_ROWS, HAZARDS, Result, compare, run_cell

SAMPLE = ["clock/cap-0", "prepared/wait", "deletes/xid"]


@pytest.mark.parametrize("cell", SAMPLE)
def test_hole_a_concurrent_writers_lose_nothing_that_is_promised(postgresql_server, cell):
    result = run_cell(postgresql_server, cell, seconds=1, seed="sample")
    assert result.is_promised
    assert (result.verdict, result.lost, result.duplicated, result.wrong) == ("exact", 0, 0, 0), result
    assert result.rows > FIRST_ROWS


def test_every_hazard_is_tried_where_something_is_promised_and_where_nothing_is():
    for hazard in HAZARDS:
        assert {f"{hazard}/{way}" for way in ("xid", "cap-0", "cap-1s", "off")} <= set(CELLS)


def outcome(stored, final=((1, 1), (2, 2)), cell="long/cap-0", guarantee="settled (server clock)"):
    result = Result(cell, guarantee)
    compare(result, stored, final, [*final, (1, 0)])
    return result


@pytest.mark.parametrize(
    ("stored", "counts"),
    [
        ([(1, 1), (2, 2)], (0, 0, 0)),
        ([(1, 0), (1, 1), (2, 2)], (0, 0, 0)),
        ([(1, 0), (2, 2)], (1, 0, 0)),
        ([(1, 1), (2, 2), (2, 2), (2, 2)], (0, 2, 0)),
        ([(1, 1), (2, 2), (2, 3)], (0, 0, 1)),
    ],
)
def test_what_differs_is_counted(stored, counts):
    result = outcome(stored)
    assert (result.lost, result.duplicated, result.wrong) == counts
    assert result.is_bad == any(counts)


def test_a_loss_is_bad_where_the_rows_are_settled_and_expected_where_they_are_not():
    assert outcome([(1, 1)]).is_bad
    assert not outcome([(1, 1)], cell="early/cap-0").is_bad
    assert not outcome([(1, 1)], cell="long/off", guarantee="off").is_bad
    assert outcome([(1, 1), (2, 2)], cell="long/off", guarantee="off").is_bad
