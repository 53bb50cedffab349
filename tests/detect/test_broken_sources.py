"""The source suite finds what it is there to find: each broken source fails the case that is named for it."""

from dataclasses import replace

import pyarrow as pa
import pytest
from sqlite_shop import Shop

from strandline.connectors.sqlite.source import SQLiteSource
from strandline.message import Checkpoint, Complete, Insert, Present
from strandline.source import Task
from strandline.testing.source import SourceConformance


class Broken(SQLiteSource):
    """Changes the messages of a read."""

    def read(self, task, reading):
        yield from self.changed(list(super().read(task, reading)), reading.cursor)

    def changed(self, messages, cursor):
        return messages


def within_a_pass(cursor):
    return cursor is not None and "current" in cursor


def inserts(messages):
    return [message for message in messages if isinstance(message, Insert)]


def without(messages, dropped):
    return [message for message in messages if message is not dropped]


class SkipsARowWhenItGoesOn(Broken):
    def changed(self, messages, cursor):
        return without(messages, inserts(messages)[0]) if within_a_pass(cursor) and inserts(messages) else messages


class RepeatsARowWhenItGoesOn(Broken):
    def changed(self, messages, cursor):
        return [*inserts(messages)[:1], *messages] if within_a_pass(cursor) else messages


class SavesWronglyOnceItWentOn(Broken):
    """Each read yields what it should; only the positions that a resumed one saves are one row ahead."""

    def changed(self, messages, cursor):
        return [self.ahead(message) for message in messages] if within_a_pass(cursor) else messages

    def ahead(self, message):
        if not isinstance(message, Checkpoint) or "after" not in message.cursor.get("current", {}):
            return message
        current = message.cursor["current"]
        return Checkpoint({**message.cursor, "current": {**current, "after": [current["after"][0] + 1]}})


class SaysThatNothingComesAgain(Broken):
    def changed(self, messages, cursor):
        return [replace(one, reread=False) if isinstance(one, Insert) else one for one in messages]


class MarksOnlyTheSecondTime(Broken):
    def changed(self, messages, cursor):
        return messages if cursor else SaysThatNothingComesAgain.changed(self, messages, cursor)


class IsNeverComplete(Broken):
    def changed(self, messages, cursor):
        return [message for message in messages if not isinstance(message, Complete)]


class EndsWithoutACheckpoint(Broken):
    def changed(self, messages, cursor):
        return messages[:-1]


class ChecksInTheMiddleOfASweep(Broken):
    def changed(self, messages, cursor):
        place = next(at for at, message in enumerate(messages) if isinstance(message, Present))
        return [*messages[: place + 1], Checkpoint(messages[-1].cursor), *messages[place + 1 :]]


class NamesTheFirstKeysOnly(Broken):
    def changed(self, messages, cursor):
        return without(messages, [one for one in messages if isinstance(one, Present)][-1])


class ChecksBeforeItsRows(Broken):
    def changed(self, messages, cursor):
        for at, message in enumerate(messages[:-1]):
            if isinstance(message, Insert) and isinstance(messages[at + 1], Checkpoint):
                messages[at : at + 2] = messages[at + 1], message
                break
        return messages


class EndsAtTheNewestRow(Broken):
    """The cursor is taken when the read ends, and not when it begins."""

    def read(self, task, reading):
        yield from list(SQLiteSource.read(self, task, reading))[:-1]
        *_, last = SQLiteSource.read(self, task, reading)
        yield last


class NamesAnotherTable(Broken):
    def changed(self, messages, cursor):
        return [replace(one, table="other") if isinstance(one, Insert) else one for one in messages]


class StandsStillWhenItGoesOn(Broken):
    """A resumed read saves the cursor that it was given before it goes on."""

    def changed(self, messages, cursor):
        return [Checkpoint(cursor), *messages] if within_a_pass(cursor) else messages


class StepsBackWhenItGoesOn(Broken):
    """A look-back window is read also by a read that is resumed, and not only where a pass begins."""

    def read(self, task, reading):
        if reading.resumed and "after" in reading.cursor.get("current", {}):
            current = reading.cursor["current"]
            current = {**current, "after": [max(1, current["after"][0] - 15)]}
            reading = replace(reading, cursor={**reading.cursor, "current": current})
        return super().read(task, reading)


class SavesTuples(Broken):
    def changed(self, messages, cursor):
        return [Checkpoint({**one.cursor, "at": (1, 2)}) if isinstance(one, Checkpoint) else one for one in messages]


class SavesWhatJSONCannotHold(Broken):
    def changed(self, messages, cursor):
        return [Checkpoint({**one.cursor, "at": {1, 2}}) if isinstance(one, Checkpoint) else one for one in messages]


class ChangesTypes(Broken):
    def changed(self, messages, cursor):
        return [self.cast(message) if isinstance(message, Insert) else message for message in messages]

    def cast(self, message):
        schema = pa.schema([field.with_type(pa.string()) for field in message.batch.schema])
        return replace(message, batch=message.batch.cast(schema))


class YieldsLargeBatches(Broken):
    def read(self, task, reading):
        return super().read(task, replace(reading, batch_rows=1000, batch_bytes=1 << 20))


class TakesAnyCursor(Broken):
    def read(self, task, reading):
        if reading.cursor is not None and reading.cursor["version"] != 1:
            raise AssertionError
        yield from super().read(task, reading)


class NamesTasksBySomethingElse(Broken):
    def tasks(self, tables):
        return [Task(f"{table.name}-{id(self)}", (table,)) for table in tables]


class HasReservedTasks(Broken):
    def tasks(self, tables):
        return [Task(f"@{table.name}", (table,)) for table in tables]


class ReadsEverythingAlways(Broken):
    def tasks(self, tables):
        return super().tasks(self.tables())


class FindsNothingByItsKey(Broken):
    def read_keys(self, task, table, keys, reading):
        return iter(())


BROKEN = {
    SkipsARowWhenItGoesOn: (
        "P1",
        "a resumed read skips a row",
        "a_full_read_is_the_sum_of_reads_resumed_from_every_checkpoint",
    ),
    RepeatsARowWhenItGoesOn: (
        "P8",
        "a resumed read repeats a row",
        "a_full_read_is_the_sum_of_reads_resumed_from_every_checkpoint",
    ),
    SavesWronglyOnceItWentOn: (
        "P4",
        "a resumed read saves a position one row ahead",
        "a_read_that_dies_after_every_checkpoint_loses_nothing_and_repeats_nothing",
    ),
    SaysThatNothingComesAgain: (
        "P5",
        "rows that are read again are not marked",
        "a_second_sync_of_an_incremental_table_yields_only_what_was_marked",
    ),
    MarksOnlyTheSecondTime: (
        "P5",
        "rows are marked only when they come again",
        "a_second_sync_of_an_incremental_table_yields_only_what_was_marked",
    ),
    IsNeverComplete: ("P14", "a table is never complete", "messages_keep_the_grammar"),
    EndsWithoutACheckpoint: ("P2", "a read ends without a checkpoint", "messages_keep_the_grammar"),
    ChecksInTheMiddleOfASweep: ("P14", "a checkpoint stands in the middle of a sweep", "messages_keep_the_grammar"),
    ChecksBeforeItsRows: (
        "P2",
        "a checkpoint comes before its rows",
        "a_full_read_is_the_sum_of_reads_resumed_from_every_checkpoint",
    ),
    NamesTheFirstKeysOnly: ("P14", "a sweep leaves keys out", "a_sweep_names_every_row_that_was_read"),
    EndsAtTheNewestRow: (
        "P4",
        "the cursor is taken at the end of a read, not at its begin",
        "what_changes_while_it_is_read_comes_now_or_next_time",
    ),
    NamesAnotherTable: ("P11", "rows name a table that is not the task's", "messages_keep_the_grammar"),
    StandsStillWhenItGoesOn: (
        "P25",
        "a resumed read saves where it was first",
        "a_read_that_is_always_interrupted_after_as_many_messages_gets_on",
    ),
    StepsBackWhenItGoesOn: (
        "P25",
        "a resumed read steps back by a look-back window",
        "a_read_that_is_always_interrupted_after_as_many_messages_gets_on",
    ),
    SavesTuples: ("P4", "JSON changes a cursor", "a_cursor_comes_back_from_json_as_it_was"),
    SavesWhatJSONCannotHold: ("P4", "a cursor does not survive JSON", "messages_keep_the_grammar"),
    ChangesTypes: ("P31", "batches have other types than their table", "batches_fit_their_tables_and_their_bounds"),
    YieldsLargeBatches: ("P26", "batches are larger than was asked for", "batches_keep_to_few_bytes"),
    TakesAnyCursor: ("P22", "a cursor of another source is read", "a_cursor_of_another_source_is_refused_in_words"),
    NamesTasksBySomethingElse: (
        "P3",
        "a task has another name at every look",
        "tasks_are_the_same_at_every_look_and_can_travel",
    ),
    HasReservedTasks: (
        "P3",
        "a task takes a name that the engine uses",
        "tasks_are_the_same_at_every_look_and_can_travel",
    ),
    FindsNothingByItsKey: ("P46", "rows are not looked up", "rows_are_found_by_the_keys_that_a_sweep_names"),
    ReadsEverythingAlways: ("P11", "all tables are read, whatever was chosen", "only_the_chosen_tables_are_read"),
}


DETECTED = [
    pytest.param(cls, f"test_{case}", marks=pytest.mark.detects(promise, what, by=f"test_{case}"), id=cls.__name__)
    for cls, (promise, what, case) in BROKEN.items()
]


@pytest.fixture
def shop(tmp_path):
    shop = Shop(tmp_path / "shop.db")
    for name in ("t", "u"):
        shop.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v TEXT)")
        shop.execute(f"INSERT INTO {name} VALUES (?, ?)", *[(n, "v" * 30) for n in range(1, 21)])
    yield shop
    shop.close()


def run(case, cls, shop):
    settings = {name: {"incremental_key": "id", "deletes": "sweep"} for name in ("t", "u")}

    def make_source():
        return cls(cls.Spec(path=str(shop.path), tables=settings))

    suite = SourceConformance()
    reading = SourceConformance.reading.__wrapped__(suite)
    test = getattr(suite, case)
    names = test.__code__.co_varnames[1 : test.__code__.co_argcount]
    available = {
        "make_source": make_source,
        "reading": reading,
        "change": lambda: shop.execute("INSERT INTO t (v) VALUES (?)", ("new",), ("new",)),
    }
    test(**{name: available[name] for name in names})


@pytest.mark.parametrize(("cls", "case"), DETECTED)
def test_a_broken_source_is_noticed(shop, cls, case):
    run(case, SQLiteSource, shop)
    with pytest.raises((AssertionError, pytest.fail.Exception, TypeError, KeyError)):
        run(case, cls, shop)
