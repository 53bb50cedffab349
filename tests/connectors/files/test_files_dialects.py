"""CSV as other programs write it: what stands between values, encodings, headers that come again, digits that must come back."""

import gzip

import pyarrow as pa
import pytest
from synced_files import SyncedFiles

from strandline.connectors.files import reading as files_reading
from strandline.connectors.files import schema as files_schema
from strandline.errors import TaskError
from strandline.message import Insert


@pytest.fixture
def files(tmp_path):
    return SyncedFiles(tmp_path / "in")


# What stands between values


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["n", "rn", "r"])
def test_what_stands_between_values_is_found(files, mark, end):
    lines = [f"id{mark}text{mark}n", f'1{mark}"a, b; c\td|e"{mark}1.5', f"2{mark}x{mark}2", ""]
    files.write("t.csv", end.join(lines))
    assert files.rows() == [{"id": 1, "text": "a, b; c\td|e", "n": 1.5}, {"id": 2, "text": "x", "n": 2.0}]


def test_each_file_of_a_table_may_have_its_own(files):
    files.write("t/1.csv", "id,s\n1,a\n")
    files.write("t/2.csv", "id;s\n2;b\n")
    files.write("t/3.tsv", "id\ts\n3\tc\n")
    assert files.rows() == [{"id": 1, "s": "a"}, {"id": 2, "s": "b"}, {"id": 3, "s": "c"}]
    assert files.table().access == "CSV with a tab or a comma or a semicolon between values"


@pytest.mark.parametrize("first", ["sep=;\r\n", "SEP=;\n", '"sep=;"\r\n', "\ufeffsep=;\n"])
def test_the_line_that_excel_writes_says_it(files, first):
    files.write("t.csv", f"{first}a,b;n\n1,5;2\n")
    assert files.rows() == [{"a,b": 1.5, "n": 2}]


def test_the_records_say_it_where_the_header_has_several(files):
    files.write("t.csv", "name, first;city|town\nx;y\nz;w\n")
    assert files.rows() == [{"name, first": "x", "city|town": "y"}, {"name, first": "z", "city|town": "w"}]


def test_what_was_sure_with_few_records_stays_so_when_the_file_grows(files):
    files.write("t.csv", "a;b,c\n1;2\n")
    assert files.rows() == [{"a": 1, "b,c": 2}]
    files.append("t.csv", "x,y;z;w\n")
    with pytest.raises(TaskError, match=r"t\.csv:3: "):
        files.rows()


def test_where_it_is_not_sure_the_table_fails_and_says_how_to_declare_it(files):
    files.write("t.csv", "a;b,c\n1;2,3\n")
    with pytest.raises(
        TaskError, match=r"t\.csv:1: what stands between its values may be a comma or a semicolon"
    ) as raised:
        files.tables()
    assert "csv.delimiter" in raised.value.hint
    assert files.rows(csv={"delimiter": ";"}) == [{"a": 1, "b,c": 2.3}]


def test_a_declared_one_is_not_looked_for(files):
    files.write("t.csv", "a;b\n1;2\n")
    assert files.rows(csv={"delimiter": ","}) == [{"a;b": "1;2"}]


def test_a_file_without_header_is_looked_at_too(files):
    files.write("t.csv", "1;a\n2;b\n")
    assert files.rows(csv={"header": ["n", "s"]}) == [{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["1,5", "-2", "0,25"], [1.5, -2.0, 0.25]),
        (["1,234", "5,678"], ["1,234", "5,678"]),
        (["1,5", "2.5"], ["1,5", "2.5"]),
        (["1,5", "x"], ["1,5", "x"]),
        (["01,5"], ["01,5"]),
        (["1.5", "2"], [1.5, 2.0]),
        (["0,1234567890123456789"], ["0,1234567890123456789"]),
    ],
)
def test_a_comma_in_a_fraction_is_one_where_it_is_sure(files, values, read):
    files.write("t.csv", "".join(["id;n\n", *(f"{at};{value}\n" for at, value in enumerate(values))]))
    assert [row["n"] for row in files.rows()] == read


@pytest.mark.parametrize("mark", ["\t", "|"])
def test_a_comma_is_no_point_where_others_stand_between_values(files, mark):
    files.write("t.tsv", f"id{mark}pair\n1{mark}3,10\n2{mark}3,1\n")
    assert [row["pair"] for row in files.rows()] == ["3,10", "3,1"]


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.json"])
def test_a_byte_order_mark_says_the_encoding(files, encoding, name):
    text = {"c": "id;s\n1;grün 🌊\n", "j": '{"id":1,"s":"grün 🌊"}\n'}[name[2]]
    text = f"[{text}]" if name == "t.json" else text
    mark = "\ufeff" if encoding[-2:] in {"le", "be"} else ""
    content = (mark + text).encode(encoding)
    files.write(name, gzip.compress(content) if name.endswith("gz") else content)
    assert files.rows() == [{"id": 1, "s": "grün 🌊"}]
    assert files.rows() == []


def test_zero_bytes_in_a_header_are_no_text(files):
    files.write("t.csv", "id,s\n1,a\n".encode("utf-16-le"))
    with pytest.raises(TaskError, match=r"t\.csv:1: the header has bytes of 0: it is UTF-16"):
        files.tables()


# Headers


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_that_comes_again_is_no_row(files, mark):
    files.write("t.csv", f'id,s\na,"x\nid,s"\n{mark}id,s\nb,y\nid,s\n')
    assert files.rows() == [{"id": "a", "s": "x\nid,s"}, {"id": "b", "s": "y"}]


def test_the_line_of_excel_that_comes_again_is_no_row(files):
    one = "sep=;\na;b\nx;y\n"
    files.write("t.csv", one * 2)
    assert files.rows() == [{"a": "x", "b": "y"}] * 2


def test_a_word_that_is_also_the_header_of_a_single_column_is_a_row(files):
    files.write("t.csv", "word\nfoo\nword\n")
    assert files.rows() == [{"word": "foo"}, {"word": "word"}]


@pytest.mark.parametrize("sampled", [True, False])
def test_a_file_without_the_others_header_loses_no_row(files, monkeypatch, sampled):
    if not sampled:
        monkeypatch.setattr(files_schema, "_FILES_MAX", 2)
    files.write("t/1.csv", "id,name\n1,a\n")
    files.write("t/2.csv", "2,b\n3,c\n")
    files.write("t/3.csv", "id,name\n4,d\n")
    with pytest.raises(TaskError, match=r"t/2\.csv.*: 2, b: .*this may be no header") as raised:
        files.rows()
    assert "csv.header" in raised.value.hint


# Digits


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("2024-01-02 03:04:05.1230000", "timestamp[us]", 1_704_164_645_123_000),
        ("2024-01-02T03:04:05.123456000", "timestamp[us]", 1_704_164_645_123_456),
        ("2024-01-02T03:04:05.1234560Z", "timestamp[us, tz=UTC]", 1_704_164_645_123_456),
        ("2024-01-02T03:04:05.1234567", "timestamp[ns]", 1_704_164_645_123_456_700),
    ],
)
def test_digits_of_a_second_beyond_microseconds_may_be_zeros(files, text, type_, value):
    files.write("t.csv", f"id,at\n1,{text}\n2,{text}\n")
    assert str(files.table().schema.field("at").type) == type_
    (batch,) = [one.batch for _, one in files.read() if isinstance(one, Insert)]
    assert batch.column("at").cast(pa.int64()).to_pylist() == [value] * 2


@pytest.mark.parametrize(
    "texts",
    [
        ("1630293344.17526762721", "1630293344.17526762729"),
        ("0.1234567890123456789", "1"),
        ("1e400", "1"),
        ("123456789012345678901234567890", "1.5"),
        ("1.5", "-"),
        ("1e-99999999999999999999", "1.5"),
    ],
)
def test_numbers_whose_digits_would_not_come_back_are_text(files, texts):
    files.write("t.csv", "n,id\n" + "".join(f"{text},1\n" for text in texts))
    assert [row["n"] for row in files.rows()] == list(texts)


@pytest.mark.parametrize(
    "text", ["0.30000000000000004", "1.000000000000000000e+00", "1.7976931348623157e308", "nan", "inf"]
)
def test_numbers_whose_digits_come_back_are_doubles(files, text):
    files.write("t.csv", f"n,id\n{text},1\n0.5,2\n")
    assert str(files.table().schema.field("n").type) == "double"


@pytest.mark.parametrize(
    "keys",
    [
        ("1.1", "1.10", "1.2"),
        ("true", "TRUE", "false"),
        ("0", "-0"),
        ("1e5", "100000.0"),
        ("1630293344.17526762721", "1630293344.17526762729"),
        ("01", "1"),
        ("x", "X"),
        ("1", " 1"),
    ],
)
def test_keys_that_are_written_differently_are_different(files, keys):
    files.write("t.csv", "k,id\n" + "".join(f"{key},1\n" for key in keys))
    assert [row["k"] for row in files.rows(primary_key=["k"])] == list(keys)


def test_whole_numbers_and_days_stay_what_they_are_as_keys(files):
    files.write("t.csv", "n,d\n1,2024-02-29\n2,2024-03-01\n")
    assert [str(field.type) for field in files.table(primary_key=["n", "d"]).schema] == ["int64", "date32[day]"]


# What stands before a fraction


def test_files_that_disagree_on_the_decimal_mark_fail_their_table_and_say_how_to_declare_it(files):
    files.write("t/1.csv", "id;n\n1;1,5\n")
    files.write("t/2.csv", "id;n\n2;1.234\n")
    with pytest.raises(
        TaskError, match=r"column 'n' has a comma before the fraction in t/1\.csv, and a point in t/2"
    ) as e:
        files.rows()
    assert 'csv: {decimal: ","}' in e.value.hint
    assert files.rows(csv={"decimal": ","}) == [{"id": 1, "n": "1,5"}, {"id": 2, "n": "1.234"}]


@pytest.mark.parametrize(
    "other", ["id,n\n2,1.5\n", "id;n\n2;1.5\n", "id\tn\n2\t1.5\n"], ids=["comma", "semicolon", "tab"]
)
def test_whatever_stands_between_the_values_of_the_other_file(files, other):
    files.write("t/1.csv", "id;n\n1;1,5\n")
    files.write("t/2.csv", other)
    with pytest.raises(TaskError, match="which it is, is not sure"):
        files.rows()


@pytest.mark.parametrize(("first", "then"), [("1,5", "1.25"), ("1.25", "1,5")])
@pytest.mark.parametrize("place", ["a file that comes later", "a line that comes later"])
def test_a_mark_that_comes_later_fails_there(files, monkeypatch, first, then, place):
    monkeypatch.setattr(files_schema, "_SAMPLE_BYTES_MIN", 8)
    monkeypatch.setattr(files_schema, "_SAMPLE_BYTES", 8)
    if place == "a line that comes later":
        files.write("t/1.csv", f"id;n\n1;{first}\n" + "2;7\n" * 40_000 + f"3;{then}\n")
        where = r"t/1\.csv:40003: column 'n' \(double\): "
    else:
        monkeypatch.setattr(files_schema, "_FILES_MAX", 2)
        files.write("t/1.csv", f"id;n\n1;{first}\n")
        files.write("t/2.csv", f"id;n\n2;{then}\n")
        files.write("t/3.csv", f"id;n\n1;{first}\n")
        where = r"t/2\.csv:2: column 'n' \(double\): "
    with pytest.raises(
        TaskError, match=where + r"some fractions have a comma, and others a point; `csv\.decimal` says"
    ):
        files.rows()


def test_columns_may_have_marks_of_their_own_and_text_has_none(files):
    files.write("t/1.csv", "id;price;at;s\n1;1,5;48.1;1,5\n")
    files.write("t/2.csv", "id;price;at;s\n2;2,5;9.25;x 1.5\n")
    assert files.rows() == [
        {"id": 1, "price": 1.5, "at": 48.1, "s": "1,5"},
        {"id": 2, "price": 2.5, "at": 9.25, "s": "x 1.5"},
    ]


def test_a_declared_comma_holds_for_every_file_and_a_declared_point_too(files):
    files.write("t.csv", 'id,n,p,d\n1,"1,5",1.5,"2,5"\n2,7,2,"3"\n')
    types = {"d": "decimal128(9, 2)"}
    rows = files.rows(csv={"decimal": ","}, types=types)
    assert [(row["n"], row["p"], str(row["d"])) for row in rows] == [(1.5, "1.5", "2.50"), (7.0, "2", "3.00")]
    files.write("u.csv", "id;n;p\n1;1,5;1.5\n")
    assert files.sync(csv={"decimal": "."}, tables={})["u"] == [{"id": 1, "n": "1,5", "p": 1.5}]


# Lines that are no records


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["n", "rn", "r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "bom"])
def test_lines_before_the_header_are_skipped_where_that_is_declared(files, end, mark):
    files.write("t.csv", mark + end.join(['Report, "of 2024', "", "id,s", "1,a", '2,"b', 'c"', ""]))
    rows = [{"id": 1, "s": "a"}, {"id": 2, "s": f"b{end}c"}]
    assert files.rows(csv={"skip": 2}) == rows
    if end == "\r":
        return  # the last one may be half of another end, so the last line is not settled
    files.append("t.csv", f"3,d{end}4,e{end}")
    assert [row["id"] for row in files.rows(csv={"skip": 2})] == [3, 4]


def test_lines_are_skipped_before_records_without_a_header_too(files):
    files.write("t.csv", "one\ntwo\n1,a\n")
    assert files.rows(csv={"skip": 2, "header": ["id", "s"]}) == [{"id": 1, "s": "a"}]
    files.write("u/t.csv", "one\ntwo\n1,a\n")
    assert files.sync(csv={"skip": 2, "header": False})["u"] == [{"f0": 1, "f1": "a"}]


COMMENTS = '# made by "x, for;y\n#\nid;s\n# in ;"between\n1;a\n2;"b\n# not one"\n3;#c\n#4;d\n # 5;e\n6;f\n# the end'


def test_whole_lines_are_comments_where_that_is_declared(files):
    files.write("t.csv", COMMENTS)
    expected = [("1", "a"), ("2", "b\n# not one"), ("3", "#c"), (" # 5", "e"), ("6", "f")]
    assert [tuple(row.values()) for row in files.rows(csv={"comment": "#"})] == expected
    assert files.rows(csv={"comment": "#"}) == []
    files.append("t.csv", " or not\n7;g\n")
    assert files.rows(csv={"comment": "#"}) == [{"id": "7", "s": "g"}]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_comments_are_none_in_whatever_blocks_a_file_is_read(files, monkeypatch, size):
    monkeypatch.setattr(files_reading, "_BLOCK_BYTES_MIN", size)
    monkeypatch.setattr(files_reading, "_BLOCK_BYTES_MAX", size)
    files.write("t.csv", COMMENTS)
    assert [row["id"] for row in files.rows(csv={"comment": "#"}, rows_max=1)] == ["1", "2", "3", " # 5", "6"]


def test_errors_name_the_line_of_the_file_whatever_was_left_out(files):
    files.write("t.csv", "preamble\n# a\nid,n\n# b\n1,2\n# c\n2,3,4\n")
    with pytest.raises(TaskError, match=r"t\.csv:7: "):
        files.rows(csv={"skip": 1, "comment": "#"})


@pytest.mark.parametrize("text", ["# a\n", '# a\n# "b\n', "# a", "one\n", "one\ntwo", "one\n\n#"])
def test_a_file_with_nothing_but_such_lines_has_no_header_yet(files, text):
    files.write("t/1.csv", text)
    skip = 0 if text.startswith("#") else 2
    files.write("t/2.csv", "x\n" * skip + "id\n1\n")
    assert files.rows(csv={"comment": "#", "skip": skip}) == [{"id": 1}]


def test_a_refusal_names_the_settings(files):
    files.write("t.csv", "# made by x\nid,s\n1,a\n")
    with pytest.raises(TaskError, match=r"t\.csv:2: ") as error:
        files.rows()
    assert "skip, if lines stand before the header; comment, if lines are none" in error.value.hint
    files.write("t.csv", "# a; b, c, d\nid,s\n1,a\n")
    with pytest.raises(TaskError, match=r"t\.csv:1: ") as error:
        files.rows()
    assert "`csv.skip` and `csv.comment`" in error.value.hint


def test_a_column_without_a_name_is_not_called_as_another_one(files):
    files.write("t.csv", ",f0\n1,2\n")
    with pytest.raises(
        TaskError, match=r"t\.csv:1: column 1 has no name, so it would be 'f0', as another column is called"
    ):
        files.rows()
    assert files.rows(csv={"header": ["n", "f0"], "skip": 1}) == [{"n": 1, "f0": 2}]


# What a byte order mark says


@pytest.mark.parametrize(
    ("encoding", "declared", "says"),
    [
        ("utf-16", "utf-8", "; UTF-16, by the byte order mark"),
        ("utf-32", "latin-1", "; UTF-32, by the byte order mark"),
        ("utf-8-sig", "latin-1", "; UTF-8, by the byte order mark"),
        ("utf-8-sig", "utf-8", ""),
        ("utf-16", "utf-16", ""),
        ("latin-1", "latin-1", ""),
    ],
)
def test_the_encoding_is_said_where_a_byte_order_mark_decides_it(files, encoding, declared, says):
    files.write("t.csv", "id;s\n1;é\n".encode(encoding))
    assert files.rows(csv={"encoding": declared}) == [{"id": 1, "s": "é"}]
    assert files.table(csv={"encoding": declared}).access == "CSV with a semicolon between values" + says


def test_it_is_said_of_how_many_files_and_of_json_too(files):
    files.write("t/1.csv", "id\n1\n".encode("utf-16"))
    files.write("t/2.csv", "id\n2\n")
    assert files.table().access.endswith("; UTF-16, by the byte order mark of 1 of 2 files")
    files.write("u.jsonl", '{"a": 1}\n'.encode("utf-16"))
    assert files.tables()[1].access == "UTF-16, by the byte order mark"
