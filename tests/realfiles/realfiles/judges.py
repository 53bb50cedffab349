"""What stands in a file, by Python's own readers, and the first cell in which what was read is something else."""

import csv
import gzip
import io
import json
import re
from decimal import Decimal
from typing import NamedTuple

import pyarrow as pa

from realfiles.values import in_order, same, same_as_json, same_as_text

_BETWEEN = ",;\t|"
_LOOKED_AT = 50
_SPACE = re.compile(r"\s*")
csv.field_size_limit(1 << 30)


class Difference(NamedTuple):
    row: int
    """From 0; -1 is the header."""
    column: str
    said: object
    """By the reader."""
    written: object
    """In the file."""


class Text(NamedTuple):
    """A CSV file as Python reads it."""

    names: list
    rows: list
    delimiter: str


def unpacked(name, content):
    """The content without compression."""
    if content[:2] == b"\x1f\x8b":
        return gzip.decompress(content)
    return pa.input_stream(pa.py_buffer(content), compression="zstd").read() if name.endswith(".zst") else content


def decoded(content, encoding="utf-8"):
    """The text, in the encoding that a byte order mark says."""
    for mark, name in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if content.startswith(mark):
            return content.decode(name)
    return content.decode(encoding)


def _read(text, delimiter):
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def _head(text, delimiter):
    return [row for row, _ in zip(_read(text, delimiter), range(_LOOKED_AT), strict=False) if row]


def _rank(rows):
    """How many of the first records are as wide as the header, and how wide that is; nothing for a single column."""
    width = len(rows[0]) if rows else 0
    return (sum(len(row) == width for row in rows) / len(rows), width) if width > 1 else (0, 0)


def text_of(content, csv_settings):
    """The header and cells of CSV, by the delimiter that makes the most regular records."""
    text = decoded(content, csv_settings.get("encoding", "utf-8"))
    first = text.partition("\n")[0].strip().strip('"').lower()
    said = csv_settings.get("delimiter")
    if first.startswith("sep=") and len(first) == len("sep=;"):
        said, text = first[-1], text.partition("\n")[2]
    delimiter = said or max(_BETWEEN, key=lambda one: _rank(_head(text, one)))
    rows = list(_read(text, delimiter))
    while rows and not rows[0]:
        del rows[0]
    header = list(rows[0]) if rows else []
    named = csv_settings.get("header", True)
    names = [(named and name) or f"f{at}" for at, name in enumerate(header)]
    rows = [row or [""] for row in rows[int(named) :] if row or len(names) == 1]
    if len(names) > 1 and named:
        rows = [row for row in rows if row != header]
    return Text(names, rows, delimiter)


def against_text(read, text):
    """The first difference between what was read and the file's text, or ``None``. No order of rows is promised."""
    if read.names != text.names:
        return Difference(-1, "", read.names, text.names)
    return _first(read, text.rows, _text_cells)


def _text_cells(names, values, cells):
    if len(cells) != len(values):
        return "", values, cells
    wrong = (at for at, (value, cell) in enumerate(zip(values, cells, strict=True)) if not same_as_text(value, cell))
    return next(((names[at], values[at], cells[at]) for at in wrong), None)


def _first(read, others, cells):
    """The first difference of rows, as they stand or else in an order of their own."""
    found = _in_turn(read.names, read.values, others, cells)
    return found and _in_turn(read.names, in_order(read.values), in_order(others), cells)


def _in_turn(names, rows, others, cells):
    for at, (values, other) in enumerate(zip(rows, others, strict=False)):
        if (wrong := cells(names, values, other)) is not None:
            return Difference(at, *wrong)
    if len(rows) != len(others):
        return Difference(min(len(rows), len(others)), "", f"{len(rows)} rows", f"{len(others)} rows")
    return None


def records_of(content, path):
    """The records of JSON in lines or in a document, by Python; numbers are decimals."""
    text = decoded(content)
    decoder = json.JSONDecoder(parse_int=Decimal, parse_float=Decimal)
    found, at = [], 0
    while (at := _SPACE.match(text, at).end()) < len(text):
        value, at = decoder.raw_decode(text, at)
        for name in path:
            value = value[name]
        found += value if isinstance(value, list) else [value]
    return found


def against_records(read, records):
    """The same for JSON."""
    if other := next((one for one in records if not isinstance(one, dict)), None):
        return Difference(-1, "", read.names, other)
    if more := {name for record in records for name in record} - set(read.names):
        return Difference(-1, min(more), None, "a key of a record")
    rows = [tuple(record.get(name) for name in read.names) for record in records]
    return _first(read, rows, lambda *row: _cells(same_as_json, *row))


def against_rows(read, other):
    """The same for Parquet, of which the other reader is Arrow's."""
    if read.names != other.names:
        return Difference(-1, "", read.names, other.names)
    return _first(read, other.values, lambda *row: _cells(same, *row))


def _cells(equal, names, values, others):
    return next((one for one in zip(names, values, others, strict=True) if not equal(*one[1:])), None)
