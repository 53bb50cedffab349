"""What is to be known of an Arrow type before a database stores it."""

from strandline.lazy import pa

__all__ = ["UNREADABLE", "extension_of", "family_of"]

_READABLE = "pyarrow cannot read it; send month_day_nano_interval"
UNREADABLE = {"month_interval": _READABLE, "day_time_interval": _READABLE}
"""Families that nobody can store, with the reason."""


def extension_of(field: "pa.Field") -> str:
    """Which of CloudQuery's extension types it is, which pyarrow does not know: uuid, json or inet, the last two as text."""
    name: str = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    is_text = pa.types.is_binary(field.type) or pa.types.is_string(field.type)  # text, in bytes
    return name if (is_text if name in {"json", "inet"} else name == "uuid" and field.type == pa.binary(16)) else ""


def family_of(kind: "pa.DataType") -> str:
    """Its name, without what it is made of."""
    return str(kind).split("<")[0].split("[")[0].split("(")[0]
