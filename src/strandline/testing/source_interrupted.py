"""Cases: a read that is interrupted again and again gets on, from cursors as they come back from a state."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

from strandline.message import Checkpoint, Complete, Cursor, Notice, SourceMessage
from strandline.parted import plain
from strandline.reading import Reading
from strandline.source import Source
from strandline.testing.offered import offered

__all__ = ["InterruptedCases"]

MakeSource = Callable[[], Source]


class InterruptedCases:
    """Part of ``SourceConformance``, which has the fixtures."""

    def test_a_read_that_is_always_interrupted_after_as_many_messages_gets_on(
        self, make_source: MakeSource, reading: Reading, change: Callable[[], None]
    ) -> None:
        """Each time the cursor is another one, so that it ends; in a first pass and in one that goes on from it."""
        with closing(make_source()) as source:
            ids = [task.id for task in offered(source)]
        cursors = {one: _interrupted(make_source, one, reading) for one in ids}
        change()
        for one, cursor in cursors.items():
            _interrupted(make_source, one, replace(reading, cursor=cursor))

    def test_a_cursor_comes_back_from_json_as_it_was(
        self, make_source: MakeSource, reading: Reading, change: Callable[[], None]
    ) -> None:
        """Numbers beyond 2^53, fractions and what is nested, too: JSON has no tuples, no sets, and texts as keys only."""
        with closing(make_source()) as source:
            lasts = [(task, _sound(source.read(task, reading))) for task in offered(source)]
            change()
            for task, last in lasts:
                _sound(source.read(task, replace(reading, cursor=last)))


def _cursors(messages: Iterator[SourceMessage]) -> list[Cursor | None]:
    return [message.cursor for message in messages if isinstance(message, Checkpoint)]


def _sound(messages: Iterator[SourceMessage]) -> Cursor | None:
    """The last cursor, once all of them were looked at."""
    last = None
    for last in _cursors(messages):
        assert json.loads(json.dumps(plain(last), allow_nan=False)) == last
    return last


def _interrupted(make_source: MakeSource, task_id: str, reading: Reading) -> Cursor | None:
    """Read a pass in pieces, none longer than what an uninterrupted read needs to come to its next cursor; where it ends."""
    most, seen, completed = 0, list[Cursor | None](), set[str]()
    while True:
        with closing(make_source()) as source:
            task = next(task for task in offered(source) if task.id == task_id)
            most = most or _longest_way([*source.read(task, reading)], reading.cursor)
            piece, messages = list[SourceMessage](), source.read(task, reading)
            for message in messages:
                piece += [] if isinstance(message, Notice) else [message]
                if len(piece) == most:
                    break
            messages.close()  # type: ignore[attr-defined]
        kept = piece[: max((at + 1 for at, one in enumerate(piece) if isinstance(one, Checkpoint)), default=0)]
        completed |= {one.table for one in kept if isinstance(one, Complete)}
        cursors = _cursors(iter(kept))
        if completed == {table.name for table in task.tables}:
            return cursors[-1]
        assert cursors, f"{task_id}: a read that is resumed from {reading.cursor} comes to no checkpoint"
        seen.append(reading.cursor)
        assert cursors[-1] not in seen, f"{task_id}: a read that is resumed from {reading.cursor} does not get on"
        reading = replace(reading, cursor=cursors[-1], resumed=True)


def _longest_way(messages: Sequence[SourceMessage], cursor: Cursor | None) -> int:
    """How many messages lie between two checkpoints of different cursors, at most; notices not counted."""
    told = [message for message in messages if not isinstance(message, Notice)]
    places, last = [0], cursor
    for place, message in enumerate(told, start=1):
        if isinstance(message, Checkpoint) and (message.cursor != last or place == len(told)):
            places.append(place)
            last = message.cursor
    return max(after - before for before, after in pairwise(places))
