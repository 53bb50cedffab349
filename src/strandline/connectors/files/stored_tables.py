"""Tables as directories of files: what the log says of them, how they are made to fit, and how they are read."""

import base64
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from strandline.connectors.arrow.changes import changes_to, merged
from strandline.connectors.files.formats import FORMATS, FileFormat, Form
from strandline.connectors.files.log import Log, Record
from strandline.connectors.files.partition import check_partitions, is_text, rows_of
from strandline.connectors.files.store import OWN
from strandline.destination import RECREATE, Change, MigrateMode, Scope
from strandline.errors import TaskError
from strandline.lazy import pa, pc
from strandline.ownership import Owner
from strandline.paths import encode_part
from strandline.state_format import tables_in
from strandline.table import CLIENT_ID, SOURCE_NAME, Table

__all__ = ["Layout", "folder_of", "owners_of", "record_of", "table_of"]

_HINT = "choose another `path`; migrate_mode: forced creates it again, empty"


def folder_of(table: str) -> str:
    """Where the files of a table are, relative to the root."""
    return encode_part(table)


def table_of(name: str, record: Record) -> Table:
    """The stored table."""
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(record.schema)))
    return Table(name, schema, record.primary_key)


def record_of(table: Table, layout: "Layout", mark: str = "") -> Record:
    """What the log keeps of a table; a new mark if none is given."""
    schema = pa.schema([pa.field(one.name, one.type) for one in table.schema])
    text = base64.b64encode(schema.serialize()).decode()
    return Record(text, table.primary_key, layout.partition_by, layout.form.name, mark or secrets.token_hex(8))


def owners_of(log: Log, table: str) -> tuple[Owner, ...]:
    """Who writes a table; where the log does not say, the states tell. Two owners that they name share it."""
    record = log.tables.get(table)
    if record is None or record.owners:
        return record.owners if record is not None else ()
    newest = ((key, commits[0].text) for key, commits in log.states.items() if commits)
    owners = {Owner(key.source, key.destination) for key, text in newest if table in tables_in(key.task, text)}
    return tuple(sorted(replace(owner, shared=len(owners) > 1) for owner in owners))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tables of a destination are laid out."""

    root: Path
    form: Form
    partition_by: tuple[str, ...]

    def check(self, table: Table) -> None:
        """Whether a table can be stored.

        Raises:
            TaskError: it cannot.
        """
        folder = self.root / folder_of(table.name)
        if (folder / OWN).is_dir():
            raise TaskError(
                f"table {table.name!r}: {folder} is the root of another destination, whose files would be among its own",
                hint="give one of the two another `path` or `schema`",
            )
        for field in table.schema:
            where = f"{table.name}.{field.name}"
            try:
                field.name.encode()
            except UnicodeEncodeError as error:
                raise TaskError(f"{where}: the name is not Unicode") from error
            self.form.check(field.type, where=where)
        if self.partition_by:
            check_partitions(table, self.partition_by)
            texts = [name for name in self.partition_by if is_text(table.schema.field(name).type)]
            if texts and (self.root / OWN.upper()).exists():
                raise TaskError(
                    f"{table.name}.{texts[0]}: this file system does not tell cases apart, so texts cannot be names of "
                    "directories",
                    hint="choose a `path` on another file system, or partition by another column",
                )

    def changes(self, record: Record | None, table: Table, mode: MigrateMode) -> list[Change]:
        """What makes the stored table fit.

        Raises:
            TaskError: only creating it again would, and ``mode`` is safe.
        """
        self.check(table)
        if record is None:
            return changes_to(None, table, mode)
        problems = []
        if record.format != self.form.name:
            problems.append(f"its files are {record.format}, and would be {self.form.name}")
        if record.partition_by != self.partition_by:
            problems.append(f"it is partitioned by {record.partition_by}, and would be by {self.partition_by}")
        if not problems:
            return changes_to(table_of(table.name, record), table, mode, hint=_HINT)
        if mode is MigrateMode.SAFE:
            raise TaskError(f"table {table.name!r} cannot be changed in place: {'; '.join(problems)}", hint=_HINT)
        return [Change(RECREATE, table.name, detail="; ".join(problems))]

    def changed(self, record: Record, table: Table) -> Record:
        """The stored table with what was added."""
        schema = merged(table_of(table.name, record).schema, table.schema)
        return replace(record_of(replace(table, schema=schema), self, record.mark), owners=record.owners)

    # files -----------------------------------------------------------------------------------------------------------

    def files(self, table: str, *, any_format: bool = False) -> Iterator[str]:
        """The data files of a table, relative to the root, in no order; with ``any_format`` also of other formats."""
        forms = FORMATS.values() if any_format else [self.form]
        start = self.root / folder_of(table)
        if not start.exists():
            return
        for folder, _, names in os.walk(start, onerror=_raise):
            for name in names:
                if any(form.is_one(name) for form in forms):
                    yield str((Path(folder) / name).relative_to(self.root))

    def is_empty(self, table: str, record: Record) -> bool:
        """Whether no data file of a stored table is there; its format may be another than this layout's."""
        stored = replace(self, form=FORMATS[FileFormat(record.format)])
        return next(stored.files(table), None) is None

    def holds(self, table: str, record: Record, scope: Scope) -> bool:
        """Whether a stored table has rows of a scope."""
        stored = table_of(table, record)
        names = [name for name in (SOURCE_NAME, CLIENT_ID) if name in stored.schema.names]
        if SOURCE_NAME not in names:
            return False
        layout = replace(self, form=FORMATS[FileFormat(record.format)], partition_by=record.partition_by)
        for batch in layout.read(stored, record, names):
            mine = pc.equal(batch.column(SOURCE_NAME), scope.source_name)
            if CLIENT_ID in names:
                client = batch.column(CLIENT_ID)
                same = pc.is_null(client) if scope.partition is None else pc.equal(client, scope.partition)
                mine = pc.and_(mine, same)
            if pc.any(mine).as_py():
                return True
        return False

    def read(self, table: Table, record: Record, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """The rows of all files that are there when this is called."""
        files = sorted(self.files(table.name))
        stored = table_of(table.name, record).schema
        for name in columns:
            if name not in stored.names:
                raise TaskError(f"{table.name} has no column {name!r}")
        schema = pa.schema([table.schema.field(name) for name in columns])
        return self._rows(table, files, schema)

    def _rows(self, table: Table, files: Sequence[str], schema: "pa.Schema") -> "Iterator[pa.RecordBatch]":
        for file in files:
            below, where = PurePath(file).relative_to(folder_of(table.name)), str(self.root / file)
            yield from rows_of(self.form, self.root / file, schema, self.partition_by, below=below, where=where)


def _raise(error: OSError) -> None:
    raise error
