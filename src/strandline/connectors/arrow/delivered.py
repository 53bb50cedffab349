"""The delivered set of a lineage and table: which versions of re-read rows are stored, and how often. For stores of files.

It is a list of Arrow files, each with every version once; what a later file says of a version replaces what an earlier one
said. A window adds one small file; files of similar size are merged, so that there are few of them, and each row is written
a few times only. Looking something up reads the files through, so that no more than the versions of a batch is kept beside them.
Everything is columnar. Where the files are, the store knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strandline.errors import TaskError
from strandline.lazy import pa, pc
from strandline.message import Insert
from strandline.table import CQ_ID, Table

__all__ = ["COLUMNS", "DeliveredSet", "Taken", "check_keys", "fresh_rows"]

_NUMBER_BYTES = 4
_CONTENT_BYTES = 12
_MERGED_ROWS_MAX = 1_000_000
"""A file of so many rows is not merged any more: it would have to be in memory."""
_COUNTS = ("seen", "delivered", "numbered")
COLUMNS = ["version", "pass", *_COUNTS]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the rows of a batch."""

    fresh: "pa.Array"
    """Whether each is to be stored."""
    numbers: "pa.Array"
    """Of each row, among those of its version in the pass, from 0."""


class DeliveredSet:
    """Used by one thread, for one window.

    Args:
        files: by their names, the oldest first.
        load: what one of them holds, in ``COLUMNS``.
        sync_time_us: of the pass; what an older one has seen or numbered does not count.
    """

    def __init__(self, files: Sequence[str], load: "Callable[[str], pa.Table]", sync_time_us: int) -> None:
        self.files = list(files)
        """Those that stay."""
        self.changed = False
        self._pass = sync_time_us
        self._stored = [load(file) for file in files]
        self._fresh: list[pa.Table] = []
        """What this window adds, the oldest first."""

    def take(self, versions: "pa.Array", *, reread: bool, numbered: bool, once: bool) -> Taken:
        """Look rows up, and count them from here on.

        Args:
            versions: of each row.
            reread: whether rows that are known are not to be stored again.
            numbered: whether the rows are numbered.
            once: whether a version is stored once at most; else its n-th row is new if fewer than n are stored.
        """
        encoded = versions.cast(pa.binary(16)).dictionary_encode()
        nth, counts = _occurrences(encoded.indices, len(encoded.dictionary))
        seen, delivered, known_numbers = self._counts(encoded.dictionary)
        of_row = encoded.indices
        if not reread:
            fresh = pa.repeat(pa.scalar(True), len(versions))
        elif once:
            fresh = pc.and_(pc.equal(delivered.take(of_row), 0), pc.equal(nth, 1))
        else:
            fresh = pc.greater(pc.add(seen.take(of_row), nth), delivered.take(of_row))
        numbers = pc.subtract(pc.add(known_numbers.take(of_row), nth), 1)
        if reread:
            seen = pc.add(seen, counts)
            delivered = pc.max_element_wise(seen, delivered)
        if numbered:
            known_numbers = pc.add(known_numbers, counts)
        self._add(encoded.dictionary, seen, delivered, known_numbers)
        return Taken(fresh, numbers)

    def complete(self) -> None:
        """The end of a pass: keep what it has re-read."""
        tables = [*self._stored, *self._fresh]
        if not tables:
            return
        # counts of one pass only grow, so that the greatest is the last
        kept = pa.concat_tables([table.filter(self._reread(table)).select(["version", "seen"]) for table in tables])
        kept = kept.group_by("version").aggregate([("seen", "max")])
        self._drop()
        if kept.num_rows:
            seen = kept["seen_max"].combine_chunks()
            self._add(kept["version"].combine_chunks(), seen, seen, pa.repeat(pa.scalar(0, pa.int64()), len(seen)))

    def forget(self) -> None:
        """Nothing was delivered."""
        self._drop()

    def numbers_only(self) -> None:
        """No row counts as delivered; equal rows of this pass go on being numbered. Rows change and go while they are overwritten."""
        tables = [*self._stored, *self._fresh]
        if not any(pc.any(pc.greater(table["delivered"], 0)).as_py() for table in tables):
            return
        self._drop()
        for table in tables:
            current = table.filter(pc.and_(pc.equal(table["pass"], self._pass), pc.greater(table["numbered"], 0)))
            zeros = pa.repeat(pa.scalar(0, pa.int64()), current.num_rows)
            if current.num_rows:
                self._add(current["version"].combine_chunks(), zeros, zeros, current["numbered"].combine_chunks())

    def settle(self) -> "pa.Table | None":
        """What the window adds, as one table, merged with small files, which do not stay; ``None``: nothing."""
        if not self._fresh:
            return None
        table = _merged(self._fresh)
        while self.files and self._stored[-1].num_rows < 2 * table.num_rows:
            if self._stored[-1].num_rows + table.num_rows > _MERGED_ROWS_MAX:
                break
            table = _merged([self._stored.pop(), table])
            self.files.pop()
        return table

    def _reread(self, table: "pa.Table") -> "pa.ChunkedArray":
        return pc.and_(pc.equal(table["pass"], self._pass), pc.greater(table["seen"], 0))

    def _drop(self) -> None:
        self.changed = self.changed or bool(self.files or self._fresh)
        self.files, self._stored, self._fresh = [], [], []

    def _add(self, versions: "pa.Array", *counts: "pa.Array") -> None:
        self.changed = True
        passes = pa.repeat(pa.scalar(self._pass, pa.int64()), len(versions))
        self._fresh.append(pa.table([versions, passes, *counts], names=COLUMNS))
        while len(self._fresh) > 1 and self._fresh[-2].num_rows < 2 * self._fresh[-1].num_rows:
            self._fresh[-2:] = [_merged(self._fresh[-2:])]

    def _counts(self, versions: "pa.Array") -> "tuple[pa.Array, pa.Array, pa.Array]":
        """Seen and numbered in this pass, and delivered, of each version: seen, delivered, numbered."""
        nothing = pa.repeat(pa.scalar(0, pa.int64()), len(versions))
        found = {"pass": nothing} | dict.fromkeys(_COUNTS, nothing)
        for table in [*self._stored, *self._fresh]:
            for batch in table.to_batches():
                hits = batch.filter(pc.is_in(batch["version"], value_set=versions))
                if hits.num_rows:
                    at = pc.index_in(versions, value_set=hits["version"])
                    found = {name: pc.coalesce(hits[name].take(at), values) for name, values in found.items()}
        current = pc.equal(found["pass"], self._pass)
        seen, numbered = (pc.if_else(current, found[name], 0) for name in ("seen", "numbered"))
        return seen, found["delivered"], numbered


def _occurrences(codes: "pa.Array", different: int) -> "tuple[pa.Array, pa.Array]":
    """Of each row, its number among those of its code, from 1; and how many rows each code has.

    Codes are numbered as they appear, from 0.
    """
    if different == len(codes):
        ones = pa.repeat(pa.scalar(1, pa.int64()), different)
        return ones, ones
    order = pc.sort_indices(codes)  # stable
    runs = pc.run_end_encode(codes.take(order), run_end_type=pa.int64())
    starts = pa.concat_arrays([pa.array([0], pa.int64()), runs.run_ends[:-1]])
    counts = pc.subtract(runs.run_ends, starts)
    nth = pc.subtract(pa.arange(1, len(codes) + 1), starts.take(codes.take(order)))
    return nth.take(pc.inverse_permutation(order.cast(pa.int64()))), counts


def _merged(tables: "Sequence[pa.Table]") -> "pa.Table":
    """One table with every version once, as the last table has it."""
    whole = tables[0]
    for table in tables[1:]:
        versions = table["version"].combine_chunks()
        older = whole.filter(pc.invert(pc.is_in(whole["version"], value_set=versions)))
        whole = pa.concat_tables([older, table])
    return whole.combine_chunks()


def fresh_rows(message: Insert, table: Table, delivered: "Callable[[], DeliveredSet]") -> "pa.RecordBatch":
    """The rows of a message that are not stored yet, with a ``_cq_id`` where their table needs one; counted from here on.

    Args:
        message: about the table. Only what is ``reread`` may be stored already.
        table: as it is stored.
        delivered: its set, which is asked for only where it is needed.

    Raises:
        TaskError: a row has no key, or no version.
    """
    batch, version = message.batch, message.version
    numbered = table.primary_key == (CQ_ID,) and CQ_ID not in batch.schema.names
    if not numbered:
        check_keys(table, batch)
    if not (message.reread or numbered):
        return batch
    if version is None or version.null_count:
        raise TaskError(f"{table.name}: rows that may be read again came without their versions")
    once = bool(table.primary_key) and not numbered
    taken = delivered().take(version, reread=message.reread, numbered=numbered, once=once)
    if numbered:
        batch = _with_ids(batch, table, version, taken.numbers)
    return batch.filter(taken.fresh) if message.reread else batch


def check_keys(table: Table, batch: "pa.RecordBatch") -> None:
    """Whether each row has a key.

    Raises:
        TaskError: one has not.
    """
    for column in table.primary_key:
        if column not in batch.schema.names or batch.column(column).null_count:
            raise TaskError(
                f"{table.name}.{column}: a row has a null in its primary key",
                hint="nothing of this window was written; name another primary_key, or fix the row at the source",
            )


def _with_ids(batch: "pa.RecordBatch", table: Table, version: "pa.Array", numbers: "pa.Array") -> "pa.RecordBatch":
    """The batch with ``_cq_id``: 12 bytes of content, 4 bytes of the number."""
    byte = pa.array([bytes([code]) for code in range(256)], pa.binary())
    digits = [
        byte.take(pc.bit_wise_and(pc.shift_right(numbers, 8 * place), 255)) for place in reversed(range(_NUMBER_BYTES))
    ]
    content = pc.binary_slice(version.cast(pa.binary()), 0, _CONTENT_BYTES)
    values = pc.binary_join_element_wise(content, *digits, b"").cast(pa.binary(16))
    field = table.schema.field(CQ_ID)
    if isinstance(field.type, pa.BaseExtensionType):
        values = pa.ExtensionArray.from_storage(field.type, values)
    return batch.append_column(field, values)
