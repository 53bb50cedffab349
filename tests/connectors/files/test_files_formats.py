"""What stands in files: formats, names, types, and everything that may be wrong with them."""

import datetime as dt
import gzip
import os
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from synced_files import SyncedFiles

from strandline.connectors.files import reading as files_reading
from strandline.connectors.files import schema as files_schema
from strandline.connectors.files.csv import CSVLines, CSVSettings
from strandline.errors import TaskError, UsageError


@pytest.fixture
def files(tmp_path: Path) -> SyncedFiles:
    return SyncedFiles(tmp_path / "in")


def types(table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


# Which files, and which tables


def test_tables_are_called_after_directories_and_files(files):
    files.write("orders/2024/01.csv", "n\n1\n")
    files.write("orders.csv.gz", gzip.compress(b"n\n2\n"))
    files.write("people.jsonl", '{"n":3}\n')
    files.write("items.parquet", b"")
    pq.write_table(pa.table({"n": [4]}), files.path / "items.parquet")
    assert files.sync() == {"items": [{"n": 4}], "orders": [{"n": 2}, {"n": 1}], "people": [{"n": 3}]}
    assert [table.name for table in files.source().tables()] == ["items", "orders", "people"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", [1, 2, 3, 4]),
        ("*.csv", [1]),
        ("**", [1, 2, 3, 4]),
        ("**/*.csv", [1, 2, 3]),
        ("x/*.csv", [2]),
        ("x/**/*.csv", [2, 3]),
        ("[w-y]/?.csv", [2]),
        ("**/y/**/*", [3]),
        ("**/**/x/**/**/*.csv", [2, 3]),
        ("x/**/**/y/**/3.csv", [3]),
        ("x/2.csv", [2]),
    ],
)
def test_a_path_is_a_directory_a_pattern_or_a_file(files, pattern, found):
    for name, n in (("1.csv", 1), ("x/2.csv", 2), ("x/y/3.csv", 3), ("4.jsonl", 4)):
        files.write(name, f"n\n{n}\n" if name.endswith("csv") else f'{{"n":{n}}}\n')
    files.spec["path"] += f"/{pattern}"
    assert sorted(row["n"] for row in files.rows()) == found


@pytest.mark.parametrize("pattern", ["**/" * 200 + "1.csv", "**/a/" * 40 + "1.csv", "**/" * 200 + "*" * 300 + "v"])
def test_a_pattern_of_many_stars_finds_its_file(files, pattern):
    files.write("a/" * 40 + "1.csv", "n\n1\n")
    files.spec["path"] += f"/{pattern}"
    assert files.rows() == [{"n": 1}]


@pytest.mark.parametrize(
    "pattern", ["**/" * 200 + "2.csv", "**/a/" * 41 + "1.csv", "**/*/a/" * 30 + "1.csv", "**/" + "*a" * 200 + "*.csv"]
)
def test_a_pattern_of_many_stars_that_no_file_fits_comes_to_an_end(files, pattern):
    files.write("a/" * 40 + "1.csv", "n\n1\n")
    files.spec["path"] += f"/{pattern}"
    with pytest.raises(UsageError, match="there are no files at"):
        files.rows()


def test_a_name_with_wildcards_that_exists_is_that_file(files):
    files.write("a[1].csv", "n\n1\n")
    files.write("a1.csv", "n\n2\n")
    files.spec["path"] += "/a[1].csv"
    assert files.rows() == [{"n": 1}]


def test_hidden_and_unfinished_names_are_passed_over(files):
    files.write("a.csv", "n\n1\n")
    for name in (".b.csv", "_c.csv", ".d/e.csv", "_tmp/f.csv", "g/.h.csv"):
        files.write(name, "n\n2\n")
    assert files.rows() == [{"n": 1}]
    files.spec["path"] += "/_c.csv"
    assert files.rows() == [{"n": 2}]


def test_links_are_followed_once_and_loops_end(files):
    files.write("a/1.csv", "n\n1\n")
    outside = files.path.parent / "outside"
    outside.mkdir()
    (outside / "2.csv").write_text("n\n2\n")
    for link, to in (
        ("a/loop", "."),
        ("b", "a"),
        ("c", str(outside)),
        ("d", str(outside)),
        ("e", "nowhere"),
        ("f", "f"),
    ):
        (files.path / link).symlink_to(to)
    (files.path / "g.csv").symlink_to("a/1.csv")
    os.mkfifo(files.path / "pipe.csv")
    assert files.sync(file_column="file") == {"a": [{"n": 1, "file": "a/1.csv"}], "c": [{"n": 2, "file": "c/2.csv"}]}


@pytest.mark.parametrize("name", ["näme 🌊.csv", "new\nline.csv", "100%25.csv", 'it\'s "x".csv', "a;--.csv"])
def test_odd_names_are_keys_and_values_as_they_are(files, name):
    files.write(name, "n\n1\n")
    assert files.rows(file_column="file", table="t") == [{"n": 1, "file": name.replace("%25", "%2525")}]
    assert files.rows(table="t") == []


def test_a_name_that_is_not_utf_8_is_escaped_and_distinct(files):
    for name in (b"\xff.csv", b"%FF.csv", b"%.csv"):
        files.write(os.fsdecode(name), "n\n1\n")
    found = [row["file"] for row in files.rows(file_column="file", table="t")]
    assert sorted(found) == ["%.csv", "%25FF.csv", "%FF.csv"]
    assert files.rows(table="t") == []


def test_what_is_not_there_is_refused(files):
    for path in ("", "/nope.csv", "/*.csv"):
        with pytest.raises(UsageError, match=r"there is no (file or )?directory"):
            files.source(path=f"{files.path}{path}").tables()
    files.path.mkdir()
    for path in ("", "/*.csv"):
        with pytest.raises(UsageError, match="there are no files"):
            files.source(path=f"{files.path}{path}").tables()


def test_a_directory_that_cannot_be_listed_is_an_error_and_not_empty(files, monkeypatch):
    files.write("a/1.csv", "n\n1\n")
    files.write("b/2.csv", "n\n2\n")
    files.rows(table="t")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    source = files.source(table="t")
    (table,) = source.tables()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"cannot look at .*/b"):
        files.source(table="t").tables()
    monkeypatch.setattr(type(source), "tables", lambda self: [table])
    before = dict(files.cursors)
    with pytest.raises(TaskError, match=r"cannot look at .*/b"):
        files.rows(table="t")
    assert files.cursors == before


@pytest.mark.parametrize(
    ("written", "spec", "message"),
    [
        (("t/a.csv", "t/b.jsonl"), {}, r"table 't' has files of several formats: t/a\.csv, t/b\.jsonl"),
        (("a.csv", "b.parquet"), {"table": "t"}, "several formats"),
        (("a.csv",), {"format": "jsonl"}, r"a\.csv is csv by its name, but `format` is jsonl"),
        (("a.parquet.gz",), {}, "compressed Parquet"),
        (("@run.csv",), {}, "cannot be the name of a table"),
        (("a.csv",), {"file_column": "n"}, "has a column 'n' already"),
        (
            ("t/a.jsonl", "t/b.jsonl"),
            {"primary_key": ["n"]},
            r"column 'n' is int64 in t/a\.jsonl, but string in t/b\.jsonl",
        ),
    ],
)
def test_what_cannot_be_a_table_fails_and_others_do_not(files, written, spec, message):
    for name in written:
        files.write(name, "n\n1\n" if ".csv" in name else '{"n":"x"}\n' if "b." in name else '{"n":1}\n')
    with pytest.raises(TaskError, match=message):
        files.tables(**spec)
    if not spec:
        files.write("good/1.csv", "id\n1\n")
        assert [table.name for table in files.source().tables() if table.unreadable is None] == ["good"]


def test_a_type_that_is_none_is_an_error_of_the_spec(files):
    files.write("a.csv", "n\n1\n")
    for kind, wrong in (
        ("integer", "'integer', for column 'n', is not a type"),
        ("list<int64>", "column 'n' of a CSV file cannot be list<item: int64>"),
    ):
        (table,) = files.source(types={"n": kind}).tables()
        assert isinstance(table.unreadable, UsageError)
        assert wrong in table.unreadable.message


@pytest.mark.parametrize("name", ["README.md", "notes", "a.xlsx", "t/LICENSE", "t/a.csv.bak"])
def test_a_file_of_no_known_format_is_named_once_and_passed_over(files, caplog, name):
    files.write("t/1.csv", "id\n1\n")
    files.write(name, "hello\n")
    assert files.sync() == {"t": [{"id": 1}]}
    assert [name in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("one", [True, False])
def test_nothing_but_files_of_no_known_format_is_an_error(files, one):
    path = files.write("README.md", "hello\n")
    with pytest.raises(UsageError, match="there are no files of a known format at") as raised:
        files.source(path=str(path if one else files.path)).tables()
    assert "`format`" in raised.value.hint


def test_with_a_format_a_file_needs_no_ending(files):
    files.write("events", '{"id": 1}\n')
    files.write("more.log", '{"id": 2}\n')
    assert files.sync(format="json") == {"events": [{"id": 1}], "more": [{"id": 2}]}


@pytest.mark.parametrize(
    "spec",
    [
        {"path": "ftp://host/x"},
        {"path": "s3://"},
        {"path": ""},
        {"csv": {"delimiter": "ab"}},
        {"csv": {"quote": "ä"}},
        {"csv": {"encoding": "utf-9"}},
        {"on_grow": "append"},
        {"pth": "x"},
    ],
)
def test_settings_are_checked_before_anything_is_touched(files, spec):
    with pytest.raises(ValidationError):
        files.source(**spec)


# CSV


def test_types_of_csv_are_found_and_text_stays_what_it_is(files):
    files.write(
        "t.csv",
        "i,f,b,d,at,zoned,zip,phone,big,hash,mixed,text\n"
        "1,1.5,true,2024-02-29,2024-01-01 10:00,2024-01-01T10:00:00.5Z,00501,+4912,9223372036854775808,0x1F,1,a\n"
        "-2,3,false,,2024-01-01T10:00:00.25,2024-01-01T10:00:00+02:00,12345,+4913,1,12,x,\n",
    )
    assert types(files.table()) == {
        "i": "int64",
        "f": "double",
        "b": "bool",
        "d": "date32[day]",
        "at": "timestamp[us]",
        "zoned": "timestamp[us, tz=UTC]",
        "zip": "string",
        "phone": "string",
        "big": "string",
        "hash": "string",
        "mixed": "string",
        "text": "string",
    }
    first, second = files.rows()
    assert (first["zip"], first["phone"], first["big"]) == ("00501", "+4912", "9223372036854775808")
    assert (second["d"], second["text"]) == (None, None)
    assert second["at"] == dt.datetime(2024, 1, 1, 10, 0, 0, 250_000)  # noqa: DTZ001 there is no zone in the file
    assert second["zoned"] == dt.datetime(2024, 1, 1, 8, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("sample", "value", "type_"),
    [
        ("1", "x", "int64"),
        ("1", "007", "int64"),
        ("1", "1.5", "int64"),
        ("1", "9223372036854775808", "int64"),
        ("1", "0x1F", "int64"),
        ("1", '""', "int64"),
        ("1.5", "007.5", "double"),
        ("1.5", "+1", "double"),
        ("1.5", "9007199254740993", "double"),
        ("1.5", "1e999", "double"),
        ("true", "yes", "bool"),
        ("2024-01-01", "01.02.2024", "date32"),
        ("2024-01-01 10:00", "2024-01-01 10:00Z", "timestamp"),
        ("x", "\xff", "string"),
    ],
)
def test_a_later_value_that_does_not_fit_is_an_error_that_names_it(files, monkeypatch, sample, value, type_):
    monkeypatch.setattr(files_schema, "_SAMPLE_BYTES", 0)
    good = sample.encode() + b",1\n"
    files.write("t.csv", b"v,n\n" + good * 20_000 + value.encode("latin-1") + b",1\n" + good)
    with pytest.raises(TaskError, match=rf"t\.csv:20002: .*{type_}") as caught:
        list(files.read())
    assert "types" in caught.value.hint or "encoding" in caught.value.hint
    assert files.cursors == {}


def test_declared_types_hold(files):
    files.write("t.csv", "a,b,c,d,e\n1,1,2024-01-01T00:00:00Z,1.50,007\n")
    spec = {"types": {"a": "string", "b": "bool", "c": "timestamp[ms, UTC]", "d": "decimal128(10, 2)", "e": "int32"}}
    assert types(files.table(**spec))["d"] == "decimal128(10, 2)"
    assert files.rows(**spec) == [
        {"a": "1", "b": True, "c": dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "d": Decimal("1.50"), "e": 7}
    ]


def test_nothing_is_null_and_quoted_nothing_is_text(files):
    files.write("t.csv", 'a,b,n\n,"",1\n"",NA,\n')
    assert files.rows() == [{"a": None, "b": "", "n": 1}, {"a": "", "b": "NA", "n": None}]
    files.cursors = {}
    rows = files.rows(csv={"null_values": ["", "NA"], "quoted_nulls": True}, types={"a": "string"})
    assert rows == [{"a": None, "b": None, "n": 1}, {"a": None, "b": None, "n": None}]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_newlines_and_byte_order_marks_of_all_kinds(files, newline, mark):
    text = newline.join(["n,text", "1,a", '2,"b', 'c"', "", "3,d", ""])
    files.write("t.csv", mark + text)
    assert files.rows() == [{"n": 1, "text": "a"}, {"n": 2, "text": f"b{newline}c"}, {"n": 3, "text": "d"}]


def test_an_empty_line_of_a_single_column_is_a_null(files):
    files.write("t.csv", "n\n1\n\n2\n")
    assert files.rows() == [{"n": 1}, {"n": None}, {"n": 2}]


def test_other_ways_to_write_csv(files):
    files.write("t.csv", "1|'a|''b'|\"\n")
    assert files.rows(csv={"delimiter": "|", "quote": "'", "header": False}) == [{"f0": 1, "f1": "a|'b", "f2": '"'}]
    files.cursors = {}
    assert files.rows(csv={"delimiter": "|", "quote": None, "header": ["a", "b", "c", "d"]}) == [
        {"a": 1, "b": "'a", "c": "''b'", "d": '"'}
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "shift_jis"])
def test_other_encodings(files, encoding):
    text = "n,text\n1,ソ\n2,x\n" if encoding == "shift_jis" else "n,text\n1,é\n2,x\n"
    files.write("t.csv", text.encode(encoding))
    rows = files.rows(csv={"encoding": encoding})
    assert rows == [{"n": 1, "text": text[9]}, {"n": 2, "text": "x"}]
    with (files.path / "t.csv").open("ab") as file:
        file.write("3,y\n".encode(encoding.replace("utf-16", "utf-16-le").replace("-le-le", "-le")))
    assert files.rows(csv={"encoding": encoding}) == [{"n": 3, "text": "y"}]


def test_bytes_that_do_not_fit_the_encoding_name_the_line(files):
    files.write("t.csv", b"n,text\n1,a\n2,\xff\n")
    with pytest.raises(TaskError, match=r"t\.csv:3: .*UTF8"):
        files.rows()
    files.write("t.csv", b"n,text\n1,a\n2,\x81\n")
    with pytest.raises(TaskError, match=r"t\.csv:3: .* the file is not in cp1252"):
        files.rows(csv={"encoding": "cp1252"})


def test_ragged_and_unclosed_records_name_the_line(files):
    files.write("t.csv", 'a,b\n1,"x\ny"\n2,3,4\n5,6\n')
    with pytest.raises(TaskError, match=r"t\.csv:4: Expected 2 columns, got 3"):
        files.rows()
    files.write("t.csv", 'a,b\n1,2\n3,"x\n4,5\n')
    assert files.rows(after=dt.timedelta(0)) == [{"a": 1, "b": 2}]
    with pytest.raises(TaskError, match=r"t\.csv:3: a quote is open"):
        files.rows()


def test_headers(files):
    files.write("t.csv", "a,a\n1,2\n")
    with pytest.raises(TaskError, match=r"t\.csv:1: the header has column 'a' twice"):
        files.table()
    files.write("t.csv", ',"b ""x"",\ny"\n1,2\n')
    assert files.rows() == [{"f0": 1, 'b "x",\ny': 2}]


def test_a_header_that_only_an_unsampled_file_has_wrong_names_the_file(files, monkeypatch):
    monkeypatch.setattr(files_schema, "_FILES_MAX", 2)
    for name, content in (("a", "n\n1\n"), ("b", "n,n\n2,2\n"), ("c", "n\n3\n")):
        files.write(f"t/{name}.csv", content)
    with pytest.raises(TaskError, match=r"t/b\.csv:1: the header has column 'n' twice"):
        files.rows()
    assert list(files.cursors["t"]["files"]) == ["t/a.csv"]


def test_a_record_or_a_header_without_end_is_an_error_and_not_read_into_memory(files, monkeypatch):
    monkeypatch.setattr(files_reading, "RECORD_BYTES_MAX", 100_000)
    files.write("t.csv", 'n,text\n1,a\n2,"' + "x,y\n" * 200_000)
    with pytest.raises(TaskError, match=r"t\.csv:3: a record of more than .* or an open quote"):
        files.rows(bytes_max=1)
    files.write("t.csv", '"' + "x,y\n" * 400_000)
    with pytest.raises(TaskError, match=r"t\.csv:1: no header in the first MiB"):
        files.rows()
    files.write("u.csv", "n\n1\n")
    (files.path / "t.csv").rename(files.path / "u2.csv")
    with pytest.raises(TaskError, match=r"u2\.csv:1: no header in the first MiB"):
        files.rows(table="t")


def test_a_table_without_rows_waits_for_its_types(files, caplog):
    files.write("t.csv", "a,b\n")
    with pytest.raises(UsageError, match="have no rows yet"):
        files.source().tables()
    assert files.rows(types={"a": "int64", "b": "string"}) == []
    files.append("t.csv", "1,x\n")
    assert files.rows() == [{"a": 1, "b": "x"}]
    files.write("u.csv", "")
    assert [table.name for table in files.source().tables()] == ["t"]


@given(st.lists(st.lists(st.text(st.sampled_from('",\r\nab'), max_size=4), min_size=2, max_size=2), max_size=4))
def test_records_are_cut_only_where_they_end(values):
    """Whatever is quoted, any cut leaves whole records before it, and nothing complete behind it."""
    records = [",".join('"' + value.replace('"', '""') + '"' for value in row) + "\n" for row in values]
    lines = CSVLines(CSVSettings(), {})
    lines.begin(b"a,b\n", final=True)
    data = "".join(records).encode()
    ends = [len("".join(records[:count])) for count in range(len(records) + 1)]
    assert lines.cut(data) == len(data)
    for length in range(len(data)):
        assert lines.cut(data[:length]) == max(end for end in ends if end <= length)
    schema = pa.schema({"a": pa.string(), "b": pa.string()})
    assert [list(row.values()) for row in lines.parse(data, schema).to_pylist()] == values


NUMBERS = ["-12345678901234567890.5", "0.000000000000000001", "1." + "0" * 60, "1e3", " 7 "]


@pytest.mark.parametrize(
    "number", ["1" + "0" * 30, "9" * 30, "1e30", "0." + "0" * 40 + "1", "0.1234567890123456789", "x"]
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "jsonl text", "hive"])
def test_a_number_that_a_declared_decimal_has_no_place_for_fails(files, form, number):
    """Arrow makes another number of most of them, without an error."""
    text = {
        "csv": f"n,d\n1,{number}\n",
        "jsonl": f'{{"n":1,"d":{number}}}\n',
        "jsonl text": f'{{"n":1,"d":"{number}"}}\n',
    }
    files.write(f"d={number}/1.jsonl" if form == "hive" else f"1.{form.split()[0]}", text.get(form, '{"n":1}\n'))
    with pytest.raises(TaskError) as caught:
        files.rows(table="t", types={"d": "decimal128(38, 18)"})
    assert "1" in caught.value.message


@pytest.mark.parametrize("form", ["csv", "jsonl", "jsonl text"])
def test_numbers_that_a_declared_decimal_has_a_place_for_are_these_numbers(files, form):
    numbers = NUMBERS if form != "jsonl" else NUMBERS[:4]
    lines = {"csv": "d\n", "jsonl": "", "jsonl text": ""}[form]
    quote = '"' * (form == "jsonl text")
    lines += "".join(f"{one}\n" if form == "csv" else f'{{"d":{quote}{one}{quote}}}\n' for one in numbers)
    files.write(f"t.{form.split()[0]}", lines)
    rows = files.rows(types={"d": "decimal128(38, 18)"})
    assert [row["d"] for row in rows] == [Decimal(one.strip()) for one in numbers]
