"""What every source must do, as a class to subclass.

::

    class TestShopSource(SourceConformance):
        @pytest.fixture
        def make_source(self, tmp_path: Path) -> Callable[[], Source]:
            fill(tmp_path / "shop.db")
            cls = load_plugin("source", "sqlite")              # through the entry point, as a user would
            return lambda: cls(cls.Spec(path=str(tmp_path / "shop.db")))

``make_source`` is called several times: each call is a restart over the same data, which must not change meanwhile.
Small batches come from the ``reading`` fixture, which a subclass may replace.
"""

import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

import pytest

from strandline.errors import StrandlineError
from strandline.lazy import pa
from strandline.message import (
    Checkpoint,
    Complete,
    Cursor,
    Delete,
    Failure,
    Insert,
    Notice,
    Present,
    Replace,
    Schema,
    SourceMessage,
    Swap,
)
from strandline.parted import plain
from strandline.reading import Reading
from strandline.source import Source, Task
from strandline.table import Table
from strandline.testing.exact import Row, exact_rows
from strandline.testing.offered import offered
from strandline.testing.source_changes import ChangeCases
from strandline.testing.source_children import ReplaceCases, check_children
from strandline.testing.source_interrupted import InterruptedCases
from strandline.testing.source_optional import OptionalCases

__all__ = ["SourceConformance"]

MakeSource = Callable[[], Source]
_STEPS_MAX = 1_000
_RESUMED_MAX = 60
"""How many checkpoints of a task are resumed from; more are sampled evenly."""


@dataclass(slots=True)
class _Read:
    """What one read yielded, as far as it was taken."""

    rows: dict[str, Counter[Row]] = field(default_factory=dict)
    checkpoints: list[tuple[Cursor | None, dict[str, Counter[Row]]]] = field(default_factory=list)
    """Each with the rows before it."""

    def add(self, message: Insert) -> None:
        self.rows.setdefault(message.table, Counter()).update(exact_rows(message.batch))

    def so_far(self) -> dict[str, Counter[Row]]:
        return {table: Counter(rows) for table, rows in self.rows.items()}


def _stored(cursor: Cursor | None) -> Cursor | None:
    """The cursor as a state backend gives it back."""
    back: Cursor | None = json.loads(json.dumps(plain(cursor), allow_nan=False))
    return back


def _take(messages: Iterator[SourceMessage]) -> _Read:
    read = _Read()
    for message in messages:
        if isinstance(message, Insert):
            read.add(message)
        elif isinstance(message, Checkpoint):
            read.checkpoints.append((_stored(message.cursor), read.so_far()))
    return read


def _sample(count: int) -> Sequence[int]:
    step = max(1, count // _RESUMED_MAX)
    return sorted({*range(0, count, step), count - 1}) if count else []


class _Given:
    @pytest.fixture
    def make_source(self) -> MakeSource:
        """A function that opens the source, a new one at every call, over the same data."""
        raise NotImplementedError("a subclass gives `make_source`")

    @pytest.fixture
    def reading(self) -> Reading:
        """Small batches, so that there are many checkpoints."""
        return Reading(None, datetime(2026, 1, 1, tzinfo=UTC), batch_rows=3, batch_bytes=1 << 20)

    @pytest.fixture
    def change(self) -> Callable[[], None]:
        """Changes the data between two syncs: new rows, changed ones, many of one key. By default nothing changes."""
        return lambda: None


class ReadCases(_Given):
    """Tables, tasks, and one read."""

    # tables and tasks ------------------------------------------------------------------------------------------------

    def test_tables_are_the_same_at_every_look(self, make_source: MakeSource) -> None:
        with _opened(make_source) as (one, _), _opened(make_source) as (other, _):
            assert list(one.tables()) == list(one.tables()) == list(other.tables())

    def test_tables_have_distinct_names_and_follow_their_parents(self, make_source: MakeSource) -> None:
        with _opened(make_source) as (source, _):
            seen: set[str] = set()
            for table in source.tables():
                assert isinstance(table, Table)
                assert table.name not in seen
                assert table.parent is None or table.parent in seen
                assert table.guarantee.name
                assert table.guarantee.limits
                seen.add(table.name)
            assert seen

    def test_tasks_are_the_same_at_every_look_and_can_travel(self, make_source: MakeSource) -> None:
        with _opened(make_source) as (one, tasks), _opened(make_source) as (_, others):
            assert [task.id for task in tasks] == [task.id for task in others]
            assert len({task.id for task in tasks}) == len(tasks)
            assert not any(task.id.startswith("@") for task in tasks)
            for task in tasks:
                assert json.loads(json.dumps(dict(task.payload))) == dict(task.payload)
                assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301 -- our own bytes
            assert {table.name for task in tasks for table in task.tables} == {table.name for table in one.tables()}

    def test_only_the_chosen_tables_are_read(self, make_source: MakeSource) -> None:
        with closing(make_source()) as source:
            chosen = list(source.tables())[:1]
            names = {table.name for task in source.tasks(chosen) if isinstance(task, Task) for table in task.tables}
            assert names == {table.name for table in chosen}

    # one read --------------------------------------------------------------------------------------------------------

    def test_messages_keep_the_grammar(self, make_source: MakeSource, reading: Reading) -> None:
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                messages = list(source.read(task, reading))
                _check_grammar(task, messages)
                check_children(task, messages)

    def test_batches_fit_their_tables_and_their_bounds(self, make_source: MakeSource, reading: Reading) -> None:
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                tables = {table.name: table for table in task.tables}
                for message in source.read(task, reading):
                    if isinstance(message, Insert):
                        _check_batch(message, tables[message.table], reading)

    def test_batches_keep_to_few_bytes(self, make_source: MakeSource, reading: Reading) -> None:
        few = replace(reading, batch_rows=1_000, batch_bytes=256)
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                tables = {table.name: table for table in task.tables}
                messages = list(source.read(task, few))
                for message in messages:
                    if isinstance(message, Insert):
                        _check_batch(message, tables[message.table], few)
                assert _take(iter(messages)).rows == _take(source.read(task, reading)).rows

    def test_two_reads_yield_the_same_rows(self, make_source: MakeSource, reading: Reading) -> None:
        with _opened(make_source) as (source, tasks), _opened(make_source) as (other, _):
            for task in tasks:
                assert _take(source.read(task, reading)).rows == _take(other.read(task, reading)).rows

    def test_reads_in_several_threads_do_not_disturb_each_other(
        self, make_source: MakeSource, reading: Reading
    ) -> None:
        with _opened(make_source) as (source, tasks), ThreadPoolExecutor(4) as pool:
            for task in tasks:
                alone = _take(source.read(task, reading)).rows
                together = [pool.submit(_read, source, task, reading) for _ in range(4)]
                assert all(future.result().rows == alone for future in together)


class ResumeCases(_Given):
    """A read that goes on from a checkpoint."""

    def test_a_full_read_is_the_sum_of_reads_resumed_from_every_checkpoint(
        self, make_source: MakeSource, reading: Reading
    ) -> None:
        with _opened(make_source) as (source, tasks):
            whole = {task.id: _take(source.read(task, reading)) for task in tasks}
        for number, task in enumerate(tasks):
            read = whole[task.id]
            for place in _sample(len(read.checkpoints) - 1):
                cursor, before = read.checkpoints[place]
                with _opened(make_source) as (source, again):
                    rest = _take(source.read(again[number], _resumed(reading, cursor))).rows
                for table in task.tables:
                    first, second = before.get(table.name, Counter()), rest.get(table.name, Counter())
                    where = f"{task.id}, checkpoint {place}: {cursor}"
                    assert first + second == read.rows.get(table.name, Counter()), where

    def test_a_read_that_dies_after_every_checkpoint_loses_nothing_and_repeats_nothing(
        self, make_source: MakeSource, reading: Reading
    ) -> None:
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                whole = _insert_counts(source.read(task, reading))
                assert _in_steps(make_source, task.id, reading) == whole, task.id

    def test_a_second_pass_is_the_sum_of_reads_resumed_from_every_checkpoint(
        self, make_source: MakeSource, reading: Reading, change: Callable[[], None]
    ) -> None:
        with _opened(make_source) as (source, tasks):
            cursors = [_last(list(source.read(task, reading))) for task in tasks]
        change()
        with _opened(make_source) as (source, tasks):
            passes = [replace(reading, cursor=cursor) for cursor in cursors]
            whole = [_take(source.read(task, one)) for task, one in zip(tasks, passes, strict=True)]
            marked = [_insert_counts(source.read(task, one)) for task, one in zip(tasks, passes, strict=True)]
            for task, read, cursor, rows in zip(tasks, whole, cursors, marked, strict=True):
                for place in _sample(len(read.checkpoints) - 1):
                    between, before = read.checkpoints[place]
                    rest = _take(source.read(task, _resumed(reading, between))).rows
                    for table in task.tables:
                        first, second = before.get(table.name, Counter()), rest.get(table.name, Counter())
                        assert first + second == read.rows.get(table.name, Counter()), f"{task.id}: {between}"
                assert _in_steps(make_source, task.id, reading, cursor) == rows, task.id

    def test_leaving_at_any_message_is_harmless(self, make_source: MakeSource, reading: Reading) -> None:
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                messages = list(source.read(task, reading))
                for count in _sample(len(messages)):
                    left = source.read(task, reading)
                    taken = list(islice(left, count))
                    left.close()  # type: ignore[attr-defined]
                    assert len(taken) == count
                assert _take(source.read(task, reading)).rows == _take(iter(messages)).rows

    def test_a_second_sync_of_an_incremental_table_yields_only_what_was_marked(
        self, make_source: MakeSource, reading: Reading
    ) -> None:
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                if not all(table.incremental for table in task.tables):
                    continue
                first = list(source.read(task, reading))
                marked = _rows(message for message in first if isinstance(message, Insert) and message.reread)
                second = list(source.read(task, replace(reading, cursor=_last(first))))
                for message in second:
                    assert not isinstance(message, Insert) or message.reread, f"{task.id}: unmarked rows came again"
                assert _rows(second) <= marked, f"{task.id}: rows came again that were not marked at first"

    def test_a_table_that_is_read_in_full_starts_again_from_nothing(
        self, make_source: MakeSource, reading: Reading
    ) -> None:
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                if any(table.incremental for table in task.tables):
                    continue
                first = list(source.read(task, reading))
                assert _last(first) is None
                assert not any(isinstance(message, Insert) and message.reread for message in first)

    def test_a_cursor_of_another_source_is_refused_in_words(self, make_source: MakeSource, reading: Reading) -> None:
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                with pytest.raises(StrandlineError) as caught:
                    list(source.read(task, replace(reading, cursor={"strange": [1, 2, 3]})))
                assert caught.value.hint


class SourceConformance(ReadCases, ResumeCases, InterruptedCases, ChangeCases, OptionalCases, ReplaceCases):
    """Subclass it, and give it a ``make_source`` fixture."""

    def test_an_acknowledged_cursor_may_be_acknowledged_again(self, make_source: MakeSource, reading: Reading) -> None:
        with _opened(make_source) as (source, tasks):
            for task in tasks:
                last = _last(list(source.read(task, reading)))
                if last is not None:
                    source.acknowledge(task, {"warehouse": last, "lake": last})
                    source.acknowledge(task, {"warehouse": last, "lake": last})

    def test_closing_twice_is_closing_once(self, make_source: MakeSource) -> None:
        source = make_source()
        source.tables()
        source.close()
        source.close()


@contextmanager
def _opened(make_source: MakeSource) -> Iterator[tuple[Source, list[Task]]]:
    with closing(make_source()) as source:
        yield source, offered(source)


def _read(source: Source, task: Task, reading: Reading) -> _Read:
    return _take(source.read(task, reading))


def _resumed(reading: Reading, cursor: Cursor | None) -> Reading:
    return replace(reading, cursor=cursor, resumed=True)


def _last(messages: Sequence[SourceMessage]) -> Cursor | None:
    return _stored(next(message.cursor for message in reversed(messages) if isinstance(message, Checkpoint)))


def _rows(messages: Sequence[SourceMessage] | Iterator[SourceMessage]) -> Counter[tuple[str, Row]]:
    found: Counter[tuple[str, Row]] = Counter()
    for message in messages:
        if isinstance(message, Insert):
            found.update((message.table, row) for row in exact_rows(message.batch))
    return found


def _insert_counts(messages: Iterator[SourceMessage]) -> Counter[tuple[str, bool, Row]]:
    """Rows with their table and mark."""
    found: Counter[tuple[str, bool, Row]] = Counter()
    for message in messages:
        if isinstance(message, Insert):
            found.update((message.table, message.reread, row) for row in exact_rows(message.batch))
    return found


def _in_steps(
    make_source: MakeSource, task_id: str, reading: Reading, cursor: Cursor | None = None
) -> Counter[tuple[str, bool, Row]]:
    """The same, by a reader that is killed after each checkpoint, and by another one that goes on from there."""
    found: Counter[tuple[str, bool, Row]] = Counter()
    completed: set[str] = set()
    reading = replace(reading, cursor=cursor)
    for _ in range(_STEPS_MAX):
        kept = []
        with _opened(make_source) as (source, tasks):
            task = next(task for task in tasks if task.id == task_id)
            messages = source.read(task, reading)
            for message in messages:
                kept.append(message)
                completed |= {message.table} if isinstance(message, Complete) else set()
                if isinstance(message, Checkpoint):
                    reading = _resumed(reading, _stored(message.cursor))
                    break
            messages.close()  # type: ignore[attr-defined]
        found += _insert_counts(iter(kept))
        if completed == {table.name for table in task.tables}:
            return found
    raise AssertionError(f"{task_id}: not complete after {_STEPS_MAX} checkpoints")


def _check_grammar(task: Task, messages: Sequence[SourceMessage]) -> None:
    names = {table.name for table in task.tables}
    assert isinstance(messages[-1], Checkpoint), "a read ends with a checkpoint"
    completed: list[str] = []
    sweeping: set[str] = set()
    for message in messages:
        match message:
            case Failure() | Swap():
                raise AssertionError(f"unexpected {message}")
            case Checkpoint():
                assert not sweeping, "a checkpoint stands between the keys that are present and their Complete"
                _stored(message.cursor)
            case Present():
                sweeping.add(message.table)
            case Complete():
                sweeping.discard(message.table)
                completed.append(message.table)
            case Insert() | Delete() | Replace():
                assert message.table not in sweeping, "rows come before the keys that are present"
            case Schema() | Notice():
                continue
        assert isinstance(message, Checkpoint) or message.table in names
        assert not isinstance(message, Insert | Replace) or message.table not in completed, "rows after Complete"
    assert sorted(completed) == sorted(names), "each table is completed once"
    last_complete = max(place for place, message in enumerate(messages) if isinstance(message, Complete))
    assert last_complete < len(messages) - 1


def _check_batch(message: Insert, table: Table, reading: Reading) -> None:
    batch = message.batch
    batch.validate(full=True)
    for column in batch.schema:
        assert column.type == table.schema.field(column.name).type, f"{table.name}.{column.name}"
    assert 0 < batch.num_rows <= reading.batch_rows
    # a source may go by an estimate of its rows, so the bound in bytes is not sharp
    assert batch.num_rows == 1 or batch.nbytes <= 2 * reading.batch_bytes
    assert message.version is None or message.version.type == pa.binary(16)
