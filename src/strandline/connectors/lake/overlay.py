"""What a window says of one stored table, message by message: rows that are new, and which stored rows go.

Rows wait here, encoded, until it is known which stored rows they meet. A window is bounded in bytes, and so is this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from strandline.connectors.lake.rows import Form, keys_of
from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = ["Final", "Overlay", "concat"]

_KEY, _AT = "key", "at"
_Pieces: TypeAlias = "list[tuple[pa.Array, pa.Table]]"
"""Keys and rows, in the order in which they came."""


@dataclass(frozen=True, slots=True)
class Final:
    """The rows of a window once it is at its end, one of each key."""

    keys: "pa.Array"
    rows: "pa.Table"
    unset: "dict[str, pa.Array]"
    """By column: whether each row has no value of its own there, but that of the stored one."""


@dataclass
class Overlay:
    """Used by one thread."""

    form: Form
    truncated: bool = False
    stale: bool = False
    hidden: str = ""
    """The stored table whose rows take the place of the scope's."""
    former: str = ""
    """The source whose rows are this one's from now on."""
    taken: "list[pa.Array]" = field(default_factory=list)
    """Keys of all rows that came, also of those that went again: such a stored row is replaced, whosever it is."""
    deleted: "list[pa.Array]" = field(default_factory=list)
    replaced: "list[tuple[tuple[str, ...], pa.Array]]" = field(default_factory=list)
    """Columns, and the values in them of parents whose children were replaced."""
    present: "pa.Array | None" = None
    """The keys that are to stay, in the order in which they came."""
    swept: int = 0
    """Rows of the window itself that a sweep took away."""
    before_sweep: int = 0
    """How many rows of the window the sweep has met."""
    _presents: "list[pa.Array]" = field(default_factory=list)
    _pieces: "_Pieces" = field(default_factory=list)

    @property
    def removes(self) -> bool:
        """Whether stored rows may go without others coming."""
        return bool(self.truncated or self.stale or self.hidden or self.deleted or self.replaced) or (
            self.present is not None
        )

    @property
    def looks_everywhere(self) -> bool:
        """Whether stored rows may go whatever their keys are."""
        return bool(self.truncated or self.stale or self.hidden or self.former or self.replaced) or (
            self.present is not None
        )

    def insert(self, batch: "pa.RecordBatch") -> None:
        """Rows of the source; each has a key."""
        if not batch.num_rows:
            return
        rows = self.form.encoded(batch)
        keys = self._keys(rows)
        self.taken.append(keys)
        self._pieces.append((keys, rows))

    def delete(self, batch: "pa.RecordBatch") -> None:
        """Rows that are gone."""
        keys = self._keys(self.form.encoded(batch))
        self.deleted.append(keys)
        self._drop(lambda own, _rows: pc.is_in(own, value_set=keys))

    def truncate(self) -> None:
        """All rows that came so far are gone, and the stored ones."""
        self.truncated = True
        self._pieces = []

    def swap(self, hidden: str) -> None:
        """All rows that came so far are gone, and the stored ones; those of another table take their place."""
        self.hidden, self._pieces = hidden, []

    def replace(self, parents: "pa.RecordBatch") -> None:
        """The children of these parents are gone, but for those that come after."""
        names = tuple(parents.schema.names)
        if strange := [name for name in names if name not in self.form.written]:
            raise TaskError(
                f"{self.form.table.name} has no column {strange[0]!r}, by which children are to be replaced"
            )
        if any(column.null_count for column in parents.columns):
            raise TaskError(f"{self.form.table.name}: a parent whose children are to be replaced has no key")
        doomed = keys_of(self.form.encoded(parents), names)
        self.replaced.append((names, doomed))
        self._orphan(names, doomed)

    def appear(self, keys: "pa.RecordBatch") -> None:
        """Keys that exist at the source."""
        self._presents.append(self._keys(self.form.encoded(keys)))

    def complete(self) -> None:
        """What is not among the keys that appeared is gone, if any have been sent."""
        if not self._presents:
            return
        self.present, self._presents = pa.concat_arrays(self._presents), []
        before = self._distinct()
        self._drop(lambda own, _rows: pc.invert(pc.is_in(own, value_set=self.present)))
        self.before_sweep, self.swept = before, before - self._distinct()

    def final(self) -> Final | None:
        """One row of each key: of each column the last value that came; ``None``: none."""
        return self._final(self._pieces)

    def _final(self, pieces: "_Pieces") -> Final | None:
        if not pieces:
            return None
        keys = pa.concat_arrays([own for own, _ in pieces])
        columns = list(dict.fromkeys(name for _, rows in pieces for name in rows.schema.names))
        whole = pa.concat_tables(
            [rows.select([name for name in columns if name in rows.schema.names]) for _, rows in pieces],
            promote_options="default",
        ).combine_chunks()
        last = _last(keys)
        ours = keys.take(last) if last is not None else keys
        final = whole.take(last) if last is not None else whole
        unset: dict[str, pa.Array] = {}
        for name in self.form.written:
            sets = [name in rows.schema.names for _, rows in pieces]
            if all(sets):
                continue
            mask = pa.concat_arrays(
                [pa.repeat(pa.scalar(has), len(own)) for has, (own, _) in zip(sets, pieces, strict=True)]
            )
            if name in final.schema.names:
                final, unset[name] = _latest(final, name, ours, keys, whole, mask)
            else:
                unset[name] = pa.repeat(pa.scalar(True), len(ours))
        return Final(ours, self.form.whole(final), unset)

    def _keys(self, rows: "pa.Table") -> "pa.Array":
        return keys_of(rows, self.form.table.primary_key)

    def _distinct(self) -> int:
        """How many keys wait."""
        if not self._pieces:
            return 0
        return int(pc.count_distinct(pa.concat_arrays([own for own, _ in self._pieces])).as_py())

    def _orphan(self, names: Sequence[str], parents: "pa.Array") -> None:
        """Remove rows that wait and whose parent, by the last row of their key, is one of these."""

        def children(rows: "pa.Table") -> "pa.Array":
            return pc.is_in(keys_of(self.form.whole(rows), names), value_set=parents)

        once = concat([keys.filter(children(rows)) for keys, rows in self._pieces])
        if once is None or not len(once):
            return
        concerned = []
        for keys, rows in self._pieces:
            mask = pc.is_in(keys, value_set=once)
            concerned.append((keys.filter(mask), rows.filter(mask)))
        final = self._final(concerned)
        gone = final.keys.filter(children(final.rows)) if final is not None else once
        self._drop(lambda own, _rows: pc.is_in(own, value_set=gone))

    def _drop(self, doomed: "Callable[[pa.Array, pa.Table], pa.Array]") -> None:
        """Remove rows that wait."""
        left = []
        for keys, rows in self._pieces:
            stays = pc.fill_null(pc.invert(doomed(keys, rows)), fill_value=True)
            if pc.any(stays).as_py():
                left.append((keys.filter(stays), rows.filter(stays)))
        self._pieces = left


def _last(keys: "pa.Array") -> "pa.Array | None":
    """Where the last row of each key is, ascending; ``None``: each has one."""
    codes = keys.dictionary_encode()
    if len(codes.dictionary) == len(keys):
        return None
    places = pa.table({_KEY: codes.indices, _AT: pa.arange(0, len(keys))})
    found = places.group_by(_KEY).aggregate([(_AT, "max")])[f"{_AT}_max"].combine_chunks()
    return found.take(pc.sort_indices(found))


def _latest(
    final: "pa.Table", name: str, ours: "pa.Array", keys: "pa.Array", whole: "pa.Table", mask: "pa.Array"
) -> "tuple[pa.Table, pa.Array]":
    """A column with the last value of each key where one came, and which rows have none."""
    given = whole.column(name).filter(mask).combine_chunks()
    given = given.combine_chunks() if isinstance(given, pa.ChunkedArray) else given
    of = keys.filter(mask)
    last = _last(of)
    if last is not None:
        of, given = of.take(last), given.take(last)
    at = pc.index_in(ours, value_set=of)
    column = final.schema.get_field_index(name)
    return final.set_column(column, name, given.take(at)), at.is_null()


def concat(arrays: "Sequence[pa.Array]") -> "pa.Array | None":
    """All of them as one; ``None``: there are none."""
    return pa.concat_arrays(arrays) if arrays else None
