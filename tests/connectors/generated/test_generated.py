from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError

from strandline.connectors.generated.source import GeneratedSource
from strandline.connectors.generated.values import BASIC, TYPES
from strandline.message import Checkpoint, Complete, Cursor, Insert, SourceMessage
from strandline.plugins import load_plugin
from strandline.reading import Reading


def source(**settings) -> GeneratedSource:
    cls = load_plugin("source", "test")
    return cls(cls.Spec(**settings))


def read(one: GeneratedSource, cursor: Cursor | None = None, *, table: int = 1, **limits) -> Iterator[SourceMessage]:
    [*tasks] = one.tasks(one.tables())
    return one.read(tasks[table - 1], Reading(cursor, datetime.now(UTC), **limits))


def rows(messages) -> pa.Table:
    batches = [message.batch for message in messages if isinstance(message, Insert)]
    return pa.Table.from_batches(batches, batches[0].schema if batches else pa.schema([("id", pa.int64())]))


def last_cursor(messages) -> Cursor | None:
    assert isinstance(messages[-1], Checkpoint)
    return messages[-1].cursor


def syncs(one: GeneratedSource, count: int) -> list[pa.Table]:
    """What each of so many syncs delivers, each from the cursor that the last one left."""
    cursor, delivered = None, []
    for _ in range(count):
        messages = list(read(one, cursor, batch_rows=37))
        delivered.append(rows(messages))
        cursor = last_cursor(messages)
    return delivered


def test_there_are_as_many_rows_and_tables_as_asked():
    one = source(rows=1234, tables=3)
    assert [table.name for table in one.tables()] == ["test_1", "test_2", "test_3"]
    for table in (1, 2, 3):
        ids = rows(read(one, table=table, batch_rows=100))["id"]
        assert sorted(ids.to_pylist()) == list(range(1234))


def test_rows_depend_on_seed_and_table_and_on_nothing_else():
    one, other = rows(read(source(seed=1, tables=2))), rows(read(source(seed=2)))
    assert one.equals(rows(read(source(seed=1))))
    assert not one.equals(other)
    assert not one.equals(rows(read(source(seed=1, tables=2), table=2)))


@pytest.mark.parametrize("batch_rows", [1, 7, 64])
def test_a_row_does_not_depend_on_its_batch(batch_rows):
    whole = rows(read(source(rows=100, types="all")))
    parts = rows(read(source(rows=100, types="all"), batch_rows=batch_rows))
    assert parts.combine_chunks().equals(whole.combine_chunks())


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_valid_has_nulls_and_is_not_constant(name):
    one = source(rows=2000, types=[name])
    [batch] = [message.batch for message in read(one) if isinstance(message, Insert)]
    assert batch.schema == one.tables()[0].schema
    assert batch.schema.names == ["id", "version", "updated_at", name]
    batch.validate(full=True)
    values = batch.column(name)
    if name == "null":
        assert values.null_count == 2000
    else:
        assert 0.02 < values.null_count / 2000 < 0.15
        first, *others = [value for value in values if value.is_valid]
        assert any(not value.equals(first) for value in others)


@pytest.mark.parametrize(
    ("types", "names"),
    [
        ("basic", sorted(BASIC)),
        ("all", sorted(TYPES)),
        (["time32_*", "bool"], ["bool", "time32_ms", "time32_s"]),
        ("timestamp_n*", ["timestamp_ns"]),
    ],
)
def test_types_are_chosen_by_name_and_glob(types, names):
    assert sorted(source(types=types).tables()[0].schema.names[3:]) == names


@pytest.mark.parametrize(
    "settings", [{"types": "text"}, {"incremental": False, "changed": 0.5}, {"changed": 1.5}, {"x": 1}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValidationError):
        source(**settings)


def test_batches_keep_to_their_bounds():
    for message in read(source(rows=5000, types="all"), batch_rows=1000, batch_bytes=100_000):
        if isinstance(message, Insert):
            assert message.batch.num_rows <= 1000
            assert message.batch.nbytes <= 100_000


@pytest.mark.parametrize("settings", [{"changed": 0.25, "added": 5}, {"incremental": False}])
@pytest.mark.parametrize("start", [None, {"sync": 2, "row": 0}])
def test_reading_resumes_at_every_checkpoint(settings, start):
    if "incremental" in settings and start:
        start = {"sync": 0, "row": 0}
    whole = list(read(source(rows=40, **settings), start, batch_rows=3))
    for number, message in enumerate(whole[:-1]):
        if isinstance(message, Checkpoint):
            rest = list(read(source(rows=40, **settings), message.cursor, batch_rows=4))
            assert rows(rest).equals(rows(whole[number:]))
            assert rest[-2:] == whole[-2:]
            assert isinstance(rest[-2], Complete)


def test_a_later_sync_delivers_exactly_what_changed():
    first, second, third = syncs(source(rows=1000, changed=0.1, added=7), 3)
    assert (len(first), len(second), len(third)) == (1000, 107, 108)  # a tenth of 1000, of 1007
    assert sorted(second["id"].to_pylist())[100:] == list(range(1000, 1007))
    assert len(set(third["id"].to_pylist())) == 108
    assert set(second["version"].to_pylist()) == {1}
    assert set(third["version"].to_pylist()) == {2}
    assert pc.max(first["updated_at"]).as_py() < pc.min(second["updated_at"]).as_py()
    assert set(second["id"].to_pylist()) != set(third["id"].to_pylist())


def test_nothing_changes_unless_asked():
    one = source(rows=10)
    messages = list(read(one))
    later = list(read(one, last_cursor(messages)))
    assert [type(message) for message in later] == [Complete, Checkpoint]


def test_a_table_read_in_full_starts_again_from_nothing():
    one = source(rows=10, incremental=False)
    messages = list(read(one))
    assert last_cursor(messages) is None
    assert not one.tables()[0].incremental


@pytest.mark.parametrize(
    "settings", [{"changed": 0.3}, {"changed": 1, "added": 1}, {"added": 9}, {"rows": 0, "added": 2}]
)
def test_what_is_expected_is_what_the_deliveries_add_up_to(settings):
    one = source(**({"rows": 97, "types": ["int64", "string", "struct"]} | settings))
    state: dict[int, dict] = {}
    delivered = syncs(one, 5)
    for count, rows_of_sync in enumerate(delivered, 1):
        state |= {row["id"]: row for row in rows_of_sync.to_pylist()}
        assert one.expected("test_1", count).to_pylist() == [state[key] for key in sorted(state)]
        everything = [row for table in delivered[:count] for row in table.to_pylist()]
        assert one.delivered("test_1", count).to_pylist() == everything


def test_another_selection_is_another_state():
    fingerprints = {
        source(**settings).tables()[0].fingerprint for settings in ({}, {"rows": 2}, {"seed": 1}, {"changed": 0.5})
    }
    assert len(fingerprints) == 4
