from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strandline.plugins import load_plugin
from strandline.source import Source
from strandline.testing.source import SourceConformance

ROWS = [{"n": n, "text": f'"{n}",\n{n % 3}', "f": n / 4, "none": None if n % 2 else "x"} for n in range(40)]


def csv(rows: list[dict]) -> bytes:
    def value(of: object) -> str:
        return "" if of is None else '"' + of.replace('"', '""') + '"' if isinstance(of, str) else str(of)

    lines = [",".join(rows[0]), *(",".join(value(of) for of in row.values()) for row in rows)]
    return ("\r\n".join(lines) + "\r\n").encode()


def parquet(rows: list[dict]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=7)
    return sink.getvalue().to_pybytes()


def json_lines(rows: list[dict]) -> bytes:
    return b"".join(
        b'{"n":%d,"s":{"f":%r,"l":[1,2]},"text":"%d\\n","at":"2024-01-01T10:00:%02dZ"}\n\n'
        % (row["n"], row["f"], row["n"], row["n"])
        for row in rows
    )


def packed(codec: str, content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


class FilesConformance(SourceConformance):
    """One table of several files in directories, and one of a single file."""

    ending: str

    def content(self, rows: list[dict]) -> bytes:
        raise NotImplementedError

    @pytest.fixture
    def make_source(self, tmp_path: Path) -> Callable[[], Source]:
        for name, rows in (("one/a/1", ROWS[:20]), ("one/2", ROWS[20:27]), ("one/3", ROWS[:2]), ("two", ROWS[27:])):
            path = tmp_path / f"{name}.{self.ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.content(rows))
        cls = load_plugin("source", "files")
        return lambda: cls(cls.Spec(path=str(tmp_path), file_column="file"))


class TestCSVFiles(FilesConformance):
    ending = "csv"

    def content(self, rows: list[dict]) -> bytes:
        return csv(rows)


class TestJSONLinesFiles(FilesConformance):
    ending = "jsonl"

    def content(self, rows: list[dict]) -> bytes:
        return json_lines(rows)


class TestParquetFiles(FilesConformance):
    ending = "parquet"

    def content(self, rows: list[dict]) -> bytes:
        return parquet(rows)


class TestGzipFiles(FilesConformance):
    ending = "csv.gz"

    def content(self, rows: list[dict]) -> bytes:
        return packed("gzip", csv(rows[: len(rows) // 2])) + packed(
            "gzip", csv(rows)[len(csv(rows[: len(rows) // 2])) :]
        )


class TestZstdFiles(FilesConformance):
    ending = "jsonl.zst"

    def content(self, rows: list[dict]) -> bytes:
        return packed("zstd", json_lines(rows))
