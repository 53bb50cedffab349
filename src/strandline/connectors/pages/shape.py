"""How the records of a stream become columns: what its author has declared, and what is done where nothing was."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from strandline.lazy import pa

__all__ = ["Shape", "is_json"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Choices for the columns of one stream."""

    types: "Mapping[str, pa.DataType]" = field(default_factory=dict)
    """Of columns that are declared; they never change. ``pa.json_()`` keeps a value as JSON."""
    objects: Literal["struct", "json", "flat"] = "struct"
    """What becomes of objects: a struct, JSON, or a column for each of their fields, ``user_name``."""
    lists: Literal["list", "json", "tables"] = "list"
    """What becomes of lists: a list, JSON, or a child table, as far as the first look at the records has found them."""
    conflicts: Literal["fail", "json", "new"] = "fail"
    """What becomes of a value that does not go with the type of its column: the stream fails, or it stands in another column:
    as JSON in ``price_json``, or in a type of its own in ``price_text``."""
    texts: frozenset[str] = frozenset()
    """Columns of texts that are never taken for times: those of the primary key, which depend on their spelling."""

    @property
    def keeps_json(self) -> bool:
        """Whether something is kept as JSON, as it was written."""
        return "json" in {self.objects, self.lists} or any(is_json(kind) for kind in self.types.values())


def is_json(kind: "pa.DataType") -> bool:
    """Whether it is Arrow's type of JSON, which is text."""
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json"
