"""A log that is rotated in all the ways there are, between syncs and during them, and what was delivered of it."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest
from synced_files import LATER, SyncedFiles

from strandline.connectors.files import content as files_content
from strandline.errors import RetryableError, UsageError
from strandline.message import Checkpoint, Insert

ATTEMPTS = 5
"""As many as the engine makes."""
PAD = "x" * 40
MANY = 3_000
"""Lines that are read in several blocks."""


class RotatedLog:
    """``app.log`` and its generations ``app.log.1``, ``app.log.2.gz``, ... Each line has a number of its own."""

    def __init__(self, directory: Path, *, csv: bool = False, suffix: str = ".gz") -> None:
        self.header = "n,text\n" if csv else ""
        self.suffix = suffix
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.log = directory / "app.log"
        form = "csv" if csv else "jsonl"
        self.files = SyncedFiles(directory, table="t", format=form, types={"n": "int64"}, on_replace="reread")
        self.files.spec["path"] += "/app.log*"
        self.numbers = count()
        self.delivered: Counter[int] = Counter()
        self.due: set[int] = set()
        """What was there before and after a sync that nothing disturbed."""
        self.disturbance: Callable[[], None] | None = None
        """Happens before so many files more are opened, or after so many messages more."""
        self.opens_left = self.messages_left = -1

    def line(self) -> str:
        number = next(self.numbers)
        return f"{number},{PAD}\n" if self.header else f'{{"n":{number},"text":"{PAD}"}}\n'

    def append(self, lines: int = 1, path: Path | None = None) -> None:
        path = path or self.log
        empty = not path.exists() or path.stat().st_size == 0
        with path.open("a") as file:
            file.write((self.header if empty else "") + "".join(self.line() for _ in range(lines)))

    def generations(self) -> dict[int, Path]:
        found = {int(path.name.split(".")[2]): path for path in self.directory.glob("app.log.*")}
        return dict(sorted(found.items(), reverse=True))

    def shift(self) -> None:
        for number, path in self.generations().items():
            path.rename(path.with_name(path.name.replace(f".{number}", f".{number + 1}")))

    def rename(self) -> None:
        self.shift()
        if self.log.exists():
            self.log.rename(self.directory / "app.log.1")

    def copytruncate(self) -> None:
        self.shift()
        if self.log.exists():
            shutil.copy(self.log, self.directory / "app.log.1")
            os.truncate(self.log, 0)

    def compress(self, path: Path) -> None:
        if path.suffix == self.suffix:
            return
        content = path.read_bytes()
        with pa.output_stream(str(path) + self.suffix, compression="detect") as stream:
            stream.write(content)
        path.unlink()

    def present(self) -> set[int]:
        """The numbers of the lines that are in files now."""
        return {number for path in self.directory.iterdir() for number in self._numbers(path)}

    def _numbers(self, path: Path) -> Iterator[int]:
        with pa.input_stream(str(path), compression="detect") as stream:
            text = stream.read().decode()
        for line in text.removeprefix(self.header).splitlines():
            yield int(line.removeprefix('{"n":').split(",")[0])

    def sync(self, *, messages_max: int | None = None, after: timedelta = LATER) -> None:
        """With as many attempts as the engine makes; or killed after some messages. Only what a checkpoint covers counts."""
        before, disturbed = self.present(), self.disturbance is not None
        for attempt in range(ATTEMPTS):
            try:
                if not self._attempt(messages_max, after):
                    return
                break
            except RetryableError:
                if attempt == ATTEMPTS - 1:
                    raise
        if not disturbed:
            self.due |= before & self.present()

    def _attempt(self, messages_max: int | None, after: timedelta) -> bool:
        """Whether it came to its end."""
        rows: list[int] = []
        messages = self.files.read(rows_max=500, after=after)
        try:
            for at, (_, message) in enumerate(messages):
                if isinstance(message, Insert):
                    rows += message.batch["n"].to_pylist()
                if isinstance(message, Checkpoint):
                    self.delivered.update(rows)
                    rows = []
                if at == messages_max:
                    messages.close()
                    return False
                if self.messages_left == 0:
                    self.disturb()
                self.messages_left -= 1
        except UsageError:
            return False  # there are no files
        return True

    def disturb(self) -> None:
        happens, self.disturbance = self.disturbance, None
        if happens is not None:
            happens()

    def disturb_opens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From here on ``disturbance`` happens before one of the next files is opened."""
        real = files_content.Content.__init__

        def init(content, file, coding):
            self.opens_left -= 1
            if self.opens_left == 0:
                self.disturb()
            real(content, file, coding)

        monkeypatch.setattr(files_content.Content, "__init__", init)

    def findings(self) -> tuple[list[int], list[int]]:
        """The lines that were delivered twice, and those that were lost."""
        twice = sorted(number for number, times in self.delivered.items() if times > 1)
        return twice, sorted((self.due | self.present()) - self.delivered.keys())
