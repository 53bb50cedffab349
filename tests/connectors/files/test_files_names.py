"""What names of files and directories mean: columns, tables, and an order."""

import datetime as dt
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakes import lake, lineage, sale
from synced_files import SyncedFiles

from strandline.connectors.files import schema as files_schema
from strandline.errors import RetryableError, TaskError


@pytest.fixture
def files(tmp_path):
    return SyncedFiles(tmp_path / "in")


def types(table):
    return {field.name: str(field.type) for field in table.schema}


# Directories that are parts of a table


@pytest.mark.parametrize("top", ["sales/", ""])
def test_names_of_directories_are_columns(files, top):
    files.write(f"{top}year=2023/month=12/a.csv", "id\n1\n")
    files.write(f"{top}year=2024/month=01/a.csv", "id\n2\n")
    files.write(f"{top}year=2024/month=01/b.csv", "id\n3\n")
    name = "sales" if top else "in"
    assert files.sync() == {
        name: [
            {"id": 1, "year": 2023, "month": 12},
            {"id": 2, "year": 2024, "month": 1},
            {"id": 3, "year": 2024, "month": 1},
        ]
    }


@pytest.mark.parametrize(
    ("values", "type_", "read"),
    [
        (["1", "-20", "0"], "int64", [1, -20, 0]),
        (["01", "12"], "int64", [1, 12]),
        (["007", "123"], "string", ["007", "123"]),
        (["9223372036854775808"], "string", ["9223372036854775808"]),
        (["2024-02-29", "2023-01-01"], "date32[day]", [dt.date(2024, 2, 29), dt.date(2023, 1, 1)]),
        (["2024-02-30"], "string", ["2024-02-30"]),
        (["1", "x"], "string", ["1", "x"]),
        (["1", "__HIVE_DEFAULT_PARTITION__"], "int64", [1, None]),
        (["a%2Fb", "c%3Dd", "gr\u00f6\u00dfe"], "string", ["a/b", "c=d", "gr\u00f6\u00dfe"]),
        (["1.5"], "string", ["1.5"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_such_columns_have_the_type_of_all_their_values(files, values, type_, read, suffix):
    content = {"csv": b"id\n1\n", "jsonl": b'{"id":1}\n', "parquet": parquet()}[suffix]
    for value in values:
        files.write(f"t/p={value}/a.{suffix}", content)
    assert types(files.table())["p"] == type_
    assert sorted(map(str, (row["p"] for row in files.rows()))) == sorted(map(str, read))


def parquet():
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [1]}), stream)
    return stream.getvalue().to_pybytes()


def test_such_a_column_may_have_a_declared_type(files):
    files.write("t/zip=01234/a.csv", "id\n1\n")
    files.write("t/zip=99999/a.csv", "id\n2\n")
    assert [row["zip"] for row in files.rows(types={"zip": "int32"})] == [1234, 99999]
    files.write("t/zip=x/a.csv", "id\n2\n")
    with pytest.raises(TaskError, match=r"t/zip=x/a\.csv: zip=x is no int32"):
        files.rows(types={"zip": "int32"})


def test_a_column_of_the_file_comes_before_one_of_its_name(files):
    files.write("t/year=2024/a.csv", "id,year\n1,7\n")
    files.write("t/year=2025/a.csv", "id\n2\n")
    assert files.rows(file_column="file") == [
        {"id": 1, "year": 7, "file": "t/year=2024/a.csv"},
        {"id": 2, "year": 2025, "file": "t/year=2025/a.csv"},
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_without_a_column_of_its_directories_name_has_that_of_the_directory(files, suffix):
    content = {"jsonl": b'{"id":1}\n', "parquet": parquet()}[suffix]
    files.write(f"t/year=2024/a.{suffix}", content)
    files.write("t/year=2025/b.jsonl" if suffix == "jsonl" else "t/year=2025/b.parquet", content)
    if suffix == "jsonl":
        files.write("t/year=2026/c.jsonl", '{"id":3,"year":7}\n')
    assert [row["year"] for row in files.rows()] == [2024, 2025, 7][: 3 if suffix == "jsonl" else 2]


def test_a_column_that_only_a_later_record_has_within_is_refused_by_name(files, monkeypatch):
    monkeypatch.setattr(files_schema, "_SAMPLE_BYTES", 0)
    files.write("t/year=2024/a.jsonl", '{"id":1}\n' * 9000 + '{"id":2,"year":5}\n')
    with pytest.raises(
        TaskError, match="column 'year' is in some files of the table, and stands in the names of others"
    ):
        files.rows()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_equal_files_of_two_directories_are_different_rows(files, suffix):
    content = {"csv": b"id\n1\n", "parquet": parquet()}[suffix]
    path = files.write(f"t/day=2024-01-01/part-0.{suffix}", content)
    assert files.rows() == [{"id": 1, "day": dt.date(2024, 1, 1)}]
    path.unlink()
    files.write(f"t/day=2024-01-02/part-0.{suffix}", content)
    assert files.rows() == [{"id": 1, "day": dt.date(2024, 1, 2)}]
    files.write("t/day=2024-01-02/part-1.csv" if suffix == "csv" else "t/day=2024-01-02/part-1.parquet", b"")
    (files.path / f"t/day=2024-01-02/part-0.{suffix}").rename(files.path / f"t/day=2024-01-02/renamed.{suffix}")
    assert files.rows() == []


def test_as_a_key_a_number_that_begins_with_0_is_not_another(files):
    files.write("t/code=01/p.csv", "id\n1\n")
    files.write("t/code=1/p.csv", "id\n1\n")
    assert sorted(row["code"] for row in files.rows(primary_key=["code", "id"])) == ["01", "1"]


def test_bytes_of_a_directory_that_are_no_text_stay_apart(files):
    for byte in ("\udcff", "\udcfe", "%FF"):
        files.write(f"t/x={byte}/a.csv", "id\n1\n")
    values = [row["x"] for row in files.rows()]
    assert len(set(values)) == 3
    assert all(value.isprintable() for value in values)


def test_a_file_beside_such_directories_has_nulls(files):
    files.write("t/a.csv", "id\n1\n")
    files.write("t/year=2024/a.csv", "id\n2\n")
    assert files.rows(file_column="file") == [
        {"id": 1, "year": None, "file": "t/a.csv"},
        {"id": 2, "year": 2024, "file": "t/year=2024/a.csv"},
    ]


def test_a_column_that_appears_while_a_sync_begins_is_not_left_out(files):
    files.write("t/a=1/1.csv", "id\n1\n")
    source = files.source()
    (task,) = source.tasks(source.tables())
    files.write("t/a=1/b=2/2.csv", "id\n2\n")
    with pytest.raises(RetryableError, match="directories b=… have appeared"):
        list(source.read(task, files.reading(None)))
    assert files.rows() == [{"id": 1, "a": 1, "b": None}, {"id": 2, "a": 1, "b": 2}]


def test_a_new_column_of_a_file_leaves_those_of_directories(files):
    files.write("t/year=2024/1.jsonl", '{"id":1}\n' * 9000 + '{"id":2,"k":5}\n')
    rows = files.rows(rows_max=100)
    assert rows[-1] == {"id": 2, "k": 5, "year": 2024}
    assert {row["year"] for row in rows} == {2024}


# Order


def test_files_are_read_in_the_order_of_the_numbers_in_their_names(files):
    for name in ("2024-10", "2024-9", "2024-09b", "x2y10", "x2y9", "x10y1"):
        files.write(f"t/{name}.csv", f"name\n{name}\n")
    read = [row["name"] for row in files.rows()]
    assert read == ["2024-9", "2024-09b", "2024-10", "x2y9", "x2y10", "x10y1"]


def test_files_may_be_read_in_the_order_of_their_times(files):
    for at, name in enumerate(("c", "a", "b")):
        os.utime(files.write(f"t/{name}.csv", f"name\n{name}\n"), (1_700_000_000 + at,) * 2)
    assert [row["name"] for row in files.rows(order="modified")] == ["c", "a", "b"]


# Letters


def test_the_locale_does_not_change_the_name_of_a_table(files):
    files.write("gr\u00f6\u00dfe.csv", "id\n1\n")
    files.write("bad.csv", "id\n1\n").rename(files.path / "caf\udce9.csv")
    code = (
        "import sys; from strandline.connectors.files.local import *\n"
        "print(ascii(sorted((file.key, file.table) for file in LocalPlace.of(sys.argv[1]).find())))"
    )
    said = {
        subprocess.run(
            [sys.executable, *utf_8, "-c", code, str(files.path)],
            env={"PYTHONCOERCECLOCALE": "0", **locale},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for locale in ({}, {"LC_ALL": "POSIX"}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "en_US.ISO-8859-1"})
        for utf_8 in ([], ["-X", "utf8=0"])
    }
    assert said == {ascii([("caf%E9.csv", "caf%E9"), ("gr\u00f6\u00dfe.csv", "gr\u00f6\u00dfe")]) + "\n"}


# Our own output


def test_what_strandline_wrote_in_parts_is_read_whole(tmp_path):
    one = lineage(lake(tmp_path / "lake", partition_by=["country"]))
    for at, country in enumerate(["DE", "a/b=c", None, "gr\u00f6\u00dfe %"]):
        one.write(sale(one, at, country=country))
    read = sorted(SyncedFiles(tmp_path / "lake").rows(), key=lambda row: row["id"])
    assert [(row["id"], row["country"]) for row in read] == [
        (0, "DE"),
        (1, "a/b=c"),
        (2, None),
        (3, "gr\u00f6\u00dfe %"),
    ]
