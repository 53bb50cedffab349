"""A table of a lake: what is there, and how its own log is made to say what was decided.

Whoever makes a lake of another format writes a ``LakeTable``, a ``Form`` (see ``rows``) and a ``Format`` that makes both.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from strandline.connectors.lake.log import Intent
from strandline.errors import StateError, TaskError
from strandline.lazy import pa, pq
from strandline.table import Table

if TYPE_CHECKING:
    from strandline.connectors.lake.rows import Form

__all__ = ["DataFile", "Format", "LakeTable", "Replan", "Snapshot", "batches_of"]

_ATTEMPTS_MAX = 200


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a table."""

    path: str
    """As the table's own log has it: in Delta encoded as in a URL, which matters where others name files."""
    rows: int | None
    partition: Mapping[str, Any]
    low: Mapping[str, Any]
    high: Mapping[str, Any]
    """The least and the greatest value by column, of those of which they are known."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of a table."""

    version: Any
    """Another one after every commit."""
    id: str
    files: Mapping[str, DataFile]
    columns: Sequence[Mapping[str, Any]]
    """As the format describes them; each has a ``name``."""
    told: int
    """The newest entry of ours that its log tells of."""
    trouble: str
    """Why nothing can be written to it; empty: it can."""
    detail: Any = None
    """What else its format needs for a commit after it."""


class Replan(Protocol):
    """How stored rows that are to go are found again where somebody has moved them since it was decided."""

    def rewritten(self, intent: Intent, file: DataFile) -> "list[dict[str, Any]] | None":
        """What comes instead of a file, as ``Intent.adds`` has it, with what stays of it; ``None``: all of it."""


class LakeTable(ABC):
    """One table of a lake. Used by one thread at a time, but for ``schema_of``, ``new_name``, ``sink`` and ``added``."""

    where: str
    """For people."""

    @abstractmethod
    def snapshot(self) -> Snapshot | None:
        """What is there now; ``None``: no table.

        Raises:
            TaskError: it cannot be read.
        """

    @abstractmethod
    def anything(self) -> bool:
        """Whether there is anything in its place."""

    def trouble(self, form: "Form", found: Snapshot) -> str:
        """Why no rows of this form can be written to what is there; empty: they can."""
        del form, found
        return ""

    @abstractmethod
    def columns(self, form: "Form") -> list[Mapping[str, Any]]:
        """The columns of a form as the format describes them."""

    @abstractmethod
    def clear(self, identity: str) -> None:
        """Remove what is there, if it is the table of this identity."""

    # its log ---------------------------------------------------------------------------------------------------------

    def settled(self, intent: Intent, replan: Replan) -> Snapshot:
        """Make the log say what was decided, unless it does; then, what is there.

        Raises:
            TaskError: the table is gone, or another one is there.
            StateError: a file that was decided on is gone.
        """
        for attempt in range(_ATTEMPTS_MAX):
            if attempt:
                time.sleep(0.001 * min(attempt, 50))
            found = self.snapshot()
            if found is not None and found.id != intent.id:
                raise TaskError(
                    f"{self.where}: another table is there than the one that was written",
                    hint="move it away, and put the table back; or `strandline sync --full-refresh`",
                )
            if found is not None and found.told >= intent.number:
                return found
            if found is None and not intent.creates:
                raise TaskError(
                    f"{self.where}: the table is gone", hint="put it back; or `strandline state reset`, and sync again"
                )
            if found is not None and attempt == 0 and found.trouble:
                raise TaskError(
                    f"{self.where}: {found.trouble}",
                    hint="nothing is lost: what was decided is done at the next sync that can",
                )
            adds, removes = _exchanged(intent, found, replan)
            self._say(intent, found, adds, removes)
        raise TaskError(f"{self.where}: others commit so often that we never could")

    @abstractmethod
    def _say(
        self, intent: Intent, found: Snapshot | None, adds: Sequence[Mapping[str, Any]], removes: Sequence[str]
    ) -> None:
        """Try the commit after ``found``; whether it is ours, the next look tells.

        Args:
            intent: what was decided.
            found: what is there; ``None``: the table is to be made.
            adds: the files that come.
            removes: the paths of those that go.
        """

    # files -----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def new_name(self) -> str:
        """The path of a file that is not there yet."""

    @abstractmethod
    def sink(self, path: str) -> Any:
        """See ``Store.sink``."""

    def schema_of(self, schema: "pa.Schema", form: "Form") -> "pa.Schema":
        """What a file says of its columns, which are those of the form or somebody else's."""
        del form
        return schema

    @abstractmethod
    def added(self, path: str, size: int, partition: Mapping[str, Any], described: Any) -> Mapping[str, Any]:
        """A new file as ``Intent.adds`` has it, of the size in bytes, with Parquet's description of it; has a ``path``."""

    @abstractmethod
    def settle(self) -> None:
        """Make the names of new files durable."""

    @abstractmethod
    def delete(self, paths: Sequence[str]) -> None:
        """Remove files that no commit names."""

    @abstractmethod
    def batches(self, file: DataFile, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The rows of a file as they lie there, without columns that are not in it.

        Args:
            file: one of a snapshot.
            columns: which of those that are there; default all.

        Raises:
            StateError: the file is gone.
        """


class Format(Protocol):
    """What makes a lake one of Delta tables, or of others."""

    def table(self, name: str) -> LakeTable:
        """The place of a table, whether there is one or not."""

    def form(self, table: Table, partition_by: tuple[str, ...]) -> "Form":
        """How its rows are laid out."""


def batches_of(
    source: Callable[[], Any], where: str, chosen: "Callable[[pa.Schema], Mapping[str, str]]"
) -> "Iterator[pa.RecordBatch]":
    """The rows of a Parquet file, in plain types.

    Args:
        source: opens what Arrow opens.
        where: for people.
        chosen: of the columns of the file those that are wanted, with the names that they are to have.

    Raises:
        StateError: the file is gone.
    """
    try:
        with pq.ParquetFile(source()) as opened:
            wanted = chosen(opened.schema_arrow)
            count = opened.metadata.num_rows
            if not wanted:
                if count:
                    yield pa.RecordBatch.from_struct_array(pa.array([{}] * count, pa.struct([])))
                return
            for batch in opened.iter_batches(columns=list(wanted), batch_size=1 << 16):
                yield _plain(batch.select(list(wanted)), list(wanted.values()))
    except FileNotFoundError as error:
        raise StateError(
            f"{where}: gone, and rows with it",
            hint="a clean-up that keeps less than its default may have removed it: restore it, or `strandline sync "
            "--full-refresh`",
        ) from error


def _exchanged(
    intent: Intent, found: Snapshot | None, replan: Replan
) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    """The files that come, and the paths of those that go, given what is there."""
    active = found.files if found is not None else {}
    adds, removes = list(intent.adds), []
    if intent.creates:
        return adds, list(active)
    missing = False
    for path, rewritten in intent.rewrites.items():
        if path in active:
            removes.append(path)
            adds += rewritten
        else:
            missing = True
    if missing:
        for path in active.keys() - intent.rewrites.keys():
            left = replan.rewritten(intent, active[path])
            if left is not None:
                removes.append(path)
                adds += left
    return adds, removes


def _plain(batch: "pa.RecordBatch", names: list[str]) -> "pa.RecordBatch":
    """As we write it: other writers leave views and dictionaries in a file's schema, of which Arrow cannot take every row."""
    fields = [pa.field(name, _plain_type(one.type)) for name, one in zip(names, batch.schema, strict=True)]
    schema = pa.schema(fields)
    return batch if schema.equals(batch.schema) else batch.rename_columns(names).cast(schema)


def _plain_type(kind: "pa.DataType") -> "pa.DataType":
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([pa.field(one.name, _plain_type(one.type)) for one in kind])
    if types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind):
        return pa.list_(pa.field(kind.value_field.name, _plain_type(kind.value_type)))
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    return pa.binary() if types.is_large_binary(kind) or types.is_binary_view(kind) else kind
