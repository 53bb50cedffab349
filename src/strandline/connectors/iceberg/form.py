"""How the rows of an Iceberg table are laid out: all columns are in the files."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from strandline.connectors.iceberg.partition import Apart, apart_of, check, values_of
from strandline.connectors.lake.rows import Form
from strandline.connectors.lake.types import Types
from strandline.lazy import pa, pc

__all__ = ["TYPES", "IcebergForm"]


def _others() -> "Mapping[pa.DataType, pa.DataType]":
    """Iceberg has two sizes of whole numbers, and times of a day in microseconds."""
    small = dict.fromkeys((pa.int8(), pa.int16(), pa.uint8(), pa.uint16()), pa.int32())
    return {**small, **dict.fromkeys((pa.time32("s"), pa.time32("ms"), pa.time64("us")), pa.time64("us"))}


TYPES = Types("Iceberg", _others)


class IcebergForm(Form):
    """See ``Form``."""

    types = TYPES

    @cached_property
    def aparts(self) -> tuple[Apart, ...]:
        """By what its files are apart."""
        return tuple(apart_of(one) for one in self.partition_by)

    def check_partition(self, written: "Mapping[str, pa.DataType]") -> None:
        """See ``Form``."""
        check(self.aparts, self.table.name, self.table.schema.names, written)

    def split(self, rows: "pa.Table") -> "Iterator[tuple[tuple[Any, ...], Mapping[str, Any], pa.Table]]":
        """See ``Form``."""
        if not self.aparts:
            yield (), {"values": []}, rows
            return
        coded = [values_of(one, rows[one.column]) for one in self.aparts]
        places = pa.table([places for places, _ in coded], names=[str(at) for at in range(len(coded))])
        for group in places.group_by(places.schema.names).aggregate([]).to_pylist():
            mask = None
            for name, place in group.items():
                same = pc.equal(places[name], place)
                mask = same if mask is None else pc.and_(mask, same)
            values = [coded[int(name)][1][place] for name, place in group.items()]
            yield tuple(values), {"values": values}, rows.filter(mask)
