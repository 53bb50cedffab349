"""How the rows of a Delta table are laid out: the columns by which it is partitioned are said of its files, and not in them."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from strandline.connectors.lake.rows import Form
from strandline.connectors.lake.types import Types
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa, pc

__all__ = ["TYPES", "DeltaForm", "partition_text"]

TYPES = Types("Delta")


class DeltaForm(Form):
    """See ``Form``."""

    types = TYPES

    @property
    def outside(self) -> tuple[str, ...]:
        """See ``Form``."""
        return self.partition_by

    def check_partition(self, written: "Mapping[str, pa.DataType]") -> None:
        """See ``Form``."""
        table = self.table
        for name in self.partition_by:
            if name not in table.schema.names:
                raise UsageError(f"partition_by: {table.name} has no column {name!r}")
            if name not in written or not _can_partition(written[name]):
                raise TaskError(
                    f"{table.name}.{name}: {table.schema.field(name).type} cannot be partitioned by",
                    hint="texts, whole numbers, dates and booleans can",
                )

    def split(self, rows: "pa.Table") -> "Iterator[tuple[tuple[Any, ...], Mapping[str, Any], pa.Table]]":
        """See ``Form``."""
        names = list(self.partition_by)
        if not names:
            yield (), {}, rows
            return
        apart = rows.select(names).group_by(names).aggregate([])
        for group in apart.to_pylist():
            mask = None
            for name in names:
                value = pa.scalar(group[name], rows.schema.field(name).type)
                same = pc.is_null(rows[name]) if group[name] is None else pc.equal(rows[name], value)
                same = pc.fill_null(same, fill_value=False)
                mask = same if mask is None else pc.and_(mask, same)
            yield tuple(group[name] for name in names), group, rows.filter(mask).drop_columns(names)


def _can_partition(kind: "pa.DataType") -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_date(kind))


def partition_text(name: str, value: Any) -> str | None:
    """A value as Delta writes it down.

    Raises:
        TaskError: it cannot be written down.
    """
    if value == "":
        raise TaskError(
            f"partition_by {name}: Delta takes an empty text for a null", hint="partition by another column"
        )
    if value is None:
        return None
    return (
        str(value).lower() if isinstance(value, bool) else value.isoformat() if isinstance(value, date) else str(value)
    )
