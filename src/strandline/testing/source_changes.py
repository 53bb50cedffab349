"""Cases: a sweep of keys, and data that changes while it is read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from strandline.lazy import pa
from strandline.message import Checkpoint, Cursor, Insert, Present, SourceMessage
from strandline.reading import Reading
from strandline.source import Source, Task
from strandline.testing.exact import Row, exact_rows
from strandline.testing.offered import offered

__all__ = ["ChangeCases"]


class ChangeCases:
    """Part of ``SourceConformance``, which has the fixtures."""

    def test_a_sweep_names_every_row_that_was_read(self, make_source: Callable[[], Source], reading: Reading) -> None:
        """What is not named is removed from the destination, also by a later sync to which nothing has changed."""
        with closing(make_source()) as source:
            for task in offered(source):
                for one in (reading, replace(reading, mirror=True)):
                    first = list(source.read(task, one))
                    _check_sweep(task, first, first)
                    _check_sweep(task, first, list(source.read(task, replace(one, cursor=_last(first)))))

    def test_what_changes_while_it_is_read_comes_now_or_next_time(
        self, make_source: Callable[[], Source], reading: Reading, change: Callable[[], None]
    ) -> None:
        with closing(make_source()) as source:
            tasks = offered(source)
            reads = [iter(source.read(task, reading)) for task in tasks]
            first = [_until_rows(one) for one in reads]
            change()
            for messages, left in zip(first, reads, strict=True):
                messages.extend(left)
        with closing(make_source()) as source:
            for task, messages in zip(offered(source), first, strict=True):
                following = list(source.read(task, replace(reading, cursor=_last(messages))))
                whole = list(source.read(task, reading))
                for table in task.tables:
                    there, came = (_rows(_batches(some, table.name)) for some in (whole, [*messages, *following]))
                    assert not there - came, f"{task.id}: rows of {table.name!r} came neither now nor next time"


def _check_sweep(task: Task, first: Sequence[SourceMessage], swept: Sequence[SourceMessage]) -> None:
    keys = {table.name: table.primary_key for table in task.tables}
    for name, named in _present(swept).items():
        read = _rows(_batches(first, name), keys[name])
        assert set(read) <= named, f"{task.id}: rows of {name!r} that are there would be removed"


def _until_rows(reading: Iterator[SourceMessage]) -> list[SourceMessage]:
    messages = []
    for message in reading:
        messages.append(message)
        if isinstance(message, Insert):
            break
    return messages


def _batches(messages: Iterable[SourceMessage], table: str) -> "Iterator[pa.RecordBatch]":
    return (message.batch for message in messages if isinstance(message, Insert) and message.table == table)


def _rows(batches: "Iterable[pa.RecordBatch]", columns: Sequence[str] = ()) -> Counter[Row]:
    return Counter(row for batch in batches for row in exact_rows(batch.select(list(columns) or batch.schema.names)))


def _present(messages: Sequence[SourceMessage]) -> dict[str, set[Row]]:
    named: dict[str, set[Row]] = {}
    for message in messages:
        if isinstance(message, Present):
            columns = message.keys.schema.names
            named.setdefault(message.table, set()).update(_rows([message.keys], columns))
    return named


def _last(messages: Sequence[SourceMessage]) -> Cursor | None:
    return next(message.cursor for message in reversed(messages) if isinstance(message, Checkpoint))
