"""A file with bytes in it is never "no rows yet": its table fails, with file, line and a remedy, and the others go on."""

import gzip
import json
import os
import re

import duckdb
import pyarrow as pa
import pytest

GOOD = b"id\n1\n"


@pytest.fixture
def directory(tmp_path, command, monkeypatch):
    """Files, all of them quiet, beside a good one; a sync; and what is then stored."""
    monkeypatch.chdir(tmp_path)
    source = {"name": "s", "path": "files", "tables": ["*"], "destinations": ["d"], "spec": {"path": "in"}}
    warehouse = {"name": "d", "path": "duckdb", "write_mode": "append", "spec": {"path": "d.duckdb"}}
    documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": warehouse}]
    (tmp_path / "strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))
    (tmp_path / "in").mkdir()

    def run(code, **files):
        for name, content in {"good.csv": GOOD, **files}.items():
            path = tmp_path / "in" / name
            path.write_bytes(content)
            os.utime(path, (1_700_000_000, 1_700_000_000))
        return command("sync", code=code)

    return run


def stored(table):
    with duckdb.connect("d.duckdb", read_only=True) as warehouse:
        return warehouse.execute(
            f"SELECT COLUMNS(lambda c: NOT starts_with(c, '_cq_')) FROM {table} ORDER BY id"
        ).fetchall()


UNREAD = {
    "bad.jsonl": (b'{"id":1,"a":"caf\xe9"}\n', ":1: ", "UTF-8"),
    "utf16_without_a_mark.jsonl": ('{"id":1}\n'.encode("utf-16-le"), ":1: ", "fix the line"),
    "utf16_without_a_mark_too.csv": (
        "id,n\n1,2\n".encode("utf-16-le"),
        ":1: the header has bytes of 0",
        "csv.encoding",
    ),
    "array_of_numbers.json": (b"[1, 2]\n", ":1: not an object", "records"),
    "cut_array.json": (b'[{"id": 1},\n', ":2: the value that begins here does not end", "complete the file"),
    "cut_object.json": (b'{\n "id": 1\n', ":1: the value that begins here does not end", "complete the file"),
    "repeated_key.jsonl": (b'{"a":1,"a":2}\n{"a":3}\n', ":1: ", "fix the line"),
    "mixed_list.jsonl": (b'{"a":[1,"x"]}\n', ":1: ", "types: {a: string}"),
    "behind_an_empty_line.jsonl": (b"\nnull\n", ":2: not an object", "fix the line"),
    "no_last_newline.jsonl": (b'{"id":', ":1: ", "fix the line"),
    "open_quote.csv": (b'id\n1\n"2\n3\n', ":3: a quote is open", "close the quote"),
    "open_quote_in_header.csv": (b'id,"n\n1,2\n', ":1: a quote is open", "header"),
    "preamble.csv": (b"made by x\n\nid,n\n1,2\n", ":3: ", "skip, if lines stand before the header"),
    "comment.csv": (b"id,n\n# made by x\n1,2\n", ":2: ", "comment, if lines are none"),
    "unnamed.csv": (b",f0\n1,2\n", ":1: column 1 has no name", "csv.header"),
    "lines_then_a_document.jsonl": (b'{"id":1} \n{\n"id":2}\n', ":2: ", "no blanks around them"),
    "repeated_column.csv": (b"n,n\n1,2\n", ":1: the header has column", "fix the header"),
    "cut.csv.gz": (gzip.compress(GOOD)[:8], ": damaged", "complete file"),
    "none.parquet": (b"PAR1xxxx", ": damaged", "complete file"),
}


def test_a_file_that_cannot_be_read_fails_its_table_at_every_sync_and_no_other(directory):
    for _ in range(2):
        said = directory(1, **{name: content for name, (content, _, _) in UNREAD.items()})
        for name, (_, message, remedy) in UNREAD.items():
            error = re.search(r"error: \w+: " + re.escape(f"{name}{message}") + r".*(\n.*)?", said.text)
            assert error, f"{name}{message} is not in\n{said.text}"
            assert remedy in error[0], said.text
    assert stored("good") == [(1,)]


READ = {
    "array": ("a.json", b'[{"id": 1}, {"id": 2}]\n'),
    "pretty array": ("a.json", b'[\n  {"id": 1},\n  {"id": 2}\n]'),
    "pretty objects": ("a.json", b'{\n  "id": 1\n}\n{\n  "id": 2\n}\n'),
    "utf-16": ("a.jsonl", '{"id":1}\n{"id":2}\n'.encode("utf-16")),
    "utf-32": ("a.csv", "id\n1\n2\n".encode("utf-32")),
    "gzip": ("a.csv", gzip.compress(b"id\n1\n2\n")),
    "zstd": ("a.jsonl", pa.compress(b'{"id":1}\n{"id":2}\n', "zstd", asbytes=True)),
}


@pytest.mark.parametrize(("name", "content"), READ.values(), ids=[*READ])
def test_a_file_is_read_as_what_it_holds(directory, name, content):
    directory(0, **{name: content})
    directory(0)
    assert stored("a") == [(1,), (2,)]


def test_a_first_line_longer_than_the_sample_is_read(directory):
    long = "x" * (9 << 20)
    directory(0, **{"a.jsonl": f'{{"id":1,"n":"{long}"}}\n{{"id":2}}\n'.encode()})
    assert stored("a") == [(1, long), (2, None)]


def test_a_table_whose_files_disagree_on_the_decimal_mark_fails_by_name_until_it_is_declared(
    directory, tmp_path, command
):
    (tmp_path / "in/t").mkdir()
    files = {"t/1.csv": b"id;n\n1;1,5\n", "t/2.csv": b"id;n\n2;1.234\n"}
    said = directory(1, **files).text
    assert re.search(
        r"error: t: column 'n' has a comma .* in t/1\.csv, and a point in t/2\.csv.*\n.*csv: \{decimal", said
    )
    assert stored("good") == [(1,)]
    spec = tmp_path / "strandline.yml"
    spec.write_text(spec.read_text().replace('"path": "in"', '"path": "in", "csv": {"decimal": ","}'))
    directory(0)
    assert stored("t") == [(1, "1,5"), (2, "1.234")]


def test_plan_says_the_encoding_that_a_byte_order_mark_decides(directory, command):
    directory(0, **{"t.csv": "id;n\n1;2\n".encode("utf-16")})
    assert "UTF-16, by the byte order mark" in command("plan", "-v").text
