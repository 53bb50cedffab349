"""Logs that are rotated: every line is delivered once, whatever its file is called when it is read."""

import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from rotated_logs import MANY, RotatedLog
from synced_files import LATER, opened_files

from strandline.errors import TaskError

SEEDS = range(60)
NOW = timedelta(0)


@pytest.fixture(params=["csv", "jsonl"])
def log(tmp_path, request):
    return RotatedLog(tmp_path / "logs", csv=request.param == "csv")


def opened(log, monkeypatch):
    """The names of files that are opened from here on to be read, and not to learn their columns."""
    source = log.files.source()
    (table,) = source.tables()
    monkeypatch.setattr(type(source), "tables", lambda self: [table])
    return opened_files(monkeypatch)


@pytest.mark.parametrize("lines", [None, 0, 2, 50])
def test_a_log_that_is_copied_and_truncated_is_delivered_once(log, lines):
    """Whether nothing was written to it since, a header only, less than was there, or more."""
    log.append(5)
    log.sync()
    log.append(3)
    log.copytruncate()
    if lines is not None:
        log.append(lines)
    log.sync()
    assert log.findings() == ([], [])


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("lines", [None, 0, 2])
def test_of_a_log_that_was_compressed_at_once_only_the_tail_is_read(log, suffix, lines):
    log.suffix = suffix
    log.append(5)
    log.sync()
    log.append(3)
    log.rename()
    log.compress(log.directory / "app.log.1")
    if lines is not None:
        log.append(lines)
    log.sync()
    assert log.findings() == ([], [])


def test_a_chain_of_generations_is_delivered_once(log):
    for _ in range(4):
        log.append(2)
        log.rename()
        log.append(2)
        log.sync()
        log.append(1)
    log.rename()
    log.rename()
    log.compress(log.directory / "app.log.3")
    (log.directory / "app.log.4").unlink()
    log.append(1)
    log.sync()
    assert log.findings() == ([], [])


@pytest.mark.parametrize("empty", ["app.log", "app.log.1"])
def test_a_generation_without_rows_is_no_sign_of_anything(log, empty):
    """All files of a table begin with the same header, and nothing begins all of them."""
    log.append(0, log.directory / empty)
    log.append(3, log.directory / ({"app.log", "app.log.1"} - {empty}).pop())
    log.sync()
    log.append(2)
    log.rename()
    log.append(0)
    log.sync()
    log.rename()
    log.append(1)
    log.sync()
    assert log.findings() == ([], [])


def test_generations_that_are_removed_are_vanished_and_not_replaced(log):
    log.append(2)
    log.rename()
    log.append(2)
    log.sync()
    (log.directory / "app.log.1").unlink()
    log.rename()
    log.append(2)
    with pytest.raises(TaskError, match=r"have vanished: app\.log\.1$"):
        log.files.sync(on_vanish="fail")
    log.files.spec["on_replace"] = "fail"
    log.sync()
    assert log.findings() == ([], [])


def test_a_file_without_rows_that_is_renamed_has_not_vanished(log):
    log.append(1)
    log.rename()
    log.append(0)
    log.sync()
    log.rename()
    log.files.spec["on_vanish"] = "fail"
    log.sync()
    (log.directory / "app.log.1").unlink()
    with pytest.raises(TaskError, match=r"have vanished: app\.log\.1$"):
        log.files.sync()


@pytest.mark.parametrize("how", ["rename", "copytruncate"])
@pytest.mark.parametrize("opens", range(1, 8))
def test_a_log_is_rotated_before_any_file_is_opened(log, monkeypatch, how, opens):
    log.append(3)
    log.rename()
    log.append(3)
    log.sync()
    log.append(3)
    log.disturb_opens(monkeypatch)
    log.disturbance, log.opens_left = getattr(log, how), opens
    log.sync()
    log.append(1)
    log.sync()
    assert log.findings() == ([], [])


@pytest.mark.parametrize("how", ["rename", "copytruncate"])
@pytest.mark.parametrize("at", range(0, 12, 2))
def test_a_log_is_rotated_while_it_is_read(log, how, at):
    """The new one, too, has more lines than were read of the old one; the older generation was not read before."""
    log.append(10)
    log.rename()
    log.append(MANY)

    def rotate():
        getattr(log, how)()
        log.append(MANY + 100)

    log.disturbance, log.messages_left = rotate, at
    log.sync()
    log.sync()
    assert log.findings() == ([], [])


def test_a_log_killed_in_its_middle_and_compressed_goes_on(log):
    log.append(MANY)
    log.sync(messages_max=3)
    assert 0 < len(log.delivered) < MANY
    log.rename()
    log.append(2)
    log.compress(log.directory / "app.log.1")
    log.sync()
    assert log.findings() == ([], [])


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("share", [0.5, 1])
def test_a_copy_that_is_being_made_is_left_for_the_next_sync(log, caplog, known, share):
    log.append(4)
    if known:
        log.sync()
    log.append(4)
    content = log.log.read_bytes()
    (log.directory / "app.log.1").write_bytes(content[: int(len(content) * share)])
    log.sync(after=NOW)
    assert "app.log.1 may be a copy of app.log, not ready" in caplog.text
    (log.directory / "app.log.1").write_bytes(content)
    log.log.write_bytes(b"")
    log.sync(after=NOW)
    assert log.findings() == ([], [])


def test_a_copy_that_stays_is_another_file(log):
    log.append(4)
    shutil.copy(log.log, log.directory / "app.log.1")
    log.sync()
    assert log.findings()[0] == [0, 1, 2, 3]


def test_nothing_is_forgotten_while_a_file_cannot_be_read(log):
    log.append(4)
    log.sync()
    log.rename()
    log.compress(log.directory / "app.log.1")
    log.append(1)
    compressed = log.directory / "app.log.1.gz"
    content = compressed.read_bytes()
    compressed.write_bytes(content[:-9])
    with pytest.raises(TaskError, match=r"app\.log\.1\.gz: damaged"):
        log.files.sync()
    compressed.write_bytes(content)
    log.sync()
    assert log.findings() == ([], [])


def test_what_has_not_changed_is_not_opened_when_others_are_rotated(log, monkeypatch):
    for _ in range(3):
        log.append(2)
        log.rename()
    log.append(2)
    for path in log.generations().values():
        path.rename(path.with_name(path.name.replace("log.", "log-")))
    log.sync()
    names = opened(log, monkeypatch)
    log.sync()
    assert names == []
    log.append(2)
    log.rename()
    log.append(1)
    log.sync()
    assert set(names) == {"app.log", "app.log.1"}
    assert log.findings() == ([], [])


class Chances:
    """What may happen to a log, chosen by a seed. ``happened`` says what did."""

    def __init__(self, seed: int, log: RotatedLog) -> None:
        self.random = random.Random(seed)
        self.log = log
        self.happened: list[str] = []

    def happen(self) -> None:
        what = self.random.choice(
            [
                self.append,
                self.append,
                self.rename,
                self.copytruncate,
                self.compress,
                self.delete,
                self.touch,
                self.copy,
            ]
        )
        self.happened.append(what.__name__)
        what()

    def append(self) -> None:
        self.log.append(self.random.choice([0, 1, 1, 2, 5, MANY]))

    def rename(self) -> None:
        self.log.rename()
        self.begin_anew()

    def copytruncate(self) -> None:
        self.log.copytruncate()
        self.begin_anew()

    def begin_anew(self) -> None:
        lines = self.random.choice([None, None, 0, 1, 5, MANY])
        if lines is not None:
            self.log.append(lines)

    def a_file(self) -> Path | None:
        return self.random.choice([None, *sorted(self.log.directory.iterdir())])

    def compress(self) -> None:
        """Some of the older generations, or all."""
        for path in self.log.generations().values():
            if self.random.random() < 0.6:
                self.log.compress(path)

    def delete(self) -> None:
        """Any generation, mostly the oldest."""
        paths = list(self.log.generations().values())
        if paths:
            self.random.choice([paths[0], *paths]).unlink()

    def touch(self) -> None:
        if path := self.a_file():
            path.touch()

    def copy(self) -> None:
        """As if it was restored: the same content, another inode."""
        if path := self.a_file():
            path.with_name(".copy").write_bytes(path.read_bytes())
            path.with_name(".copy").replace(path)

    def several(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.happen()

    def sync(self) -> None:
        how = self.random.choice(["whole", "killed", "disturbed"])
        self.happened.append(f"sync {how}")
        after = self.random.choice([LATER, NOW])
        if how == "disturbed":
            self.log.disturbance = self.several
            self.log.opens_left, self.log.messages_left = self.random.choice([(1, -1), (-1, 1)])
            self.log.opens_left *= self.random.randint(1, 12)
            self.log.messages_left *= self.random.randint(0, 6)
        killed = self.random.randint(0, 8) if how == "killed" else None
        self.log.sync(messages_max=killed, after=after)
        self.log.disturbance = None


@pytest.mark.parametrize("seed", SEEDS)
def test_every_line_is_delivered_once_whatever_happens_to_its_file(tmp_path, monkeypatch, seed):
    log = RotatedLog(tmp_path / "logs", csv=seed % 2 == 0, suffix=[".gz", ".zst"][seed // 2 % 2])
    log.disturb_opens(monkeypatch)
    chances = Chances(seed, log)
    for _ in range(chances.random.randint(4, 9)):
        chances.several()
        chances.sync()
    log.sync()
    log.sync()
    assert log.findings() == ([], []), chances.happened
