"""Rows of a full refresh, and of tables whose columns take other types, as they are to be stored."""

from collections.abc import Iterator
from dataclasses import dataclass

from strandline.connectors.arrow.casts import cast_to
from strandline.connectors.lake.lake_table import LakeTable, Snapshot
from strandline.connectors.lake.overlay import concat
from strandline.connectors.lake.rows import Form, keys_of
from strandline.connectors.lake.types import decoded, encoded
from strandline.lazy import pa

__all__ = ["Hidden", "converted"]


@dataclass(frozen=True, slots=True)
class Hidden:
    """The table of a full refresh, whose rows take the place of the scope's."""

    stored: LakeTable
    form: Form
    found: Snapshot
    after: Form
    """As its rows are to be stored."""

    @property
    def count(self) -> int:
        """How many rows it has."""
        return sum(file.rows or 0 for file in self.found.files.values())

    def rows(self) -> "Iterator[pa.Table]":
        """Its rows as they are to be stored."""
        for file in self.found.files.values():
            for batch in self.form.stored(self.stored, file):
                yield converted(batch, self.form, self.after)

    def keys(self, before: Form, after: Form) -> "pa.Array | None":
        """Its keys, where rows of others may have the same."""
        names = after.table.primary_key
        if (
            not names
            or names != before.table.primary_key
            or any(before.written.get(name) != after.written[name] for name in names)
        ):
            return None
        batches = (one for file in self.found.files.values() for one in self.form.stored(self.stored, file, names))
        return concat([keys_of(one, names) for one in batches])


def converted(batch: "pa.RecordBatch", before: Form, after: Form) -> "pa.Table":
    """Encoded rows of one form in another, whose types hold them."""
    arrays = {}
    for name, kind in after.written.items():
        if name not in batch.schema.names:
            arrays[name] = pa.nulls(batch.num_rows, kind)
            continue
        old, new = (form.table.schema.field(name).type for form in (before, after))
        column = batch.column(name)
        if old != new:
            where = f"{after.table.name}.{name}"
            column = encoded(cast_to(decoded(column, old, where=where), new, where=where), kind, where=where)
        arrays[name] = column
    return pa.table(arrays)
