"""What is to be known of an Arrow type before a database stores it."""

from strandline.lazy import pa

__all__ = ["UNREADABLE", "ZONED_NS", "extension_of", "family_of", "is_zoned_ns"]

_READABLE = "pyarrow cannot read it; send month_day_nano_interval"
UNREADABLE = {"month_interval": _READABLE, "day_time_interval": _READABLE}
"""Families that nobody can store, with the reason."""
ZONED_NS = "timestamp[ns, tz]"
"""As ``Capabilities.types_refused`` calls moments with a zone whose unit is a nanosecond."""


def extension_of(field: "pa.Field") -> str:
    """Which of CloudQuery's extension types it is, which pyarrow does not know: uuid, json or inet, the last two as text."""
    name: str = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    is_text = pa.types.is_binary(field.type) or pa.types.is_string(field.type)  # text, in bytes
    return name if (is_text if name in {"json", "inet"} else name == "uuid" and field.type == pa.binary(16)) else ""


def family_of(kind: "pa.DataType") -> str:
    """Its name, without what it is made of."""
    return str(kind).split("<")[0].split("[")[0].split("(")[0]


def is_zoned_ns(kind: "pa.DataType") -> bool:
    """Whether it is what ``ZONED_NS`` names."""
    return pa.types.is_timestamp(kind) and kind.tz is not None and kind.unit == "ns"
