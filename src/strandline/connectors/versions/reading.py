"""One pass over one table that keeps its versions.

A first pass reads all files of one version, in an order of their own; a later one the files of each version that came after the saved
one. A checkpoint says the file and how many of its rows are read. What a pass has to do follows from the saved version and the one
that it reads, so that a pass that is resumed finds the same; where it does not, as files were removed meanwhile, the cursor
has expired.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from strandline.connectors.versions.cursor import Pass, Saved
from strandline.connectors.versions.history import KIND, History, VersionFile
from strandline.connectors.versions.work import Agenda, Kind, Work, agenda
from strandline.errors import CursorExpiredError
from strandline.lazy import pa, pc
from strandline.message import Checkpoint, Complete, Delete, Insert, Notice, Present, SourceMessage
from strandline.reading import Reading, within_bounds
from strandline.table import Table
from strandline.warned import Code

__all__ = ["TableRead"]

_PLACE = "the place of a row"
_NOW = ("insert", "update_postimage")
_BEFORE = ("delete", "update_preimage")


@dataclass(frozen=True, slots=True)
class TableRead:
    """What a pass reads, and where from."""

    history: History
    table: Table
    reading: Reading

    def messages(self, saved: Saved | None) -> Iterator[SourceMessage]:
        """All of ``Source.read``, up to the version of the history, which is that of the pass where one is resumed."""
        name, history = self.table.name, self.history
        saved = self._compared(saved)
        assert saved.current is not None
        plan = self._agenda(saved)
        if plan.unsaid and not saved.current.work:
            text = (
                f"{history.where}: rows that {history.word} {plan.unsaid} removed, if any, stay stored, since it does not say which they are; "
                "write_mode overwrite-delete-stale removes them, and so does a change data feed from then on"
            )
            yield Notice(name, text, Code.ROWS_KEPT)
        at, path, row = saved.current.work, saved.current.path, saved.current.row
        if at > len(plan.works) or (path and (at == len(plan.works) or plan.works[at].file.path != path)):
            raise CursorExpiredError(
                f"{history.where}: file {path!r}, in which a pass was interrupted, is not there any more"
            )
        for number, work in enumerate(plan.works[at:], at):
            for read, batch in self._batches(work, row):
                yield from self._delivered(work, batch)
                if work.kind in {Kind.ROWS, Kind.CHANGED}:
                    yield Checkpoint(self._at(saved, number, work.file, read))
            row = 0
        if plan.sweep or (self.reading.lacks and self.reading.mirror and self.table.primary_key):
            yield from self._present()
        yield Complete(name)
        ended = Saved(
            shown=f"{history.word} {history.version}",
            table=history.identity,
            version=history.version,
            mark=history.mark,
        )
        yield Checkpoint(ended.json_value() if self.table.incremental else None)

    def rows_of(self, keys: "pa.RecordBatch") -> "Iterator[pa.RecordBatch]":
        """The rows of these primary keys, as they are at this version."""
        wanted = pa.table(keys)
        for file in self.history.files():
            for _, batch in self._batches(Work(Kind.ROWS, file), 0):
                found = _with_keys(batch, wanted)
                if found.num_rows:
                    yield from within_bounds(found, self.reading.batch_bytes)

    def _compared(self, saved: Saved | None) -> Saved:
        """The cursor in the middle of a pass.

        Raises:
            CursorExpiredError: it is of another table, or of another history of it.
        """
        history = self.history
        if saved is None:
            return Saved(shown="", table=history.identity, current=Pass(until=history.version, mark=history.mark))
        if saved.table != history.identity:
            raise CursorExpiredError(f"{history.where}: another table is there than the one that was read")
        if saved.current is not None and saved.current.mark not in {"", history.mark}:
            raise CursorExpiredError(
                f"{history.where}: {history.word} {history.version} is another one than the one that was being read"
            )
        if (
            saved.version is not None
            and "" not in (found := {saved.mark, history.mark_of(saved.version)})
            and len(found) > 1
        ):
            raise CursorExpiredError(
                f"{history.where}: {history.word} {saved.version} is another one than the one that was read"
            )
        begun = Pass(until=history.version, mark=history.mark)
        return saved if saved.current is not None else saved.model_copy(update={"current": begun})

    def _agenda(self, saved: Saved) -> Agenda:
        history = self.history
        if saved.version is None:
            return Agenda([Work(Kind.ROWS, file) for file in history.files()])
        if saved.version == history.version:
            return Agenda(())
        return agenda(
            history.changes(saved.version),
            where=f"{history.where}: {history.word}",
            absorbs=self.reading.absorbs,
            mirror=self.reading.mirror,
        )

    def _at(self, saved: Saved, work: int, file: VersionFile, row: int) -> dict[str, Any]:
        assert saved.current is not None
        place = saved.current.model_copy(update={"work": work, "path": file.path, "row": row})
        shown = f"{self.history.word} {place.until}, file {work + 1}"
        return dict(saved.model_copy(update={"shown": shown, "current": place}).json_value())

    def _batches(self, work: Work, after: int) -> "Iterator[tuple[int, pa.RecordBatch]]":
        """What is needed of a file."""
        columns = list(self.table.schema)
        if work.kind in {Kind.GONE, Kind.CHANGED_GONE}:
            columns = [self.table.schema.field(name) for name in self.table.primary_key]
        if work.kind in {Kind.CHANGED, Kind.CHANGED_GONE}:
            columns.append(pa.field(KIND, pa.string()))
        reading = self.reading
        return self.history.batches(
            work.file, pa.schema(columns), after=after, rows_max=reading.batch_rows, bytes_max=reading.batch_bytes
        )

    def _delivered(self, work: Work, batch: "pa.RecordBatch") -> Iterator[SourceMessage]:
        self.reading.check_open()
        if work.kind in {Kind.CHANGED, Kind.CHANGED_GONE}:
            kinds = _NOW if work.kind is Kind.CHANGED else _BEFORE
            batch = batch.filter(pc.is_in(batch[KIND], pa.array(kinds))).drop_columns([KIND])
        if not batch.num_rows:
            return
        for part in within_bounds(batch, self.reading.batch_bytes):
            is_gone = work.kind in {Kind.GONE, Kind.CHANGED_GONE}
            yield Delete(self.table.name, part) if is_gone else Insert(self.table.name, part)

    def _present(self) -> Iterator[SourceMessage]:
        """All primary keys of this version."""
        fields = [self.table.schema.field(name) for name in self.table.primary_key]
        empty = True
        for file in self.history.files():
            for _, keys in self._batches(Work(Kind.GONE, file), 0):
                if keys.num_rows:
                    empty = False
                    yield Present(self.table.name, keys)
        if empty:
            yield Present(self.table.name, pa.RecordBatch.from_pylist([], pa.schema(fields)))


def _with_keys(batch: "pa.RecordBatch", keys: "pa.Table") -> "pa.RecordBatch":
    """The rows that have one of these keys."""
    names = keys.schema.names
    for name in names:  # most rows go here, and of a key of one column all that are to go
        batch = batch.filter(pc.is_in(batch[name], keys[name].combine_chunks()))
    if len(names) == 1 or not batch.num_rows:
        return batch
    numbered = pa.table([*(batch[name] for name in names), pa.arange(0, batch.num_rows)], names=[*names, _PLACE])
    return batch.take(numbered.join(keys, names, join_type="left semi")[_PLACE].combine_chunks())
