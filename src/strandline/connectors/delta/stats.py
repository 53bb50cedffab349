"""What Delta's log says of the values in a file."""

import json
from contextlib import suppress
from datetime import date
from typing import Any

from strandline.lazy import pa

__all__ = ["json_stats"]

_STATS_CHARS_MAX = 32


def json_stats(described: Any) -> str:
    """Delta's statistics of a file; of such columns whose bounds are exact in JSON."""
    whole = described.schema.to_arrow_schema()
    simple = {one.name for one in whole if not pa.types.is_nested(one.type)}
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    unknown: set[str] = set()
    for group in (described.row_group(at) for at in range(described.num_row_groups)):
        for column in (group.column(at) for at in range(group.num_columns)):
            name, found = column.path_in_schema, column.statistics if column.is_stats_set else None
            if found is not None and not found.has_min_max and found.null_count == group.num_rows:
                continue
            bounds = _bounds(found)
            if bounds is None or name not in simple:
                unknown.add(name)
                continue
            low[name] = min(low.get(name, bounds[0]), bounds[0])
            high[name] = max(high.get(name, bounds[1]), bounds[1])
    stats = {
        "numRecords": described.num_rows,
        "minValues": {name: value for name, value in low.items() if name not in unknown},
        "maxValues": {name: value for name, value in high.items() if name not in unknown},
    }
    return json.dumps(stats)


def _bounds(found: Any) -> tuple[Any, Any] | None:
    """The least and the greatest value, as JSON has them."""
    with suppress(ValueError, OverflowError, UnicodeDecodeError):
        if found is not None and found.has_min_max:
            low, high = _in_json(found.min), _in_json(found.max)
            return None if low is None or high is None else (low, high)
    return None


def _in_json(value: Any) -> Any:
    """A bound as JSON has it exactly; ``None``: it has not."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, date) and type(value) is date:
        return value.isoformat()
    return value if isinstance(value, str) and len(value) <= _STATS_CHARS_MAX else None
