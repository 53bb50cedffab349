"""A directory of files, and syncs of it that remember their cursors as a state backend would."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from strandline.connectors.files.content import Coding, Content
from strandline.connectors.files.paths import File
from strandline.message import Checkpoint, Complete, Insert, Schema, SourceMessage
from strandline.parted import plain
from strandline.plugins import load_plugin
from strandline.reading import Reading
from strandline.source import Task

LATER = timedelta(hours=1)
"""After the files were written, so that their times are old and their last lines quiet."""


def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are opened from here on."""
    names: list[str] = []
    real = Content.__init__

    def init(content: Content, file: File, coding: Coding) -> None:
        names.append(file.key)
        real(content, file, coding)

    monkeypatch.setattr(Content, "__init__", init)
    return names


class SyncedFiles:
    """``cursors`` has the last checkpoint of each table."""

    def __init__(self, path: Path, **spec) -> None:
        self.path = path
        self.spec = {"path": str(path)} | spec
        self.cursors = {}
        self.messages: list[SourceMessage] = []

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def append(self, name: str, content: str) -> None:
        with (self.path / name).open("ab") as file:
            file.write(content.encode())

    def source(self, **spec):
        cls = load_plugin("source", "files")
        return cls(cls.Spec(**(self.spec | spec)))

    def table(self, **spec):
        (table,) = self.tables(**spec)
        return table

    def tables(self, **spec):
        """Every table; or the reason why one of them cannot be read."""
        tables = self.source(**spec).tables()
        for table in tables:
            if table.unreadable is not None:
                raise table.unreadable
        return tables

    def reading(self, cursor, after: timedelta = LATER, rows_max: int = 65_536, bytes_max: int = 16 << 20):
        return Reading(cursor, datetime.now(UTC) + after, batch_rows=rows_max, batch_bytes=bytes_max)

    def read(self, *, after: timedelta = LATER, rows_max: int = 65_536, bytes_max: int = 16 << 20, **spec):
        """Every message of a sync; the cursors follow the checkpoints as they come."""
        source = self.source(**spec)
        for task in source.tasks(self.tables(**spec)):
            reading = self.reading(self.cursors.get(task.id), after, rows_max, bytes_max)
            for message in source.read(task, reading):
                if isinstance(message, Checkpoint):
                    self.cursors[task.id] = json.loads(json.dumps(plain(message.cursor)))
                yield task, message

    def sync(self, **settings) -> dict[str, list[dict]]:
        """The rows of a whole sync, by table."""
        self.messages = []
        return rows_of(self._kept(self.read(**settings)))

    def _kept(self, messages: Iterator[tuple[Task, SourceMessage]]) -> Iterator[tuple[Task, SourceMessage]]:
        for task, message in messages:
            self.messages.append(message)
            yield task, message

    def rows(self, **settings) -> list[dict]:
        """The rows of a whole sync, of all tables."""
        return [row for rows in self.sync(**settings).values() for row in rows]


def rows_of(messages: Iterator[tuple[Task, SourceMessage]]) -> dict[str, list[dict]]:
    """The rows, checked as the engine would: of the table's columns and types, complete, and covered at the end."""
    rows = defaultdict(list)
    tables, last, completed = {}, None, []
    for task, message in messages:
        tables = tables if task.id in tables else tables | {task.id: task.tables[0]}
        if isinstance(message, Schema):
            tables[task.id] = message.table
        if isinstance(message, Insert):
            check_batch(message.batch, tables[task.id].schema)
            rows[message.table] += message.batch.to_pylist()
        if isinstance(message, Complete):
            completed.append(message.table)
        last = message
    assert last is None or isinstance(last, Checkpoint)
    assert sorted(completed) == sorted(tables)
    return dict(rows)


def check_batch(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    batch.validate(full=True)
    assert batch.num_rows > 0
    for field in batch.schema:
        assert schema.field(field.name).type == field.type


def look_unchanged(path: Path, before: os.stat_result) -> None:
    """Give a file back the times it had, as ``touch -r`` does."""
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
