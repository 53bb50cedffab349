"""Makes messages of what is read of files."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from strandline.connectors.files.hive import hive_columns
from strandline.connectors.files.paths import File
from strandline.connectors.files.positions import Position, Progress, Work
from strandline.connectors.files.reading import Reader
from strandline.errors import StrandlineError, TaskError
from strandline.lazy import pa
from strandline.message import Checkpoint, Insert, Schema, SourceMessage
from strandline.table import Table

__all__ = ["Delivery"]


@dataclass(slots=True)
class Delivery:
    """Puts the rows of small files together, and sends a checkpoint after every batch."""

    table: Table
    reader: Reader
    outside: "pa.Schema"
    """The columns that stand in the names of directories only."""
    hive: "pa.Schema"
    """All that stand there."""
    file_column: str | None
    progress: Progress
    """Covers ``batches`` too."""
    batches: "list[pa.RecordBatch]" = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0
    """Of ``batches``."""

    def deliver(self, work: Work) -> Iterator[SourceMessage]:
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

    def _take(self, file: File, batch: "pa.RecordBatch | None", position: Position) -> Iterator[SourceMessage]:
        if batch is not None:
            batch = self._with_file(batch, file)
            if not self._has_room(batch):
                yield from self.flush()
            self.batches.append(batch)
            self.rows += batch.num_rows
            self.size_bytes += batch.nbytes
        self.progress.go_to(file.key, position)

    def flush(self) -> Iterator[SourceMessage]:
        """Send what is there, and where it ends."""
        if self.batches:
            batches, self.batches, self.rows, self.size_bytes = self.batches, [], 0, 0
            together = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
            yield Insert(self.table.name, together)
            yield Checkpoint(self.progress.cursor())

    def _has_room(self, batch: "pa.RecordBatch") -> bool:
        if not self.batches:
            return True
        rows, size = self.rows + batch.num_rows, self.size_bytes + batch.nbytes
        fits = rows <= self.reader.rows_max and size <= self.reader.bytes_max
        return fits and bool(batch.schema.equals(self.batches[0].schema))

    def _with_file(self, batch: "pa.RecordBatch", file: File) -> "pa.RecordBatch":
        batch = hive_columns(file, batch, self.hive)
        if self.file_column is None:
            return batch
        return batch.append_column(self.file_column, pa.repeat(pa.scalar(file.key), batch.num_rows))

    def _changed(self, schema: "pa.Schema") -> Schema:
        if twice := [name for name in schema.names if name in {*self.outside.names, self.file_column}]:
            raise TaskError(
                f"column {twice[0]!r} is in some files of the table, and stands in the names of others",
                hint="give the files that have it a table of their own, or another `file_column`",
            )
        schema = pa.schema([*schema, *self.outside])
        if self.file_column is not None:
            schema = schema.append(pa.field(self.file_column, pa.string()))
        self.table = replace(self.table, schema=schema)
        return Schema(self.table)
