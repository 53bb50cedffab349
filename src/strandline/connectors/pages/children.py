"""The rows that belong to others, level by level, each with the rows above it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from strandline.connectors.pages.records import Records, read_page
from strandline.connectors.pages.stream import Child
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.reading import Reading

__all__ = ["Fetching", "Found", "Line"]

Line: TypeAlias = tuple[Mapping[str, Any], ...]
"""A row, its parent's, and so on to the top."""


@dataclass(frozen=True, slots=True)
class Found:
    """The children of some rows, all of them."""

    child: Child
    rows: "pa.Table"
    lines: Sequence[Line]
    """Of each of the rows, where something belongs to it."""


@dataclass(slots=True)
class Fetching:
    """What fetches the children of rows in one pass."""

    reading: Reading
    names: "Mapping[str, Any]"
    """Tables that are selected, by name."""
    _parents: "dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]" = field(default_factory=dict)
    """By child, which parent was named so, where that is not its primary key."""

    def wanted(self, children: Sequence[Child]) -> list[Child]:
        """Those that are selected, or something below them."""
        return [one for one in children if any(below.stream.name in self.names for below in one.all())]

    def of(self, child: Child, parents: "pa.Schema", lines: Sequence[Line], key: Sequence[str]) -> Found:
        """The children of some rows.

        Args:
            child: whose rows.
            parents: the columns of the parents.
            lines: the parents, each once.
            key: of their table.
        """
        self._check_named(child, lines, key)
        pages, owners = list[Records](), list[Line]()
        found = self.reading.each(lambda line: list(child.fetch(*line)), lines, child.at_once)
        for line, fetched in zip(lines, found, strict=True):
            position = 0
            for page in fetched:
                records = read_page(page, child.columns.shape, where=child.stream.name, path=child.stream.path)
                if not records.rows:
                    continue
                for name, of in child.refers.items():
                    records.columns[name] = [pa.repeat(pa.scalar(line[0][of], parents.field(of).type), records.rows)]
                if "position" in child.stream.primary_key:
                    records.columns["position"] = [pa.array(range(position, position + records.rows), pa.int64())]
                position += records.rows
                pages.append(records)
                owners += [line] * records.rows
        rows = child.columns.take(pages)
        if not self.wanted(child.children):
            return Found(child, rows, ())
        return Found(child, rows, [(row, *line) for row, line in zip(rows.to_pylist(), owners, strict=True)])

    def _check_named(self, child: Child, lines: Sequence[Line], key: Sequence[str]) -> None:
        """Whether what refers to a parent names that one only: the children of another would be replaced, too."""
        of = tuple(child.refers.values())
        if not key or set(key) <= set(of):
            return
        named = self._parents.setdefault(child.stream.name, {})
        for row, *_ in lines:
            name, parent = tuple(row[one] for one in of), tuple(row[one] for one in key)
            if named.setdefault(name, parent) != parent:
                raise TaskError(
                    f"{child.stream.name}: two records of {child.stream.parent} have {name} as {', '.join(of)}, by which it refers to one",
                    hint=f"refer to {', '.join(key)}",
                )
