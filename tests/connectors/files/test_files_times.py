"""Texts of JSON that are all ISO times are times; a value that is none fails the table in words, or all of them stay text."""

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from synced_files import SyncedFiles

from strandline.errors import TaskError

UTC_US, US = pa.timestamp("us", "UTC"), pa.timestamp("us")


@pytest.fixture
def files(tmp_path):
    return SyncedFiles(tmp_path / "in")


def lines(*values, name="at"):
    return "".join(f"{json.dumps({'id': number, name: value})}\n" for number, value in enumerate(values))


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["2024-01-31T12:00:00Z", None], UTC_US, [datetime(2024, 1, 31, 12, tzinfo=UTC), None]),
        (["2024-01-31T12:00:00.5+02:00", "2024-01-31 12:00Z"], UTC_US, [datetime(2024, 1, 31, 10, 0, 0, 500_000, UTC), datetime(2024, 1, 31, 12, tzinfo=UTC)]),
        (["2024-01-31T12:00:00.123456000-0130"], UTC_US, [datetime(2024, 1, 31, 13, 30, 0, 123_456, UTC)]),
        (["2024-01-31T12:00:00", "2024-01-31"], US, [datetime(2024, 1, 31, 12), datetime(2024, 1, 31)]),  # noqa: DTZ001 -- they have no zone
        (["2024-02-29", None, "0001-01-01"], pa.date32(), [date(2024, 2, 29), None, date(1, 1, 1)]),
    ],
)  # fmt: skip
def test_texts_that_are_all_times_are_times(files, values, kind, expected):
    files.write("t.jsonl", lines(*values))
    table = files.table()
    assert table.schema.field("at").type == kind
    assert table.former == {"at": pa.string()}
    assert [row["at"] for row in files.rows()] == expected


@pytest.mark.parametrize(
    "values",
    [
        ["2024-01-31T12:00:00Z", "soon"],
        ["2024-01-31T12:00:00Z", "2024-01-31T12:00:00"],
        ["2024-01-31T12:00:00Z", "2024-01-31"],
        ["2024-01-31T12:00:00.1234567Z"],
        ["2024-02-30"],
        ["20240131"],
        ["2024-01"],
        ["12:00:00"],
        [""],
        [" 2024-01-31"],
        ["2024-01-31\n"],
        [None],
    ],
)
def test_texts_that_are_not_all_times_are_text(files, values):
    files.write("t.jsonl", lines(*values))
    assert files.table().schema.field("at").type == pa.string()
    assert not files.table().former
    assert [row["at"] for row in files.rows()] == values


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ('"2024-01-31"', '"2024-01-31T12:00"', US),
        ('"2024-01-31T12:00Z"', '"2024-01-31T12:00"', pa.string()),
        ('"2024-01-31T12:00Z"', '"soon"', pa.string()),
        ('"2024-01-31T12:00Z"', "5", pa.string()),
        ("5", '"2024-01-31"', pa.string()),
        ('"2024-01-31T12:00Z"', "null", UTC_US),
    ],
)
def test_files_that_do_not_agree_are_text_as_ever(files, one, other, kind):
    files.write("in/1.jsonl", f'{{"at":{one}}}\n')
    files.write("in/2.jsonl", f'{{"at":{other}}}\n')
    files.spec["table"] = "t"
    assert files.table().schema.field("at").type == kind
    if kind == pa.string():
        assert sorted(row["at"] for row in files.rows()) == sorted([one.strip('"'), other.strip('"')])


def test_keys_what_is_declared_and_what_lies_deeper_are_left_alone(files):
    files.write("t.jsonl", '{"k":"2024-01-31","v":"2024-01-31","d":"2024-01-31","deep":{"at":"2024-01-31"}}\n')
    table = files.table(primary_key=["k"], incremental_key="v", types={"d": "string"})
    assert [one.type for one in table.schema] == [*[pa.string()] * 3, pa.struct([("at", pa.string())])]
    assert not table.former


def test_a_later_value_that_is_no_time_fails_with_its_line_and_the_way_out(files):
    files.write("t.jsonl", lines(*["2024-01-31T12:00:00Z"] * 3))
    assert len(files.rows()) == 3
    source = files.source()
    (task,) = source.tasks(files.tables())
    files.append("t.jsonl", '{"id":4,"at":"soon"}\n')
    with pytest.raises(TaskError, match=r"t\.jsonl:4: column 'at' \(timestamp") as caught:
        list(source.read(task, files.reading(None)))
    assert "types: {at: string}" in caught.value.hint


def test_a_time_that_is_met_in_mid_stream_is_text(files):
    """How the destination has stored such a column, nobody has looked; a text goes into any."""
    files.write("t.jsonl", lines(*range(3), name="n"))
    source = files.source()
    (task,) = source.tasks(files.tables())
    files.append("t.jsonl", '{"id":4,"at":"2024-01-31"}\n')
    tables = [message.table for message in source.read(task, files.reading(None)) if hasattr(message, "table")]
    (changed,) = [table for table in tables if not isinstance(table, str)]
    assert changed.schema.field("at").type == pa.string()
