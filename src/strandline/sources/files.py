"""The ``files`` source: CSV, JSON lines and Parquet files of a directory, a pattern or one file, read incrementally.

A table is a set of files, and its cursor says of each what was delivered (see ``_file_positions``). A sync reads the
files that are new and the tails of those that have grown, and does not open what looks unchanged.

What is promised:

- Every complete record of every file is delivered, whatever its name, its times and its order. A file that looks
  changed is compared with the digest of what was read of it, so that touching, copying back or renaming one delivers
  nothing twice. One that was changed within 2 s before it was read is compared at the next sync too, for its times may
  be too coarse to show a change.
- Growth: the new lines (``on_grow: tail``), or the whole file again as new versions of its rows (``reread``). A file
  has grown when it begins with all that was read of it.
- Anything else, a shorter file too, is a replacement: the whole file is delivered again as new versions of its rows,
  which append mode adds to the old ones (``on_replace: reread``), or is an error (``fail``). Rows that are in it no
  more stay in the destination.
- A file that vanishes is forgotten, and its rows stay (``on_vanish: ignore``), or is an error (``fail``); so is a table
  all of whose files vanish. If it comes
  back after a sync without it, it is a new file. If its content is found under a new name it was renamed, and is not
  delivered again: the same to the last byte (compressed now, perhaps), or the same inode and rotated, which means that
  the old name has another content now, or that the new name begins with the old one; then only the new lines are read.
- A last line without a newline is delivered once its file has not been changed for 5 s before the run, if it is a
  whole record. If the line then goes on, it was none, and is delivered again when it is complete. Before that, it is
  left for the next sync, or is an error (``on_unfinished: wait | fail``).
- Times are compared with the start of the run: the clocks of its machine and of the file system have to agree within
  those 2 s.
- What cannot be read is an error that names file and line; what comes before it stays delivered, nothing is skipped.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from strandline.errors import StrandlineError, TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Insert, Message, Schema
from strandline.source import RunContext, Task
from strandline.sources._file_content import UTF_8
from strandline.sources._file_csv import CSVLines, CSVSettings
from strandline.sources._file_json import JSONLines
from strandline.sources._file_paths import File, Place, find_files, shown
from strandline.sources._file_positions import Policies, Position, Survey, Work, cursor_of, positions_of
from strandline.sources._file_reading import LineFormat, Reader
from strandline.sources._file_schema import table_schema
from strandline.sources._file_types import declared_types
from strandline.table import Guarantee, Table

__all__ = ["FilesSource"]

_Format = Literal["csv", "jsonl", "parquet"]


def _local(path: str) -> str:
    if re.match(r"[A-Za-z][\w+.-]*://", path):
        raise ValueError(f"{path.partition('://')[0]}:// is not supported yet: files reads local paths only")
    if not path or "\0" in path:
        raise ValueError("a path is needed")
    return path


class FilesSettings(BaseModel):
    """What to read, and what to do about files that change."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[str, AfterValidator(_local)] = Field(
        description="A directory, a file, or a pattern with * ? [] and ** (any number of directories). "
        "Names that begin with . or _ are passed over."
    )
    format: _Format | None = Field(default=None, description="Of all files. Default: by their names.")
    table: str | None = Field(
        default=None,
        min_length=1,
        description="One table from all files. Default: one for each directory at the top, or the name of a file there.",
    )
    primary_key: list[str] = Field(default=[], description="Columns that identify a row, in every table.")
    incremental_key: str | None = Field(
        default=None, description="Column that orders the rows. For information: files are read by file."
    )
    types: dict[str, str] = Field(
        default={},
        description="Arrow types of columns in CSV and JSON files, like string, int64, timestamp[us, UTC] or "
        "decimal128(18, 4). string holds every value as it is written. Numbers with a fraction are doubles otherwise, "
        "which keep 15 digits.",
    )
    csv: CSVSettings = Field(default=CSVSettings(), description="How CSV files are written.")
    file_column: str | None = Field(
        default=None, min_length=1, description="Adds a column of this name with the path of the file of each row."
    )
    on_grow: Literal["tail", "reread"] = Field(
        default="tail", description="A file of lines has grown: deliver the new lines, or all of them again."
    )
    on_replace: Literal["reread", "fail"] = Field(
        default="reread", description="A file has changed otherwise: deliver all of it again, or fail."
    )
    on_vanish: Literal["ignore", "fail"] = Field(
        default="ignore", description="A file is gone: forget it and leave its rows, or fail."
    )
    on_unfinished: Literal["wait", "fail"] = Field(
        default="wait", description="The last line of a file is not complete: leave it for the next sync, or fail."
    )


class FilesSource:
    """Reads the files of local directories. Implements ``strandline.source.Source``."""

    Spec = FilesSettings

    def __init__(self, spec: FilesSettings) -> None:
        self._spec = spec

    def tables(self) -> Sequence[Table]:
        """Every table, with columns by what its files begin with.

        Raises:
            UsageError: there are no files, they are of several formats, or do not agree on a type.
        """
        files = self._files()
        if not files:
            raise UsageError(
                f"there are no files at {self._spec.path!r}", hint="mend `path`; it may hold * ? [] and **"
            )
        by_table = sorted(files, key=lambda file: file.table)
        tables = [self._table(name, list(of)) for name, of in groupby(by_table, key=lambda file: file.table)]
        found = [table for table in tables if table is not None]
        if not found:
            raise UsageError(
                f"the files at {self._spec.path!r} have no rows yet, so their columns have no types",
                hint="declare `types` for all columns, or sync when there are rows",
            )
        return found

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """One task for each table."""
        return [Task(table.name, (table,)) for table in tables]

    def read(self, task: Task, cursor: Cursor | None, context: RunContext) -> Iterator[Message]:
        """The rows of files that are new, and of what was added to others. See the module for what is promised."""
        table, spec = task.tables[0], self._spec
        known = positions_of(cursor)
        try:
            files = self._files(lambda name: name == task.id)
        except UsageError as error:
            raise TaskError(error.message, hint=error.hint) from error
        lines, encoding = self._lines(files)
        started_ns = int(context.started_at.timestamp() * 1_000_000) * 1_000
        policies = Policies(spec.on_grow, spec.on_replace, spec.on_vanish)
        survey = Survey(known, policies, encoding, started_ns)
        survey.make(files)
        reader = Reader(
            schema=pa.schema([column for column in table.schema if column.name != spec.file_column]),
            lines=lines,
            encoding=encoding,
            wait=spec.on_unfinished == "wait",
            started_ns=started_ns,
            rows_max=context.batch_rows,
            bytes_max=context.batch_bytes,
        )
        delivery = _Delivery(table, reader, spec.file_column, {key: list(at) for key, at in survey.positions.items()})
        for work in survey.works:
            yield from delivery.deliver(work)
        yield from delivery.flush()
        yield Complete(table.name)
        yield Checkpoint(cursor_of(delivery.positions))

    def acknowledge(self, task: Task, cursor: Cursor) -> None:
        """Files need not be told."""

    def missing(self, task: str) -> None:
        """All files of a table are gone, or have no rows; ``on_vanish`` says whether that may be."""
        if self._spec.on_vanish == "fail":
            raise TaskError(
                f"all files of table {task!r} have vanished from {self._spec.path!r}, or are empty",
                hint="put them back, or set `on_vanish` to accept it",
            )

    def close(self) -> None:
        """Nothing is held between calls."""

    def _files(self, wanted: Callable[[str], bool] = lambda _table: True) -> list[File]:
        """The files of the wanted tables, each with its table and format.

        Raises:
            UsageError: there is no such place, or a file is of no format, or of another than declared.
        """
        name = self._spec.table
        place = Place.of(self._spec.path)
        files = find_files(place, wanted if name is None else lambda _table: True)
        return [replace(file, format=self._format(file), table=name or file.table) for file in files]

    def _format(self, file: File) -> _Format:
        where, declared = shown(file.key), self._spec.format
        if declared is not None and file.format not in (None, declared):
            raise UsageError(
                f"{where} is {file.format} by its name, but `format` is {declared}",
                hint="choose files with a pattern in `path`, such as '**/*.csv'",
            )
        format_ = next((one for one in get_args(_Format) if one == (declared or file.format)), None)
        if format_ is None:
            raise UsageError(
                f"the format of {where} is unknown",
                hint="set `format`, or choose files with a pattern in `path`, such as '**/*.csv'",
            )
        if format_ == "parquet" and file.compression:
            raise UsageError(f"{where} is compressed Parquet", hint="unpack it: Parquet is compressed inside")
        return format_  # type: ignore[no-any-return]

    def _lines(self, files: Sequence[File]) -> tuple[Callable[[], LineFormat], str]:
        """What reads files of lines, and the encoding of the files."""
        declared = declared_types(self._spec.types)
        if any(file.format == "csv" for file in files):
            return lambda: CSVLines(self._spec.csv, declared), self._spec.csv.encoding
        return lambda: JSONLines(declared), UTF_8

    def _table(self, name: str, files: Sequence[File]) -> Table | None:
        formats = sorted({str(file.format) for file in files})
        if len(formats) > 1:
            first = {file.format: file.key for file in reversed(files)}
            raise UsageError(
                f"table {name!r} has files of several formats: {', '.join(shown(first[one]) for one in formats)}",
                hint="give each format a source of its own, with a pattern in `path`",
            )
        if name.startswith("@"):
            raise UsageError(f"{name!r} cannot be the name of a table", hint="set `table`, or rename the file")
        schema = table_schema(files, *self._lines(files))
        spec = self._spec
        if schema is None:
            return None
        if spec.file_column is not None:
            if spec.file_column in schema.names:
                raise UsageError(
                    f"table {name!r} has a column {spec.file_column!r} already", hint="choose another `file_column`"
                )
            schema = schema.append(pa.field(spec.file_column, pa.string()))
        return Table(
            name,
            schema,
            primary_key=tuple(spec.primary_key),
            incremental_key=(spec.incremental_key,) if spec.incremental_key else (),
            incremental=True,
            description=f"{len(files)} {formats[0]} file{'s' * (len(files) != 1)} at {spec.path}",
            guarantee=self._guarantee(),
        )

    def _guarantee(self) -> Guarantee:
        spec = self._spec
        again = "is delivered again in full, as new versions of its rows" if spec.on_replace == "reread" else "fails"
        limits = [
            "a file that was changed so that its size, times and inode stay the same is not noticed",
            f"a file that was replaced {again}; rows that are in no file any more stay",
            "a last line without a newline waits until its file was quiet for 5 s",
        ]
        if not spec.primary_key:
            limits.append("without a primary key, equal rows of different syncs are one row in the overwrite modes")
        return Guarantee("settled (file contents)", "; ".join(limits))


@dataclass(slots=True)
class _Delivery:
    """Puts the rows of small files together, and sends a checkpoint after every batch."""

    table: Table
    reader: Reader
    file_column: str | None
    positions: dict[str, list[Any]]
    """Of each file; covers ``batches`` too."""
    batches: "list[pa.RecordBatch]" = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0
    """Of ``batches``."""

    def deliver(self, work: Work) -> Iterator[Message]:
        """What is to be read of one file. When that fails, what was read before is sent first."""
        schema = self.reader.schema
        try:
            with closing(self.reader.read(work)) as steps:
                for batch, position in steps:
                    if not schema.equals(self.reader.schema):
                        yield from self.flush()
                        schema = self.reader.schema
                        yield self._changed(schema)
                    yield from self._take(work.file, batch, position)
        except StrandlineError:
            yield from self.flush()
            raise

    def _take(self, file: File, batch: "pa.RecordBatch | None", position: Position) -> Iterator[Message]:
        if batch is not None:
            batch = self._with_file(batch, file)
            if not self._has_room(batch):
                yield from self.flush()
            self.batches.append(batch)
            self.rows += batch.num_rows
            self.size_bytes += batch.nbytes
        self.positions[file.key] = list(position)

    def flush(self) -> Iterator[Message]:
        """Send what is there, and where it ends."""
        if self.batches:
            batches, self.batches, self.rows, self.size_bytes = self.batches, [], 0, 0
            together = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
            yield Insert(self.table.name, together)
            yield Checkpoint(cursor_of(self.positions))

    def _has_room(self, batch: "pa.RecordBatch") -> bool:
        if not self.batches:
            return True
        rows, size = self.rows + batch.num_rows, self.size_bytes + batch.nbytes
        fits = rows <= self.reader.rows_max and size <= self.reader.bytes_max
        return fits and bool(batch.schema.equals(self.batches[0].schema))

    def _with_file(self, batch: "pa.RecordBatch", file: File) -> "pa.RecordBatch":
        if self.file_column is None:
            return batch
        return batch.append_column(self.file_column, pa.repeat(pa.scalar(file.key), batch.num_rows))

    def _changed(self, schema: "pa.Schema") -> Schema:
        if self.file_column is not None:
            schema = schema.append(pa.field(self.file_column, pa.string()))
        self.table = replace(self.table, schema=schema)
        return Schema(self.table)
