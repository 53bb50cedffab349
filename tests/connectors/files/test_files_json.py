"""JSON lines and Parquet: nested values, values of several kinds, new columns, and input that is hostile or damaged."""

import datetime as dt
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synced_files import SyncedFiles

from strandline.connectors.files import schema as files_schema
from strandline.errors import TaskError
from strandline.message import Insert, Schema


@pytest.fixture
def files(tmp_path: Path) -> SyncedFiles:
    return SyncedFiles(tmp_path / "in")


@pytest.fixture
def short_sample(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The first 64 KiB of a file decide its types; as many bytes of lines."""
    monkeypatch.setattr(files_schema, "_SAMPLE_BYTES", 0)
    return b'{"n":1}\n' * 10_000


def types(table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


# JSON lines


def test_nested_json_becomes_structs_and_lists(files):
    files.write(
        "t.jsonl", '{"n":1,"s":{"a":[1,2],"b":null},"l":[{"x":1.5}]}\n\n{"s":{"c":"x"},"at":"2024-01-01","n":2}\n'
    )
    assert types(files.table()) == {
        "n": "int64",
        "s": "struct<a: list<item: int64>, b: string, c: string>",
        "l": "list<item: struct<x: double>>",
        "at": "date32[day]",
    }
    assert files.rows() == [
        {"n": 1, "s": {"a": [1, 2], "b": None, "c": None}, "l": [{"x": 1.5}], "at": None},
        {"n": 2, "s": {"a": None, "b": None, "c": "x"}, "l": None, "at": dt.date(2024, 1, 1)},
    ]


def test_declared_types_of_json_hold_and_string_holds_everything(files):
    lines = [
        '{"v":1.10,"d":"2024-02-29","n":"7"}',
        '{"v":"x","d":null,"n":8}',
        '{"v":{"a": [1]},"n":9}',
        '{"v":true}',
        "{}",
    ]
    files.write("t.jsonl", "\n".join([*lines, ""]))
    assert files.rows(types={"v": "string", "d": "date32", "n": "int64"}) == [
        {"v": "1.10", "d": dt.date(2024, 2, 29), "n": 7},
        {"v": "x", "d": None, "n": 8},
        {"v": '{"a": [1]}', "d": None, "n": 9},
        {"v": "true", "d": None, "n": None},
        {"v": None, "d": None, "n": None},
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"n":"x"}', "column 'n' \\(int64\\): .*changed from number to string"),
        (b'{"n":1.5}', "column 'n' \\(int64\\): .*1.5"),
        (b'{"n":9223372036854775808}', "column 'n' \\(int64\\): .*9223372036854775808"),
        (b'{"n":', "Invalid value"),
        (b"null", "not an object: null"),
        (b"5", "not an object: 5"),
        (b'[{"n":1}]', "not an object: \\[{"),
        (b'{"n":1} null', "not one object a line"),
        (b'{"n":1}{"n":2}', "not one object a line"),
        (b'{"n":1,"n":2}', "specified twice"),
        (b'{"n":1,"s":"\xff"}', "."),
        (b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "levels deep"),
        (b'{"x":' + b'{"x":' * 30_000 + b"1" + b"}" * 30_000 + b"}", "levels deep"),
    ],
)
def test_a_line_that_does_not_fit_is_an_error_that_names_it(files, short_sample, line, message):
    files.write("t.jsonl", short_sample + line + b"\n" + short_sample)
    with pytest.raises(TaskError, match=rf"t\.jsonl:10001: .*{message}"):
        list(files.read())
    assert files.cursors == {}


def test_a_first_line_that_is_null_does_not_end_the_process(tmp_path):
    """Arrow's reader would."""
    (tmp_path / "t.jsonl").write_text('null\n{"n":1}\n')
    script = (
        "from strandline.connectors.files.source import FilesSource\n"
        f"source = FilesSource(FilesSource.Spec(path={str(tmp_path)!r}))\n"
        "print(source.tables()[0].unreadable.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "t.jsonl:1: not an object: null"), done.stderr


def test_brackets_in_texts_are_no_nesting(files):
    files.write("t.jsonl", "".join(json.dumps({"n": n, "s": "[{[" * 500}) + "\n" for n in range(9)))
    assert len(files.rows()) == 9
    files.write("t.jsonl", '{"a":' * 50 + "1" + "}" * 50 + "\n")
    assert len(files.rows()) == 1


def test_large_whole_numbers_are_not_rounded(files, short_sample):
    first = '{"n":9007199254740993,"f":0.5,"s":{"f":1e300}}\n'
    files.write("t.jsonl", first)
    assert files.rows() == [{"n": 9007199254740993, "f": 0.5, "s": {"f": 1e300}}]
    for line in ('{"f":9007199254740993}', '{"s":{"f":9007199254740993}}'):
        files.write("t.jsonl", first.encode() + short_sample + line.encode() + b"\n")
        with pytest.raises(TaskError, match=r"t\.jsonl:10002: .*9007199254740993 would not stay the same as double"):
            files.rows()
    files.write("t.jsonl", first + '{"f":9007199254740993}\n')
    assert files.rows(types={"f": "double"})[-1]["f"] == 9007199254740992.0


def test_a_key_that_is_new_in_the_middle_becomes_a_column(files, short_sample):
    files.write("t.jsonl", short_sample + b'{"n":2,"s":{"a":1}}\n' + b'{"n":3,"s":{"b":"x"},"late":null}\n')
    rows = files.rows()
    assert [row["n"] for row in rows] == [1] * 10_000 + [2, 3]
    assert rows[-2:] == [
        {"n": 2, "s": {"a": 1, "b": None}, "late": None},
        {"n": 3, "s": {"a": None, "b": "x"}, "late": None},
    ]
    (schema,) = [message.table for message in files.messages if isinstance(message, Schema)]
    assert types(schema) == {"n": "int64", "s": "struct<a: int64, b: string>", "late": "string"}


def test_a_new_key_of_several_kinds_has_to_be_declared(files, short_sample):
    files.write("t.jsonl", short_sample + b'{"n":2,"x":1}\n{"n":2,"x":"a"}\n')
    with pytest.raises(
        TaskError, match=r"t\.jsonl:10002: a new column has no type: .*/x.* from number to string"
    ) as caught:
        files.rows()
    assert "`types: {x: string}`" in caught.value.hint
    assert [row.get("x") for row in files.rows(types={"x": "string"})][-2:] == ["1", "a"]


# Several files of one table


def test_columns_of_all_files_make_the_table_and_each_batch_has_its_own(files):
    files.write("t/a.csv", "a,b\n1,x\n")
    files.write("t/b.csv", "b,c\ny,2.5\n")
    assert types(files.table()) == {"a": "int64", "b": "string", "c": "double"}
    assert files.rows() == [{"a": 1, "b": "x"}, {"b": "y", "c": 2.5}]
    files.write("t/c.csv", "d,a\n2024-01-01,3\n")
    assert files.rows() == [{"a": 3, "d": dt.date(2024, 1, 1)}]


def test_a_column_that_only_an_unsampled_file_has_is_added(files, monkeypatch):
    monkeypatch.setattr(files_schema, "_FILES_MAX", 2)
    for name, content in (("a", "n\n1\n"), ("b", "n,x\n2,y\n"), ("c", "n\n3\n")):
        files.write(f"t/{name}.csv", content)
    assert files.rows() == [{"n": 1}, {"n": 2, "x": "y"}, {"n": 3}]
    assert [type(message).__name__ for message in files.messages].count("Schema") == 1


@pytest.mark.parametrize(
    ("one", "other", "type_"),
    [
        ("n\n1\n", "n\n1.5\n", "double"),
        ("n\n1\n", "n\nx\n", "string"),
        ("n\n2024-01-01\n", "n\n2024-01-01 10:00\n", "timestamp[us]"),
        ("n\n2024-01-01\n", "n\n5\n", "string"),
        ("n,m\n,1\n", "n\n5\n", "int64"),
    ],
)
def test_csv_types_that_differ_are_widened_and_at_last_text(files, one, other, type_):
    files.write("t/a.csv", one)
    files.write("t/b.csv", other)
    assert types(files.table())["n"] == type_
    assert len(files.rows()) == 2


def test_nested_types_can_be_declared(files):
    files.write("a.jsonl", '{"l":[1],"s":{"a":"1.5"}}\n')
    types = {"l": "list<int32>", "s": "struct<a: string>"}
    assert files.rows(types=types) == [{"l": [1], "s": {"a": "1.5"}}]


def test_nested_types_of_several_files_are_joined(files):
    files.write("t/a.jsonl", '{"s":{"a":1,"l":[]},"l":[1]}\n')
    files.write("t/b.jsonl", '\ufeff{"s":{"a":1.5,"l":[{"x":"y"}],"b":null},"l":[]}\n')
    assert types(files.table()) == {
        "s": "struct<a: double, l: list<item: struct<x: string>>, b: string>",
        "l": "list<item: int64>",
    }
    first, second = files.rows()
    assert first == {"s": {"a": 1.0, "l": [], "b": None}, "l": [1]}
    assert second == {"s": {"a": 1.5, "l": [{"x": "y"}], "b": None}, "l": []}
    files.write("t/c.jsonl", '{"s":{"a":"x"}}\n')
    with pytest.raises(TaskError, match="column 's' is struct"):
        files.tables()


def test_what_is_text_in_one_file_is_text_in_all(files):
    files.write("t/a.jsonl", '{"n":1.10,"b":true}\n{"n":2,"b":null}\n')
    files.write("t/b.jsonl", '{"n":"x","b":"no"}\n')
    assert files.rows() == [{"n": "1.10", "b": "true"}, {"n": "2", "b": None}, {"n": "x", "b": "no"}]


def test_lists_and_numbers_of_one_column_are_refused_with_both_files(files):
    files.write("t/a.jsonl", '{"n":1}\n')
    files.write("t/b.jsonl", '{"n":[1]}\n')
    with pytest.raises(TaskError, match=r"column 'n' is int64 in t/a\.jsonl, but list<item: int64> in t/b\.jsonl"):
        files.tables()
    assert files.rows(types={"n": "string"}) == [{"n": "1"}, {"n": "[1]"}]


@pytest.mark.parametrize(
    "number",
    [
        "1630293344.17526762721",
        "0.1234567890123456789",
        "123456789012345678.5",
        "-1234567890123456789.0",
        "1e-99999999999999999999",
    ],
)
def test_fractions_that_no_double_holds_are_text(files, number):
    files.write("t.jsonl", f'{{"n":1.5,"s":{{"x":1}}}}\n{{"n":{number},"s":{{"x":2}}}}\n')
    assert files.rows() == [{"n": "1.5", "s": {"x": 1}}, {"n": number, "s": {"x": 2}}]


@pytest.mark.parametrize("line", ['{"s":{"x":0.1234567890123456789}}', '{"s":{"x":[0.1234567890123456789]}}'])
def test_within_a_value_such_a_fraction_is_refused_by_name(files, line):
    files.write("t.jsonl", line + "\n")
    with pytest.raises(TaskError, match=r"0\.1234567890123456789 would not stay the same as double"):
        files.rows()
    assert files.rows(types={"s": "string"}) == [{"s": line[5:-1]}]


def test_a_fraction_of_seventeen_digits_that_comes_back_is_a_double(files):
    files.write("t.jsonl", '{"n":0.30000000000000004}\n{"n":1.7976931348623157e308}\n')
    assert files.rows() == [{"n": 0.30000000000000004}, {"n": 1.7976931348623157e308}]


def test_a_key_is_no_double(files):
    files.write("t.jsonl", '{"v":1.1}\n{"v":1.10}\n{"v":1e5}\n{"v":100000.0}\n')
    assert files.rows(primary_key=["v"]) == [{"v": "1.1"}, {"v": "1.10"}, {"v": "1e5"}, {"v": "100000.0"}]


# Parquet


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (pa.int32(), pa.int64(), "int64"),
        (pa.uint32(), pa.int8(), "int64"),
        (pa.int16(), pa.float32(), "float"),
        (pa.string(), pa.large_string(), "large_string"),
        (pa.timestamp("s"), pa.timestamp("us"), "timestamp[us]"),
        (pa.decimal128(5, 2), pa.decimal128(9, 1), "decimal128(10, 2)"),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), "string"),
        (pa.null(), pa.int8(), "int8"),
        (pa.int64(), pa.float64(), None),
        (pa.uint64(), pa.int64(), None),
        (pa.string(), pa.int64(), None),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_parquet_types_are_widened_only_without_loss(files, one, other, both, swapped):
    (files.path / "t").mkdir(parents=True)
    for name, type_ in zip("ba" if swapped else "ab", (one, other), strict=True):
        pq.write_table(pa.table({"v": pa.array([None], type_), "n": [1]}), files.path / f"t/{name}.parquet")
    if both is None:
        with pytest.raises(TaskError, match="column 'v' is"):
            files.tables()
    else:
        assert types(files.table())["v"] == both
        assert files.rows() == [{"v": None, "n": 1}] * 2


def test_parquet_that_does_not_fit_the_others_names_file_and_column(files, monkeypatch):
    monkeypatch.setattr(files_schema, "_FILES_MAX", 2)
    (files.path / "t").mkdir(parents=True)
    for name, values in (("a", [1]), ("b", [0.5]), ("c", [2])):
        pq.write_table(pa.table({"n": values}), files.path / f"t/{name}.parquet")
    with pytest.raises(TaskError, match=r"t/b\.parquet: column 'n' is double there, and int64 in other files"):
        files.rows()
    assert list(files.cursors["t"]["files"]) == ["t/a.parquet"]


def test_parquet_keeps_its_types_and_values(files):
    table = pa.table(
        {
            "d": pa.array([dt.date(2024, 1, 1)], pa.date32()),
            "s": pa.array([{"x": [1, None]}], pa.struct({"x": pa.list_(pa.int8())})),
            "b": pa.array([b"\x00\xff"], pa.binary()),
            "c": pa.array(["x"]).dictionary_encode(),
        }
    )
    files.path.mkdir()
    pq.write_table(table, files.path / "t.parquet")
    assert types(files.table()) == {
        "d": "date32[day]",
        "s": "struct<x: list<item: int8>>",
        "b": "binary",
        "c": "string",
    }
    assert files.rows() == table.to_pylist()
    pq.write_table(pa.concat_tables([table, table]), files.path / "t.parquet")
    assert files.rows() == table.to_pylist() * 2


# Damage


@pytest.mark.parametrize("name", ["b.csv.gz", "b.csv.zst", "b.parquet"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_file_is_an_error_that_names_it_and_others_stay_delivered(files, name, damage):
    ending = name.partition(".")[2]
    for number, of in enumerate((f"t/a.{ending}", f"t/{name}")):
        path = files.write(of, b"")
        if ending == "parquet":
            pq.write_table(pa.table({"n": [number]}), path)
        else:
            with pa.output_stream(str(path), compression="detect") as stream:
                stream.write(f"n\n{number}\n".encode())
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if damage == "cut" else b"this is not what its name says")
    found = []
    with pytest.raises(TaskError, match=rf"t/{name}: damaged, or not complete yet") as caught:
        found += (message.batch.to_pylist() for _, message in files.read() if isinstance(message, Insert))
    assert "put a complete file in its place" in caught.value.hint
    assert found == [[{"n": 0}]]
    assert list(files.cursors["t"]["files"]) == [f"t/a.{ending}"]
    path.write_bytes(whole)
    assert files.rows() == [{"n": 1}]


def test_a_file_that_is_damaged_after_it_was_read_stops_nothing_before_it(files):
    files.write("t/b.csv.gz", gzip.compress(b"n\n1\n"))
    files.rows()
    files.write("t/b.csv.gz", b"broken")
    files.write("t/a.csv", "n\n2\n")
    found = []
    with pytest.raises(TaskError, match=r"t/b\.csv\.gz: damaged"):
        found += (message.batch.to_pylist() for _, message in files.read() if isinstance(message, Insert))
    assert found == [[{"n": 2}]]
    files.write("t/b.csv.gz", gzip.compress(b"n\n1\n3\n"))
    assert files.rows() == [{"n": 3}]


def test_when_nothing_can_be_read_the_reason_is_said(files):
    files.write("t.parquet", "not parquet")
    with pytest.raises(TaskError, match=r"t\.parquet: damaged"):
        files.table()
