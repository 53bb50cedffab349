"""Cases: what a source promises that has one of the optional abilities."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import product

from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Insert, Notice, Present, Schema
from strandline.place import Placed
from strandline.reading import Reading
from strandline.source import KnowsGone, KnowsIdle, MissesTasks, ReadsKeys, Remembers, Rewinds, Source, Task
from strandline.table import Table
from strandline.testing.exact import Row, exact_rows
from strandline.testing.offered import offered

__all__ = ["OptionalCases"]


_AGES = timedelta(days=36_500)
GONE: dict[pa.DataType, object] = {pa.int64(): -987_654_321, pa.string(): "no such key", pa.binary(): b"no such key"}


class OptionalCases:
    """Part of ``SourceConformance``, which has the fixtures."""

    def test_a_task_that_is_offered_no_longer_fails_or_is_let_go(self, make_source: Callable[[], Source]) -> None:
        with closing(make_source()) as source:
            if isinstance(source, MissesTasks):
                with suppress(TaskError):
                    assert source.missing("a task that nobody offers") is None  # type: ignore[func-returns-value]

    def test_columns_are_sent_in_their_former_types_where_they_are_stored_so(
        self, make_source: Callable[[], Source], reading: Reading
    ) -> None:
        """And all other columns as ever."""
        with closing(make_source()) as source:
            for task in offered(source):
                former = {table.name: tuple(table.former) for table in task.tables if table.former}
                before = [*source.read(task, replace(reading, former=former))] if former else []
                now = [*source.read(task, reading)] if former else []
                for table in [table for table in task.tables if table.former]:
                    then = _inserts(before, table.formerly(former[table.name]))
                    others = [name for name in table.schema.names if name not in table.former]
                    assert _rows(then, others) == _rows(_inserts(now, table), others), f"{task.id}: {table.name}"

    def test_tables_that_a_cursor_remembers_are_those_that_are_read_from_it(
        self, make_source: Callable[[], Source], reading: Reading
    ) -> None:
        """No column is less, and none is told of in mid-stream any more."""
        with closing(make_source()) as source:
            for task in offered(source):
                if not isinstance(source, Remembers):
                    return
                stored = {table.name: 1 for table in task.tables}
                assert [one.name for one in source.remembered(task, None, stored).tables] == [*stored]
                first = list(source.read(task, reading))
                cursor = next(one.cursor for one in reversed(first) if isinstance(one, Checkpoint))
                if cursor is None:
                    continue
                then = source.remembered(task, cursor, {})
                assert (then.id, then.partition) == (task.id, task.partition)
                for before, after in zip(task.tables, then.tables, strict=True):
                    assert set(before.schema.names) <= set(after.schema.names), f"{task.id}: {after.name}"
                    assert (before.name, before.fingerprint) == (after.name, after.fingerprint)
                again = list(source.read(then, replace(reading, cursor=cursor)))
                assert not any(isinstance(one, Schema) for one in again), f"{task.id}: columns are missing"
                assert source.remembered(task, {"strange": [1, 2, 3]}, {}) == task

    def test_rows_are_found_by_the_keys_that_a_sweep_names(
        self, make_source: Callable[[], Source], reading: Reading
    ) -> None:
        """Each row as it was read, by every key that was sent as present; in one look-up or in many, in any order."""
        with closing(make_source()) as source:
            for task in offered(source):
                messages = list(source.read(task, replace(reading, mirror=True)))
                for table in task.tables:
                    swept = [one.keys for one in messages if isinstance(one, Present) and one.table == table.name]
                    if not isinstance(source, ReadsKeys) or not any(keys.num_rows for keys in swept):
                        continue
                    keys = pa.Table.from_batches(swept).combine_chunks().to_batches()[0]
                    read = _rows(one for one in messages if isinstance(one, Insert) and one.table == table.name)
                    backwards = keys.take(pa.array(range(keys.num_rows - 1, -1, -1)))
                    for asked in ([keys], [backwards], [keys.slice(at, 1) for at in range(keys.num_rows)]):
                        found = [one for some in asked for one in source.read_keys(task, table.name, some, reading)]
                        assert _rows(found) == read, f"{task.id}: {table.name}"
                        _check_found(found, table, reading)

    def test_a_task_that_is_told_to_be_idle_has_nothing_new(
        self, make_source: Callable[[], Source], reading: Reading
    ) -> None:
        """Whatever came before: nothing, a pass from nothing, or one that found nothing."""
        with closing(make_source()) as source:
            if not isinstance(source, KnowsIdle):
                return
            tasks, cursors = offered(source), dict[str, Cursor | None]()
            for _ in range(3):
                asked = [(task, replace(reading, cursor=cursors.get(task.id), mirror=True)) for task in tasks]
                told = source.idle(asked)
                assert told.keys() <= {task.id for task, one in asked if one.cursor is not None}
                assert all(told.values()), "each has its evidence"
                for task, one in asked:
                    messages = list(source.read(task, one))
                    if task.id in told:
                        assert {type(it) for it in messages} <= {Complete, Checkpoint, Notice}, task.id
                    cursors[task.id] = next(
                        (it.cursor for it in reversed(messages) if isinstance(it, Checkpoint)), None
                    )
            strange = [(task, replace(reading, cursor={"strange": [1, 2, 3]})) for task in tasks]
            assert source.idle(strange) == {}
            assert source.idle([]) == {}

    def test_a_key_that_is_gone_finds_no_row(self, make_source: Callable[[], Source], reading: Reading) -> None:
        with closing(make_source()) as source:
            if not isinstance(source, ReadsKeys):
                return
            for task in offered(source):
                messages = list(source.read(task, replace(reading, mirror=True)))
                for message in [one for one in messages if isinstance(one, Present)]:
                    for keys in _gone(message.keys):
                        assert list(source.read_keys(task, message.table, keys, reading)) == []

    def test_what_was_just_read_is_not_gone(self, make_source: Callable[[], Source], reading: Reading) -> None:
        with closing(make_source()) as source:
            if not isinstance(source, KnowsGone):
                return
            for task in offered(source):
                messages = source.read(task, reading)
                cursors = [one.cursor for one in messages if isinstance(one, Checkpoint) and one.cursor is not None]
                for cursor, absorbs in product(cursors, (True, False)):
                    assert not source.gone(task, replace(reading, cursor=cursor, absorbs=absorbs))

    def test_from_a_cursor_that_was_put_back_everything_behind_it_is_read_again(
        self, make_source: Callable[[], Source], reading: Reading
    ) -> None:
        """And a cursor that was put back by nothing is where it was. Where a task has no such place, it says so."""
        with closing(make_source()) as source:
            if not isinstance(source, Rewinds):
                return
            for task in offered(source):
                messages = list(source.read(task, reading))
                cursor = next((one.cursor for one in reversed(messages) if isinstance(one, Checkpoint)), None)
                if cursor is None:
                    continue
                assert source.rows_between(task, cursor, cursor) in {0, None}
                for by in (_AGES, timedelta(0)):
                    back = _put_back(source, task, cursor, by)
                    if back is None:
                        continue
                    read = list(source.read(task, replace(reading, cursor=back)))
                    usual = messages if by else list(source.read(task, replace(reading, cursor=cursor)))
                    assert _all_rows(read) == _all_rows(usual), f"{task.id}: back by {by}"
                    about = source.rows_between(task, back, cursor)
                    assert about is None or 0 <= about <= _all_rows(usual).total()

    def test_a_place_that_is_none_is_refused(self, make_source: Callable[[], Source], reading: Reading) -> None:
        with closing(make_source()) as source:
            if not isinstance(source, Rewinds):
                return
            for task in offered(source):
                cursors = [one.cursor for one in source.read(task, reading) if isinstance(one, Checkpoint)]
                back = _put_back(source, task, cursors[-1], "~ no such place ~") if cursors[-1] is not None else None
                if back is not None:  # of texts, anything may be one
                    assert _all_rows(source.read(task, replace(reading, cursor=back)))

    def test_a_source_is_where_it_was_after_a_restart(self, make_source: Callable[[], Source]) -> None:
        with closing(make_source()) as one, closing(make_source()) as other:
            assert isinstance(one, Placed) == isinstance(other, Placed)
            if isinstance(one, Placed) and isinstance(other, Placed):
                assert one.places()
                assert list(one.places()) == list(other.places())


def _gone(keys: "pa.RecordBatch") -> "Iterator[pa.RecordBatch]":
    """No keys, and some that no row has."""
    yield keys.slice(0, 0)
    field = keys.schema.field(0)
    if field.type in GONE:
        columns = [pa.array([GONE[field.type]] * keys.num_rows, field.type), *keys.columns[1:]]
        yield pa.record_batch(columns, schema=keys.schema)


def _rows(found: Iterable[Insert], columns: Sequence[str] = ()) -> Counter[Row]:
    return Counter(row for one in found for row in exact_rows(one.batch.select(columns) if columns else one.batch))


def _put_back(source: Rewinds, task: Task, cursor: Cursor, to: str | timedelta) -> Cursor | None:
    """``None``: this task has no such place."""
    with suppress(UsageError):
        return source.rewound(task, cursor, to)
    return None


def _all_rows(messages: Iterable[object]) -> Counter[Row]:
    return _rows(one for one in messages if isinstance(one, Insert))


def _inserts(messages: Sequence[object], table: Table) -> list[Insert]:
    """The rows of a table, which have its types."""
    found = [one for one in messages if isinstance(one, Insert) and one.table == table.name]
    kinds = {(column.name, column.type) for one in found for column in one.batch.schema}
    assert kinds <= {(column.name, column.type) for column in table.schema}
    return found


def _check_found(found: Sequence[Insert], table: Table, reading: Reading) -> None:
    for one in found:
        assert one.table == table.name
        assert one.batch.schema.names == table.schema.names
        assert 0 < one.batch.num_rows <= reading.batch_rows
        one.batch.validate(full=True)
