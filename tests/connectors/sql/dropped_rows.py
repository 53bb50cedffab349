"""Windows with a row that a trigger of the user's drops, in every way in which rows are stored."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import pytest

from strandline.destination import WriteMode
from strandline.errors import TaskError
from strandline.message import Delete, Swap, WindowMessage
from strandline.table import Table
from strandline.testing.destination_fixtures import keys, orders, same, unkeyed
from strandline.testing.windows import Lineage

__all__ = ["CASES", "DROPPED", "check_that_nothing_is_lost"]

DROPPED = 2
"""Rows with this ``id`` are dropped."""


class Case(NamedTuple):
    mode: WriteMode
    messages: Callable[[Lineage, Table], list[WindowMessage]]
    stored: tuple[int, ...] = ()
    """The rows that are there before the trigger is."""
    table: Table = orders()


def _whole(lineage: Lineage, table: Table, *ids: int, **options: bool) -> WindowMessage:
    values = {"name": ["new"] * len(ids)} | ({} if table.name == "events" else {"note": ["x"] * len(ids)})
    return lineage.insert(table, {"id": list(ids), **values}, **options)


def _swap(lineage: Lineage, table: Table) -> list[WindowMessage]:
    hidden = table.named("hidden")
    lineage.migrate(hidden)
    lineage.write(_whole(lineage, hidden, 1, 2, 3))
    return [Swap(table.name, hidden.name)]


CASES: Mapping[str, Case] = {
    "append": Case(WriteMode.APPEND, lambda one, table: [_whole(one, table, 1, 2, 3)]),
    "append what may be read again": Case(
        WriteMode.APPEND, lambda one, table: [_whole(one, table, 1, 2, 3, reread=True)]
    ),
    "append beside what was read before": Case(
        WriteMode.APPEND, lambda one, table: [_whole(one, table, 1, 2, 3, reread=True)], (1,)
    ),
    "append without a key": Case(WriteMode.APPEND, lambda one, table: [_whole(one, table, 1, 2, 3)], (), unkeyed()),
    "swap what was appended": Case(WriteMode.APPEND, _swap, (1, 5)),
    "first load": Case(WriteMode.OVERWRITE, lambda one, table: [_whole(one, table, 1, 2, 3)]),
    "overwrite": Case(WriteMode.OVERWRITE, lambda one, table: [_whole(one, table, 1, 2, 3)], (1, 5)),
    "overwrite with a key twice": Case(WriteMode.OVERWRITE, lambda one, table: [_whole(one, table, 1, 2, 1)], (1, 5)),
    "overwrite without a key": Case(WriteMode.OVERWRITE, lambda one, table: [_whole(one, table, 1, 2)], (), unkeyed()),
    "overwrite and delete": Case(
        WriteMode.OVERWRITE,
        lambda one, table: [_whole(one, table, 1, 2, 3), Delete(table.name, keys(table, 3, 5))],
        (1, 5),
    ),
    "overwrite some columns": Case(
        WriteMode.OVERWRITE, lambda one, table: [one.insert(table, id=[1, 2], name=["new"] * 2)], (1, 5)
    ),
    "overwrite some columns of what is there": Case(
        WriteMode.OVERWRITE, lambda one, table: [one.insert(table, id=[1, 2], name=["new"] * 2)], (1, 2)
    ),
    "swap": Case(WriteMode.OVERWRITE, _swap, (1, 5)),
}


def check_that_nothing_is_lost(
    lineage: Lineage, case: Case, make: Callable[[str], None], drop: Callable[[str], None]
) -> None:
    """``make`` and ``drop`` the trigger of a table."""
    lineage, table = replace(lineage, mode=case.mode), case.table
    lineage.migrate(table)
    if case.stored:
        lineage.write(_whole(lineage, table, *case.stored, reread=case.mode is WriteMode.APPEND))
        lineage.next_pass()
    messages = case.messages(lineage, table)
    before, state = lineage.read(table), lineage.stored()
    make(table.name)
    with pytest.raises(TaskError, match=rf"{table.name}: \d rows were to be stored.* \d of them") as caught:
        lineage.write(*messages)
    assert "trigger" in caught.value.hint
    assert lineage.stored() == state
    same(lineage, table, *before)
    drop(table.name)
    receipt = lineage.write(*messages)
    assert receipt.rows.get(table.name, 0) == sum(one.batch.num_rows for one in messages if hasattr(one, "batch"))
    assert DROPPED in {id_ for batch in lineage.read(table) for id_ in batch.column("id").to_pylist()}
