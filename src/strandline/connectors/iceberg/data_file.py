"""A data file, as Iceberg's manifests describe it, as the log of the lake keeps it, and as a plan asks for it."""

import base64
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from strandline.connectors.iceberg.drivers import conversions, ice_arrow, ice_manifest, ice_typedef, ice_types
from strandline.connectors.lake.lake_table import DataFile

__all__ = ["described", "of_entry", "to_iceberg"]

_BOUNDS = ("lower_bounds", "upper_bounds")
_COUNTS = ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts")


def of_entry(found: Any, schema: Any) -> DataFile:
    """A file that a manifest names."""
    partition = {"values": [found.partition[at] for at in range(len(found.partition))]}
    low, high = _Bounds(found.lower_bounds or {}, schema), _Bounds(found.upper_bounds or {}, schema)
    return DataFile(found.file_path, found.record_count, partition, low, high)


class _Bounds(Mapping[str, Any]):
    """By column, read where somebody asks."""

    def __init__(self, raw: Mapping[int, bytes], schema: Any) -> None:
        self._raw, self._fields = raw, {one.name: one for one in schema.fields}

    def __getitem__(self, name: str) -> Any:
        field = self._fields[name]
        value = conversions.from_bytes(field.field_type, self._raw[field.field_id])
        if not isinstance(field.field_type, ice_types.DateType):
            return value
        try:
            return date(1970, 1, 1) + timedelta(value)
        except OverflowError as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        return (name for name, field in self._fields.items() if field.field_id in self._raw)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def described(path: str, size: int, partition: Mapping[str, Any], found: Any) -> Mapping[str, Any]:
    """A new file as the log of the lake keeps it: JSON."""
    try:
        stats = _stats(found, {})
    except (OverflowError, ValueError):  # a time that Python has not: then no bounds
        stats = _stats(found, {"write.metadata.metrics.default": "counts"})
    return {
        "path": path,
        "size": size,
        "rows": found.num_rows,
        "partition": list(partition["values"]),
        **{name: {str(number): count for number, count in stats[name].items()} for name in _COUNTS},
        **{
            name: {str(number): base64.b64encode(value).decode() for number, value in stats[name].items()}
            for name in _BOUNDS
        },
        "split_offsets": stats["split_offsets"],
    }


def to_iceberg(added: Mapping[str, Any], spec: int) -> Any:
    """The inverse of ``described``, for a manifest."""
    made = ice_manifest.DataFile.from_args(
        content=ice_manifest.DataFileContent.DATA,
        file_path=added["path"],
        file_format=ice_manifest.FileFormat.PARQUET,
        partition=ice_typedef.Record(*added["partition"]),
        record_count=added["rows"],
        file_size_in_bytes=added["size"],
        split_offsets=added["split_offsets"],
        sort_order_id=None,
        equality_ids=None,
        key_metadata=None,
        **{name: {int(number): count for number, count in added[name].items()} for name in _COUNTS},
        **{name: {int(number): base64.b64decode(value) for number, value in added[name].items()} for name in _BOUNDS},
    )
    made.spec_id = spec
    return made


def _stats(found: Any, settings: Mapping[str, str]) -> Mapping[str, Any]:
    """What Iceberg says of the values in a file, by the numbers of its columns."""
    schema = ice_arrow.pyarrow_to_schema(found.schema.to_arrow_schema())
    stats: Mapping[str, Any] = ice_arrow.data_file_statistics_from_parquet_metadata(
        found, ice_arrow.compute_statistics_plan(schema, settings), ice_arrow.parquet_path_to_id_mapping(schema)
    ).to_serialized_dict()
    return stats
