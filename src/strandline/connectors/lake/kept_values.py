"""What stays of stored rows whose place is taken."""

from collections.abc import Sequence

from strandline.connectors.lake.lake_table import DataFile
from strandline.connectors.lake.overlay import Final, concat
from strandline.connectors.lake.rows import Form, keys_of
from strandline.lazy import pa, pc

__all__ = ["KeptValues"]


class KeptValues:
    """Values of stored rows that stay, in columns that the rows which take their place do not have.

    Args:
        final: the rows that come.
        others: columns that somebody has added.
    """

    def __init__(self, final: Final | None, others: Sequence[str]) -> None:
        self.wanted = [*final.unset, *others] if final is not None else []
        self._others = others
        self._pieces: list[pa.Table] = []
        self._keys: list[pa.Array] = []

    def add(self, rows: "pa.Table", form: Form, file: DataFile) -> None:
        """Stored rows whose place is taken."""
        whole = form.whole(_with_partition(rows, form, file))
        for name in self._others:
            if name in rows.schema.names:
                whole = whole.append_column(name, rows.column(name))
        self._keys.append(keys_of(whole, form.table.primary_key))
        self._pieces.append(whole.select([name for name in self.wanted if name in whole.schema.names]))

    def filled(self, final: Final) -> "pa.Table":
        """The rows with these values."""
        rows = final.rows
        keys = concat(self._keys)
        if keys is None or not len(keys):
            return rows
        stored = pa.concat_tables(self._pieces, promote_options="default").combine_chunks()
        at = pc.index_in(final.keys, value_set=keys)
        for name, unset in final.unset.items():
            old = stored.column(name).take(at)
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, pc.if_else(unset, old, rows.column(name)))
        for name in self._others:
            if name in stored.schema.names:
                rows = rows.append_column(name, stored.column(name).take(at))
        return rows


def _with_partition(rows: "pa.Table", form: Form, file: DataFile) -> "pa.Table":
    """Rows of a file with the columns by which it is partitioned."""
    for name in form.outside:
        value = pa.scalar(file.partition.get(name), form.written[name])
        rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    return rows
