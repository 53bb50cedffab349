"""How the rows of a table are laid out in data files of an object store: in the formats and directories of ``files``."""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

from strandline.connectors.arrow.casts import MEND_VALUE, cast_to
from strandline.connectors.files import formats
from strandline.connectors.files.formats import FORMATS, Compression, FileFormat
from strandline.connectors.files.partition import check_partitions, rows_of, split
from strandline.connectors.lake.lake_table import DataFile, LakeTable
from strandline.connectors.lake.rows import DataWriter, Form
from strandline.errors import TaskError
from strandline.lazy import pa

if TYPE_CHECKING:
    from strandline.connectors.files.stored_objects import StoredObjects

__all__ = ["StoredForm"]


@dataclass(frozen=True)
class StoredForm(Form):
    """See ``Form``. ``partition_by`` begins with the format, which is what its files are apart by before all else."""

    compression: Compression | None = None
    """Default: the first that the format has."""
    files_max: int = 200
    rewrites: ClassVar[bool] = False
    bytes_max: ClassVar[int] = sys.maxsize
    """A commit is one file of a table, so that its rows come into sight at once."""
    more: ClassVar[str] = ", or raise partitions_max"

    @property
    def file_form(self) -> formats.Form:
        """The format of the files."""
        return FORMATS[FileFormat(self.partition_by[0])]

    @property
    def suffix(self) -> str:
        """Of the name of a file."""
        return self.file_form.suffix(self.packing)

    @property
    def packing(self) -> Compression:
        """How the files are compressed."""
        can = self.file_form.compressions
        return self.compression if self.compression is not None and self.compression in can else can[0]

    @property
    def apart(self) -> tuple[str, ...]:
        """The columns whose values are directories."""
        return self.partition_by[1:]

    @property
    def partitions_max(self) -> int:
        """See ``Form``."""
        return self.files_max

    @property
    def laid_out(self) -> str:
        """See ``Form``."""
        return f"{self.partition_by[0]}, partitioned by {self.apart}"

    @property
    def outside(self) -> tuple[str, ...]:
        """See ``Form``."""
        return self.apart

    def check_partition(self, written: "Mapping[str, pa.DataType]") -> None:
        """See ``Form``."""
        del written
        if self.apart:
            check_partitions(self.table, self.apart)

    @cached_property
    def written(self) -> "dict[str, pa.DataType]":
        """See ``Form``."""
        for field in self.table.schema:
            where = f"{self.table.name}.{field.name}"
            try:
                field.name.encode()
            except UnicodeEncodeError as error:
                raise TaskError(f"{where}: the name is not Unicode") from error
            self.file_form.check(field.type, where=where)
        self.check_partition({})
        return {field.name: self.file_form.file_type(field.type) for field in self.table.schema}

    def encoded(self, batch: "pa.RecordBatch") -> "pa.Table":
        """See ``Form``."""
        arrays = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name not in self.written:
                raise TaskError(f"{self.table.name} has no column {name!r}")
            where = f"{self.table.name}.{name}"
            in_table = cast_to(column, self.table.schema.field(name).type, where=where)
            arrays[name] = self.file_form.to_file(in_table, where=where)
        return pa.table(arrays)

    def whole(self, rows: "pa.Table") -> "pa.Table":
        """See ``Form``."""
        there = rows.schema.names
        columns = [
            rows.column(name) if name in there else pa.nulls(rows.num_rows, kind) for name, kind in self.written.items()
        ]
        return pa.table(columns, names=list(self.written))

    def split(self, rows: "pa.Table") -> "Iterator[tuple[tuple[Any, ...], Mapping[str, Any], pa.Table]]":
        """See ``Form``."""
        for below, part in split(self.table, self.apart, rows):
            yield (below,), {"below": below, "suffix": self.suffix}, part

    def writer(self, sink: Any, schema: "pa.Schema") -> DataWriter:
        """See ``Form``."""
        return _FormWriter(self, sink, schema)

    # back ------------------------------------------------------------------------------------------------------------

    def stored(
        self, stored: LakeTable, file: DataFile, columns: Sequence[str] | None = None
    ) -> "Iterator[pa.RecordBatch]":
        """The rows of a file, in the types of the table; of these columns those that it has."""
        schema = self.table.schema
        wanted = [name for name in (schema.names if columns is None else columns) if name in schema.names]
        return self.read(stored, file, wanted, schema)

    def read(
        self, stored: LakeTable, file: DataFile, columns: Sequence[str], schema: "pa.Schema"
    ) -> "Iterator[pa.RecordBatch]":
        """See ``Form``."""
        content, where = cast("StoredObjects", stored).content(file)
        chosen = pa.schema([schema.field(name) for name in columns])
        return rows_of(self.file_form, content, chosen, self.apart, below=PurePath(file.path), where=where)


class _FormWriter:
    """See ``DataWriter``."""

    described: Any = None

    def __init__(self, form: StoredForm, sink: Any, schema: "pa.Schema") -> None:
        self._table, self._opened = form.table.name, ExitStack()
        unclosed = cast("IO[bytes]", _Unclosed(sink))
        self._writer = form.file_form.writer(unclosed, schema, form.packing, self._opened)

    def write_table(self, rows: "pa.Table") -> None:
        try:
            self._writer.write_table(rows)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TaskError(f"{self._table}: a row cannot be stored ({error})", hint=MEND_VALUE) from error

    def close(self) -> None:
        self._opened.close()


class _Unclosed(io.RawIOBase):
    """A compressor closes what it writes to."""

    def __init__(self, sink: Any) -> None:
        super().__init__()
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        return int(self._sink.write(content))
