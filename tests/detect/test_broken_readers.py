"""A source of files that leaves out what it cannot read, believes what is damaged, or takes keys for numbers: tests tell."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_files_dialects
import test_files_parquet
import test_files_source
import test_files_unread
from checks import Broken, Check
from synced_files import SyncedFiles

from strandline.cli import main
from strandline.connectors.files import csv as files_csv
from strandline.connectors.files import parquet as files_parquet
from strandline.connectors.files import reading as files_reading
from strandline.connectors.files import schema as files_schema
from strandline.errors import TaskError

broken = Broken()


def command(*arguments, code):
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out), pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert (end.value.code or 0) == code, out.getvalue()
    return SimpleNamespace(text=out.getvalue())


def _unread():
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        directory = test_files_unread.directory.__wrapped__(Path(folder), command, patch)
        test_files_unread.test_a_file_that_cannot_be_read_fails_its_table_at_every_sync_and_no_other(directory)


def of_files(test, *arguments, **spec):
    """The check that a test of files passes."""

    def check():
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            asked = test.__code__.co_varnames[: test.__code__.co_argcount]
            more = {"monkeypatch": patch} if "monkeypatch" in asked else {}
            try:
                test(SyncedFiles(Path(folder) / "in", **spec), *arguments, **more)
            except ValueError as error:
                raise AssertionError(f"it is no value any more: {error}") from error

    return Check(test.__name__, check)


@broken(
    "P44",
    "files: one whose first record cannot be read is passed over",
    Check(
        test_files_unread.test_a_file_that_cannot_be_read_fails_its_table_at_every_sync_and_no_other.__name__, _unread
    ),
)
def passes_over(patch):
    sound = files_schema._columns

    def columns(content, lines, size):
        try:
            return sound(content, lines, size)
        except TaskError:
            return pa.schema([]), False

    patch.setattr(files_schema, "_columns", columns)


@broken(
    "P44",
    "files: a last record without a newline is left, however long nobody writes",
    of_files(test_files_source.test_a_last_line_without_newline_is_delivered_once_the_file_is_quiet),
)
def waits_for_ever(patch):
    patch.setattr(files_reading, "quiet", lambda *_: False)


@broken(
    "P44",
    "files: what is behind an open quote is left",
    of_files(
        test_files_source.test_what_a_quiet_file_ends_with_is_never_left_in_silence,
        *("a.csv", "n\n1\n", '"2\n3\n', None, []),
        table="t",
    ),
)
def leaves_what_is_quoted(patch):
    sound = files_reading._Lines._last
    patch.setattr(
        files_reading._Lines, "_last", lambda self, rest: sound(self, rest) if self._format.whole(rest) else None
    )


@broken(
    "P44",
    "files: nobody counts the rows of Parquet",
    of_files(test_files_parquet.test_a_footer_that_counts_other_rows_is_damage),
)
def counts_no_rows(patch):
    def batches(self, file, fine, skip):
        for batch in file.iter_batches(batch_size=self._reader.rows_max):
            passed = min(skip, batch.num_rows)
            skip -= passed
            yield batch.slice(passed)

    patch.setattr(files_parquet.Columnar, "_batches", batches)


def opened(content, unit, **options):
    return pq.ParquetFile(content.for_arrow(), coerce_int96_timestamp_unit=unit, **options)


@broken(
    "P31",
    "files: checksums of Parquet are not compared",
    of_files(test_files_parquet.test_a_flipped_bit_never_passes_for_data_where_there_are_checksums, "none", "1.0"),
)
def believes_pages(patch):
    patch.setattr(files_parquet, "_opened", opened)


@broken(
    "P31",
    "files: old times of Parquet are nanoseconds",
    of_files(test_files_parquet.test_old_times_of_any_year_are_themselves, "plain"),
)
def reads_nanoseconds(patch):
    sound = files_parquet._opened
    patch.setattr(files_parquet, "_opened", lambda content, _: sound(content, "ns"))


@broken(
    "P31",
    "files: a comma stands between the values of CSV, whatever its header says",
    of_files(test_files_dialects.test_what_stands_between_values_is_found, ";", "\n"),
)
def knows_only_commas(patch):
    patch.setattr(files_csv.CSVLines, "_sniffed", lambda *_: b",")


@broken(
    "P33",
    "files: keys of CSV may be doubles",
    of_files(test_files_dialects.test_keys_that_are_written_differently_are_different, ("1.1", "1.10", "1.2")),
)
def takes_keys_for_numbers(patch):
    sound = files_csv.CSVLines._number

    def number(self, name, text, type_):
        keys, self._keys = self._keys, frozenset()
        try:
            return sound(self, name, text, type_)
        finally:
            self._keys = keys

    patch.setattr(files_csv.CSVLines, "_number", number)


@pytest.mark.parametrize(("check", "breaks"), broken)
def test_a_source_of_files_that_is_careless_is_noticed(check, breaks, monkeypatch):
    assert not check.findings()
    breaks(monkeypatch)
    assert check.findings()
