"""The scenarios of files: records that nobody can read, ends that look unfinished, and Parquet that is damaged or old.

A sync that fails has kept its promise, as long as nothing wrong is stored; the note says what is. So that a tool which can
read no file at all does not pass, good files are synced as well, before that or once the bad one is taken away.
"""

import io
import json
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from .judge import Verdict, compare
from .lab import StoppedError
from .scenarios import DOCS, OVERWRITE, scenario

READERS = f"{DOCS}/dlt-ecosystem/verified-sources/filesystem/basic"
IDS = "CAST(id AS VARCHAR)"
ROWS = f"{IDS}, CAST(v AS VARCHAR)"
"""As text, since another type of the id is no other row."""
PARQUET_ROWS = 1000


def of_files(letter, title):
    return scenario(letter, title, OVERWRITE, origin="files", has_options=False, link=READERS)


def of_csv(letter, title):
    return scenario(
        letter,
        title,
        OVERWRITE,
        origin="files",
        tuned="`read_csv_duckdb` with `use_pyarrow`, instead of `read_csv`",
        link=READERS,
    )


def read_by(lab, reader):
    """How dlt reads it; both merge by `id`."""
    lab.key, lab.primary_key = None, ("id",)
    lab.origin.reader = reader
    if reader == "read_csv" and getattr(lab.tool, "tuned", False):
        lab.origin.reader, lab.origin.options = "read_csv_duckdb", {"use_pyarrow": True}


def start(lab, reader, name, content):
    """A sync of one good file."""
    read_by(lab, reader)
    lab.origin.write(name, content)
    lab.sync(must=True)


def judged(lab, expected, bad="", columns=ROWS):
    """A sync of more files, of which one may be ``bad``; ``expected`` is all that there is, as far as it can be read."""
    outcome = lab.sync(must=not bad)
    expected, stored = [(str(number), value) for number, value in expected], lab.rows(columns)
    note = f"exit {outcome.code}"
    if outcome.code:
        note += f"; {'the file is named' if bad in outcome.said else 'no file is named'}"
        note += f"; {len(stored)} of {len(expected)} rows are stored"
        expected = [row for row in expected if row in stored]
    return Verdict(compare(expected, stored, gone_is="in no file"), note)


def rows(last, first=1):
    """Texts that no reader takes for something else, by their ids."""
    return [(number, f"v{number}") for number in range(first, last + 1)]


def csv(first, last, of_first=""):
    """With a header; ``of_first`` stands behind the first record."""
    lines = [f"{number},{text}" for number, text in rows(last, first)]
    return "\n".join(["id,v", lines[0] + of_first, *lines[1:], ""]).encode()


def lines(first, last):
    return b"".join(b'{"id":%d,"v":"v%d"}\n' % (number, number) for number in range(first, last + 1))


def with_a_value_too_many(lab):
    lab.origin.write("2.csv", csv(3, 5, ",x"), hours_ago=1)
    lab.origin.write("3.csv", csv(6, 7), hours_ago=1)
    return judged(lab, rows(7), "2.csv")


@of_csv("V1", "a CSV file whose first record has a value too many, among good ones, at the first sync")
def too_many_at_first(lab):
    read_by(lab, "read_csv")
    lab.origin.write("1.csv", csv(1, 2))
    verdict = with_a_value_too_many(lab)
    if verdict.is_ok:
        (lab.origin.path / "t" / "2.csv").unlink()
        if (outcome := lab.tool.mended(lab)).code:
            raise StoppedError(outcome)
        verdict = Verdict(lab.judge([*rows(2), *rows(7, 6)]), verdict.note)
    return verdict


@of_csv("V2", "the same, at a later sync")
def too_many_later(lab):
    start(lab, "read_csv", "1.csv", csv(1, 2))
    return with_a_value_too_many(lab)


@of_files("V3", "a file of JSON lines whose first one is cut off, among good ones")
def cut_first(lab):
    start(lab, "read_jsonl", "1.jsonl", lines(1, 2))
    lab.origin.write("2.jsonl", b'{"id":3,"v":\n' + lines(4, 4), hours_ago=1)
    lab.origin.write("3.jsonl", lines(5, 6), hours_ago=1)
    return judged(lab, rows(6), "2.jsonl")


@of_files("V4", "a JSON file that is an array over several lines, among JSON lines")
def document(lab):
    start(lab, "read_jsonl", "1.json", lines(1, 2))
    array = [{"id": number, "v": text} for number, text in rows(4, 3)]
    lab.origin.write("2.json", json.dumps(array, indent=2).encode(), hours_ago=1)
    return judged(lab, rows(4))


@of_csv("W1", "a quiet CSV file without a last newline, which grows later")
def no_newline(lab):
    start(lab, "read_csv", "1.csv", csv(1, 2).rstrip())
    if (first := lab.judge(rows(2))) != "ok":
        return Verdict(first)
    lab.origin.write("1.csv", csv(1, 3).rstrip(), hours_ago=1)
    return judged(lab, rows(3))


@of_csv("W2", "a quiet CSV file in which a quote is open to its end")
def open_quote(lab):
    start(lab, "read_csv", "1.csv", csv(1, 2))
    lab.origin.write("2.csv", csv(3, 6).replace(b"v4", b'"v4'), hours_ago=1)
    return judged(lab, [(number, '"v4' if number == 4 else text) for number, text in rows(6)], "2.csv")


@of_files("W3", "a quiet file of JSON lines whose last one is cut off")
def cut_last(lab):
    start(lab, "read_jsonl", "1.jsonl", lines(1, 2))
    lab.origin.write("2.jsonl", lines(3, 4)[:-5], hours_ago=1)
    return judged(lab, rows(4), "2.jsonl")


def parquet(first, values, **options):
    """A file of ids from ``first`` on, each with a value."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": range(first, first + len(values)), "v": values}), buffer, **options)
    return buffer.getvalue()


def changed(data, old, new, times=1):
    """Bytes in which others stand, as often as the scenario thinks."""
    if data.count(old) != times:
        raise ValueError(f"{old!r} is there {data.count(old)} times")
    return data.replace(old, new)


def values(first, number=PARQUET_ROWS):
    return [f"value {at:04}" for at in range(first, first + number)]


@of_files("AC1", "a Parquet file with checksums of its pages, in which a bit has flipped")
def flipped(lab):
    plain = {"write_page_checksum": True, "use_dictionary": False, "compression": "none", "write_statistics": False}
    start(lab, "read_parquet", "1.parquet", parquet(1, values(1), **plain))
    good = parquet(PARQUET_ROWS + 1, values(PARQUET_ROWS + 1), **plain)
    lab.origin.write("2.parquet", changed(good, b"value 1042", b"value 1043"), hours_ago=1)
    return judged(lab, list(enumerate(values(1, 2 * PARQUET_ROWS), 1)), "2.parquet")


@of_files("AC2", "a Parquet file with fewer rows than its footer says")
def fewer(lab):
    start(lab, "read_parquet", "1.parquet", parquet(1, values(1)))
    good = parquet(PARQUET_ROWS + 1, values(PARQUET_ROWS + 1))
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    # 1,000 and 1,010 as Thrift writes them; of the file, its group, both columns, and of their statistics
    said = changed(good[footer:], b"\xd0\x0f", b"\xe4\x0f", times=6)
    lab.origin.write("2.parquet", good[:footer] + said, hours_ago=1)
    return judged(lab, list(enumerate(values(1, 2 * PARQUET_ROWS + 10), 1)), "2.parquet")


@of_files("AC3", "Parquet files with times as INT96, some of them far from now")
def far(lab):
    years = (2024, 1600, 9999)
    times = [datetime(year, 6, 15) for year in years]  # noqa: DTZ001 -- Parquet's have no zone either
    start(lab, "read_parquet", "1.parquet", parquet(1, times[:1], use_deprecated_int96_timestamps=True))
    lab.origin.write("2.parquet", parquet(2, times[1:], use_deprecated_int96_timestamps=True), hours_ago=1)
    return judged(
        lab, [(at, str(year)) for at, year in enumerate(years, 1)], "2.parquet", f"{IDS}, CAST(year(v) AS VARCHAR)"
    )
