"""What happens to files between two syncs, and what the second one delivers."""

import gzip
import itertools
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synced_files import LATER, SyncedFiles, look_unchanged, opened_files, rows_of

from strandline.errors import RetryableError, StateError, TaskError, UsageError
from strandline.message import Checkpoint, Insert
from strandline.table import Table

NOW = timedelta(0)


@pytest.fixture
def files(tmp_path: Path) -> SyncedFiles:
    return SyncedFiles(tmp_path / "in", table="t")


def numbers(rows: list[dict]) -> list[int]:
    return [row["n"] for row in rows]


def csv(*values: int) -> str:
    return "n\n" + "".join(f"{value}\n" for value in values)


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are opened from here on."""
    return opened_files(monkeypatch)


def test_a_second_sync_with_nothing_new_opens_no_file(files, monkeypatch):
    files.write("a.csv", csv(1))
    files.write("b.csv.gz", gzip.compress(csv(2).encode()))
    assert numbers(files.rows()) == [1, 2]
    source = files.source()
    (table,) = source.tables()
    names = opened(monkeypatch)
    monkeypatch.setattr(type(source), "tables", lambda self: [table])
    assert files.rows() == []
    assert names == []


def test_a_new_file_is_read_whatever_its_name_and_time(files):
    files.write("m.csv", csv(1))
    files.sync()
    os.utime(files.write("a.csv", csv(2)), (0, 0))
    files.write("z.csv", csv(3))
    assert numbers(files.rows()) == [2, 3]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst"])
def test_of_a_grown_file_only_the_tail_is_read(files, name):
    def write(content: str) -> None:
        path = files.write(name, b"")
        with pa.output_stream(str(path), compression="detect") as stream:
            stream.write(content.encode())

    write(csv(1, 2))
    assert numbers(files.rows()) == [1, 2]
    write(csv(1, 2, 3))
    assert numbers(files.rows()) == [3]
    assert files.rows() == []


def test_a_member_appended_to_a_gzip_file_is_a_tail(files):
    path = files.write("a.csv.gz", gzip.compress(csv(1).encode()))
    files.sync()
    with path.open("ab") as file:
        file.write(gzip.compress(b"2\n"))
    assert numbers(files.rows()) == [2]


def test_a_grown_file_can_be_read_again(files):
    files.write("a.csv", csv(1))
    files.sync(on_grow="reread")
    files.append("a.csv", "2\n")
    assert numbers(files.rows(on_grow="reread")) == [1, 2]


@pytest.mark.parametrize("after", [csv(9), csv(1), csv(1, 9, 3), csv(9, 2, 3, 4), ""])
def test_a_replaced_file_is_read_again_or_refused(files, after):
    files.write("a.csv", csv(1, 2, 3))
    files.write("b.csv", csv(7))
    files.sync()
    before = dict(files.cursors)
    files.write("a.csv", after)
    with pytest.raises(TaskError, match=r"have been replaced: a\.csv$"):
        files.sync(on_replace="fail")
    assert files.cursors == before
    assert numbers(files.rows()) == [int(line) for line in after.split()[1:]]
    assert files.rows() == []


def test_a_replacement_of_the_same_size_and_mtime_is_noticed(files):
    path = files.write("a.csv", csv(1))
    files.sync()
    before = path.stat()
    files.write("a.csv", csv(2))
    look_unchanged(path, before)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert numbers(files.rows()) == [2]


def test_a_file_changed_just_before_it_was_read_is_compared_again(files, monkeypatch):
    """As if its file system had too coarse a clock to show a second change."""
    path = files.write("a.csv", csv(1))
    files.rows(after=NOW)
    seen = files.cursors["t"]["files"]["a.csv"][:4]
    path.write_text(csv(2))
    stat = path.stat()
    files.cursors["t"]["files"]["a.csv"][:4] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    assert seen[0] == stat.st_size
    assert numbers(files.rows()) == [2]
    assert files.rows() == []


def test_touching_or_copying_back_delivers_nothing(files):
    path = files.write("a.csv", csv(1))
    files.sync()
    path.touch()
    assert files.rows(on_replace="fail") == []
    shutil.copy(path, files.path / "copy")
    (files.path / "copy").replace(path)
    assert files.rows(on_replace="fail") == []


def test_a_vanished_file_is_forgotten_and_its_rows_stay(files):
    files.write("a.csv", csv(1))
    files.write("b.csv", csv(2))
    files.sync()
    (files.path / "a.csv").unlink()
    with pytest.raises(TaskError, match=r"have vanished: a\.csv$"):
        files.sync(on_vanish="fail")
    assert files.rows() == []
    assert {type(message).__name__ for message in files.messages} == {"Complete", "Checkpoint"}
    assert list(files.cursors["t"]["files"]) == ["b.csv"]
    files.write("a.csv", csv(1))
    assert numbers(files.rows()) == [1]


def test_a_table_all_of_whose_files_vanished_fails_where_one_file_would(files):
    assert files.source().missing("t") is None
    with pytest.raises(TaskError, match=r"all files of table 't' have vanished"):
        files.source(on_vanish="fail").missing("t")


def test_a_renamed_file_is_not_read_again(files, caplog):
    files.write("a.csv", csv(1))
    files.sync()
    (files.path / "a.csv").rename(files.path / "b.csv")
    assert files.rows(on_vanish="fail") == []
    assert "b.csv is a.csv under a new name" in caplog.text
    files.append("b.csv", "2\n")
    assert numbers(files.rows()) == [2]


def test_a_file_of_another_name_that_begins_the_same_is_another_file(files):
    """It may have got the inode of the one that is gone; only a rotated log may have grown as it was renamed."""
    files.write("monday.csv", csv(1))
    files.write("log.csv", csv(5))
    files.sync()
    (files.path / "monday.csv").rename(files.path / "tuesday.csv")
    (files.path / "log.csv").rename(files.path / "log.csv-1.csv")
    files.append("tuesday.csv", "2\n")
    files.append("log.csv-1.csv", "6\n")
    assert sorted(numbers(files.rows())) == [1, 2, 6]


def test_a_renamed_directory_is_not_read_again(files):
    for number in range(20):
        files.write(f"old/{number}.csv", csv(number))
    files.sync()
    (files.path / "old").rename(files.path / "new")
    assert files.rows(on_vanish="fail") == []


def test_rotated_logs_are_delivered_once(tmp_path):
    files = SyncedFiles(tmp_path, table="t", format="jsonl")
    files.spec["path"] += "/app.log*"
    lines = [f'{{"n":{number}}}\n' for number in range(9)]
    files.write("app.log", "".join(lines[:2]))
    assert numbers(files.rows()) == [0, 1]
    files.append("app.log", lines[2])
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    files.write("app.log", lines[3])
    assert sorted(numbers(files.rows(on_replace="fail", on_vanish="fail"))) == [2, 3]
    # By copying and truncating, and the older one is compressed.
    (tmp_path / "app.log.2.gz").write_bytes(gzip.compress((tmp_path / "app.log.1").read_bytes()))
    shutil.copy(tmp_path / "app.log", tmp_path / "app.log.1")
    files.write("app.log", "".join(lines[4:6]))
    assert sorted(numbers(files.rows(on_replace="fail", on_vanish="fail"))) == [4, 5]
    assert files.rows() == []


def test_a_copy_is_another_file(files):
    files.write("a.csv", csv(1))
    files.sync()
    files.write("b.csv", csv(1))
    assert numbers(files.rows()) == [1]


def test_a_new_file_that_begins_like_a_vanished_one_is_read_whole(files):
    path = files.write("monday.csv", csv(1))
    files.sync()
    files.write("tuesday.csv", csv(1, 2))
    path.unlink()
    assert numbers(files.rows()) == [1, 2]


@pytest.mark.parametrize(
    ("name", "first", "rest"), [("a.csv", "n\n1\n2", "3\n"), ("a.jsonl", '{"n":1}\n{"n":2', "3}\n")]
)
def test_an_unfinished_last_line_waits_until_it_is_complete(files, name, first, rest):
    files.write(name, first)
    assert numbers(files.rows(after=NOW)) == [1]
    assert files.rows(after=NOW) == []
    files.append(name, rest)
    assert numbers(files.rows(after=NOW)) == [23]
    assert files.rows(after=NOW) == []


def test_a_last_line_without_newline_is_delivered_once_the_file_is_quiet(files):
    files.write("a.csv", "n\n1\n2")
    assert numbers(files.rows(after=NOW)) == [1]
    assert numbers(files.rows()) == [2]
    assert files.rows() == []
    files.append("a.csv", "\n3\n")
    assert numbers(files.rows()) == [3]


def test_a_delivered_last_line_that_goes_on_is_delivered_again(files):
    files.write("a.csv", "n\n1\n2")
    assert numbers(files.rows()) == [1, 2]
    files.append("a.csv", "3\n4\n")
    with pytest.raises(TaskError, match="its last line has changed"):
        files.rows(on_replace="fail")
    assert numbers(files.rows()) == [23, 4]
    assert files.rows() == []


def test_a_young_last_line_that_is_no_record_waits_or_fails(files):
    files.write("a.jsonl", '{"n":1}\n{"n":')
    with pytest.raises(TaskError, match=r"a\.jsonl:2: its last line is not complete"):
        files.rows(after=NOW, on_unfinished="fail")
    assert files.rows(after=NOW) == []
    files.append("a.jsonl", "2}\n")
    assert numbers(files.rows()) == [2]


@pytest.mark.parametrize(
    ("name", "first", "bad", "fixed", "rows"),
    [
        ("a.jsonl", '{"n":1}\n', '{"n":', "2}\n", [2]),
        ("a.csv", "n\n1\n", '"2', '"\n3\n', [2, 3]),
        ("a.csv", "n\n1\n", '"2\n3\n', None, []),
        ("a.csv", "n\n1\n", "2,3", None, []),
    ],
)
def test_what_a_quiet_file_ends_with_is_never_left_in_silence(files, name, first, bad, fixed, rows):
    files.write(name, first + bad)
    for _ in range(2):
        with pytest.raises(TaskError, match=r"a\.(jsonl:2|csv:3): "):
            files.sync()
        assert files.cursors["t"]["files"][name][-2] == 1, "what comes before it stays delivered"
    if fixed:
        files.append(name, fixed)
        assert numbers(files.rows()) == rows


@pytest.mark.parametrize(("last", "found"), [("n/a", "n/a"), ("30.5", 30.5), ("2024-01-02", "2024-01-02")])
def test_the_last_record_of_a_quiet_file_has_a_say_in_the_types(files, last, found):
    os.utime(files.write("a.csv", f"n\n10\n{last}"), (0, 0))
    assert numbers(files.rows())[-1] == found
    assert len(numbers(files.rows())) == 0


def test_a_file_that_grows_while_it_is_read_is_read_on_by_the_next_sync(files):
    files.write("a.csv", csv(*range(100)))
    messages = files.read(rows_max=10)
    first = [next(messages) for _ in range(4)]
    files.append("a.csv", "100\n101")
    found = rows_of(itertools.chain(first, messages))["t"]
    found += files.rows()
    assert numbers(found) == list(range(102))


def test_an_empty_file_is_nothing_until_there_is_something(files):
    files.write("a.csv", "")
    files.write("b.csv", csv(1))
    files.write("c.csv", "n\n")
    files.write("d.csv", "n")
    assert numbers(files.rows()) == [1]
    files.write("a.csv", csv(2))
    files.append("c.csv", "3\n")
    files.append("d.csv", "\n4\n")
    assert numbers(files.rows()) == [2, 3, 4]


def write_numbers(files: SyncedFiles, name: str, count: int) -> None:
    """``count`` rows, the text of each with a line break and a quote where the format knows them."""
    path = files.write(name, b"")
    if name.endswith("parquet"):
        table = pa.table({"n": range(count), "text": [f'{n},\n"{"x" * 40}' for n in range(count)]})
        pq.write_table(table, path, row_group_size=700)
        return
    if ".csv" in name:
        content = "n,text\r\n" + "".join(f'{n},"{n},\n""{"x" * 40}"\r\n' for n in range(count))
    else:
        content = "".join(f'{{"n":{n},"text":"{n},\\n\\"{"x" * 40}"}}\n' for n in range(count))
    with pa.output_stream(str(path), compression="detect") as stream:
        stream.write(content.encode())


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst", "a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_sync_that_is_killed_anywhere_goes_on_where_it_was(files, name):
    write_numbers(files, name, 2_500)
    write_numbers(files, name.replace("a.", "b."), 10)
    bounds = {"rows_max": 300, "bytes_max": 1 << 15}
    ends = [at for at, (_, message) in enumerate(files.read(**bounds)) if isinstance(message, Checkpoint)]
    assert len(ends) > 9
    for end in ends[:-1]:
        files.cursors = {}
        messages = files.read(**bounds)
        delivered = [message.batch for _, message in itertools.islice(messages, end + 1) if isinstance(message, Insert)]
        messages.close()
        rows = [row for batch in delivered for row in batch.to_pylist()] + files.rows(**bounds)
        assert numbers(rows) == [*range(2_500), *range(10)]
        assert rows[-1]["text"] == '9,\n"' + "x" * 40


def test_a_file_replaced_after_a_kill_in_its_middle_is_read_from_its_beginning(files):
    write_numbers(files, "a.csv", 900)
    messages = files.read(rows_max=100)
    list(itertools.islice(messages, 6))
    messages.close()
    content = (files.path / "a.csv").read_text().replace("\n350,", "\n-350,")
    files.write("a.csv", content)
    assert numbers(files.rows()) == [*range(350), -350, *range(351, 900)]


def test_a_file_killed_in_its_middle_and_renamed_goes_on(files):
    write_numbers(files, "a.csv", 900)
    messages = files.read(rows_max=100)
    list(itertools.islice(messages, 6))
    messages.close()
    (files.path / "a.csv").rename(files.path / "b.csv")
    assert numbers(files.rows()) == list(range(300, 900))


def test_batches_are_no_larger_than_asked_for(files):
    write_numbers(files, "a.jsonl", 3_000)
    batches = [
        message.batch for _, message in files.read(rows_max=1_000, bytes_max=20_000) if isinstance(message, Insert)
    ]
    assert max(batch.num_rows for batch in batches) <= 1_000
    assert max(batch.nbytes for batch in batches) <= 20_000
    assert sum(batch.num_rows for batch in batches) == 3_000


def test_thousands_of_small_files_make_few_batches_and_a_compact_cursor(files):
    count = 2_500
    for number in range(count):
        files.write(f"{number % 10}/{number:05d}.csv", csv(number))
    rows = files.rows(rows_max=1_000)
    assert sorted(numbers(rows)) == list(range(count))
    assert sum(isinstance(message, Insert) for message in files.messages) == 3
    cursor = files.cursors["t"]
    assert len(cursor["files"]) == count
    assert len(str(cursor)) < 200 * count
    assert files.rows() == []


def test_rows_of_earlier_files_stay_delivered_when_a_later_one_cannot_be_read(files):
    files.write("a.csv", csv(1))
    files.write("b.csv", csv(2) + "x,y\n")
    files.write("c.csv", csv(3))
    found = []
    with pytest.raises(TaskError, match=r"b\.csv:3: "):
        found += (message.batch.to_pylist() for _, message in files.read() if isinstance(message, Insert))
    assert found == [[{"n": 1}]]
    assert list(files.cursors["t"]["files"]) == ["a.csv"]
    files.write("b.csv", csv(2))
    assert numbers(files.rows()) == [2, 3]


def test_a_file_that_vanishes_between_listing_and_reading_is_tried_again(files):
    for name in ("a.csv", "b.csv", "c.csv"):
        files.write(name, csv(1))
    messages = files.read(rows_max=1)
    next(messages)
    (files.path / "c.csv").unlink()
    with pytest.raises(RetryableError, match=r"c\.csv: vanished"):
        list(messages)
    assert files.rows() == []


def test_a_file_replaced_between_looking_at_it_and_reading_it_is_tried_again(files):
    for name in ("a.csv", "b.csv", "c.csv"):
        files.write(name, csv(1))
    files.sync()
    for name in ("a.csv", "b.csv", "c.csv"):
        files.append(name, "2\n")
    messages = files.read(rows_max=1)
    next(messages)
    files.write("new", csv(3, 4)).replace(files.path / "c.csv")
    with pytest.raises(RetryableError, match=r"c\.csv: replaced"):
        list(messages)
    assert numbers(files.rows()) == [3, 4]


def test_a_cursor_of_a_newer_version_or_of_another_source_is_refused(files):
    files.write("a.csv", csv(1))
    for cursor in ({"version": 2, "files": {}}, {"id": 7}, {"version": 1, "files": {"a.csv": [1]}}):
        files.cursors = {"t": cursor}
        with pytest.raises(StateError):
            files.rows()


def test_checkpoints_do_not_change_after_they_were_sent(files):
    for number in range(5):
        files.write(f"{number}.csv", csv(number))
    sent = [message.cursor for _, message in files.read(rows_max=1) if isinstance(message, Checkpoint)]
    assert [len(cursor["files"]) for cursor in sent] == [1, 2, 3, 4, 5, 5]


def test_tables_are_incremental_and_say_what_they_promise(files):
    files.write("a.csv", "id,at\n1,2\n")
    table = files.table(primary_key=["id"], incremental_key="at")
    assert isinstance(table, Table)
    assert (table.incremental, table.primary_key, table.incremental_key) == (True, ("id",), ("at",))
    assert table.guarantee.name == "settled (file contents)"
    assert "delivered again in full" in table.guarantee.limits
    assert "replaced fails" in files.table(on_replace="fail").guarantee.limits
    with pytest.raises(UsageError, match="no column 'nope'"):
        files.table(primary_key=["nope"])


def test_reading_does_not_depend_on_the_clock_of_the_machine(files):
    """All that is decided by time is decided by the start of the run."""
    files.write("a.csv", "n\n1\n2")
    assert numbers(files.rows(after=-LATER)) == [1]
    assert numbers(files.rows(after=LATER)) == [2]
