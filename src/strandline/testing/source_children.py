"""How a source may replace the rows of some parents: see ``Replace``."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import product

from strandline.message import Checkpoint, Insert, Replace, SourceMessage
from strandline.reading import Reading
from strandline.source import Source, Task
from strandline.testing.exact import Row, exact_rows
from strandline.testing.offered import offered

__all__ = ["ReplaceCases", "check_children"]


class ReplaceCases:
    """Part of ``SourceConformance``, which has the fixtures."""

    def test_no_child_is_lost_where_a_read_resumes_or_a_second_one_follows(
        self, make_source: Callable[[], Source], reading: Reading
    ) -> None:
        with closing(make_source()) as source:
            for task in offered(source):
                whole = list(source.read(task, reading))
                places = [place for place, message in enumerate(whole) if isinstance(message, Checkpoint)]
                names = {one.table for one in whole if isinstance(one, Replace)}
                for place, name in product(places, names):
                    cursor = next(one.cursor for one in whole[place:] if isinstance(one, Checkpoint))
                    again = source.read(task, replace(reading, cursor=cursor, resumed=place < places[-1]))
                    children = _left(name, whole)
                    assert children, f"{name}: without children, none can be lost"
                    assert _left(name, [*whole[: place + 1], *again]) == children, f"{name}: {cursor}"


def _left(table: str, messages: Sequence[SourceMessage]) -> set[Row]:
    """The rows that are left of a table once children have been replaced; equal ones count once."""
    rows: set[tuple[Row, Row]] = set()
    by = next(tuple(one.keys.schema.names) for one in messages if isinstance(one, Replace) and one.table == table)
    for message in messages:
        if isinstance(message, Replace) and message.table == table:
            gone = set(exact_rows(message.keys))
            rows = {row for row in rows if row[0] not in gone}
        elif isinstance(message, Insert) and message.table == table:
            rows.update(zip(exact_rows(message.batch.select(by)), exact_rows(message.batch), strict=True))
    return {row for _, row in rows}


def check_children(task: Task, messages: Sequence[SourceMessage]) -> None:
    """Fail unless rows of parents that are replaced follow, all of them, and before the next checkpoint."""
    tables = {table.name: table for table in task.tables}
    by = {one.table: tuple(one.keys.schema.names) for one in messages if isinstance(one, Replace)}
    sent: dict[str, set[Row]] = {name: set() for name in by}
    """By table: the parents of rows since the last checkpoint that no message has replaced."""
    replaced: dict[str, set[Row]] = {name: set() for name in by}
    """The parents that were replaced since the last checkpoint; and below, before it."""
    before: dict[str, set[Row]] = {name: set() for name in by}
    for message in messages:
        if isinstance(message, Checkpoint):
            for name in by:
                before[name] |= replaced[name]
                sent[name], replaced[name] = set(), set()
        elif isinstance(message, Replace):
            table, keys = tables[message.table], message.keys
            assert table.parent is not None, f"{table.name} has no parent"
            assert tuple(keys.schema.names) == by[table.name], "parents have the same columns always"
            for field in keys.schema:
                assert field.type == table.schema.field(field.name).type, f"{table.name}.{field.name}"
                assert not keys.column(field.name).null_count, f"{table.name}.{field.name}: a parent has no null"
            parents = set(exact_rows(keys))
            assert not parents & sent[table.name], f"{table.name}: rows of a parent were sent, and then replaced"
            replaced[table.name] |= parents
        elif isinstance(message, Insert) and message.table in by:
            names = tables[message.table].schema.names
            assert set(message.batch.schema.names) == set(names), f"{message.table}: rows after Replace are whole"
            parents = set(exact_rows(message.batch.select(by[message.table]))) - replaced[message.table]
            assert not parents & before[message.table], (
                f"{message.table}: a checkpoint stands between a parent that was replaced and some of its rows"
            )
            sent[message.table] |= parents
