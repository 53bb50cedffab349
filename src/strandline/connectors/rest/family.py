"""Which table belongs to which: parents, children, and the columns by which these refer to what lies above them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strandline.connectors.pages.stream import naming
from strandline.table import Table

if TYPE_CHECKING:
    from strandline.connectors.rest.settings import RestTable

__all__ = ["Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """The tables of a spec, by name, in their order."""

    said: "Mapping[str, RestTable]"

    def roots(self) -> list[str]:
        """Those that are read by themselves: that have no parent, or a cursor of their own."""
        return [name for name in self.said if not self.is_child(name)]

    def is_child(self, name: str) -> bool:
        """Whether it is read together with its parent; with a key it has a cursor of its own."""
        return self.said[name].parent is not None and self.said[name].incremental_key is None

    def root_of(self, table: Table) -> str:
        """With which one it is read. It may be a list of one."""
        name = table.name if table.name in self.said else table.parent or table.name
        while self.is_child(name):
            name = self.said[name].parent or name
        return name

    def children(self, name: str) -> list[str]:
        """Those that are read together with it."""
        return [one for one in self.said if self.said[one].parent == name and self.is_child(one)]

    def below(self, name: str) -> Iterator[str]:
        """Its children, and theirs."""
        for child in self.children(name):
            yield child
            yield from self.below(child)

    def above(self, name: str) -> list[str]:
        """Its parents, the first one at the top."""
        parent = self.said[name].parent
        return [] if parent is None else [*self.above(parent), parent]

    def own(self, name: str) -> dict[str, str]:
        """The columns that its spec takes from its parent, or those of the parent's primary key, with the parent's columns."""
        said = self.said[name]
        if said.parent is None or said.parent_columns:
            return dict(said.parent_columns)
        carried = self._carried(said.parent)
        return {key if key in carried else f"{said.parent}_{key}": key for key in self.said[said.parent].primary_key}

    def refers(self, name: str) -> dict[str, str]:
        """All columns that it has of its parent: also those by which that one refers to what lies above it."""
        parent = self.said[name].parent
        return {} if parent is None else {one: one for one in self._carried(parent)} | self.own(name)

    def _carried(self, name: str) -> list[str]:
        """The columns by which it refers to what lies above it, at every level."""
        parent = self.said[name].parent
        if parent is None:
            return []
        return list(dict.fromkeys([*self._carried(parent), *naming(self.own(name), self.said[parent].primary_key)]))

    def contradictions(self, name: str) -> list[str]:
        """What does not go together in a table and those above it."""
        line = [name]
        while (parent := self.said[line[-1]].parent) is not None:
            if parent not in self.said:
                return [f"there is no table {parent!r}, its `parent`"] if len(line) == 1 else []
            if parent in line:
                return [f"its parents go round in a circle: {', '.join([*line, parent])}"]
            line.append(parent)
        if len(line) == 1:
            return []
        above, one = self.said[line[1]], self.said[name]
        carried = self._carried(line[1])
        taken = next((column for column, of in self.own(name).items() if column in carried and of != column), "")
        root = next(
            other
            for other in (line if self.is_child(name) else line[-1:])
            if other != name and not self.is_child(other)
        )
        steps = max((asked.count("parent.") for asked, _, _ in one.placeholders()), default=0)
        beyond = line.index(root) < min(steps, len(line) - 1)
        said = {
            f"{{{'parent.' * steps}…}} lies above {root!r}, which has a cursor of its own: its rows have {', '.join(self.refers(root))}": beyond,
            f"its parent {line[1]!r} needs a `primary_key`": not above.primary_key and not one.parent_columns,
            f"its parent {line[1]!r} has an `etag`, so its children would not be read": above.etag,
            f"its column {taken!r} is that of {line[-1]!r}: name it otherwise in `parent_columns`": taken,
        }
        return [words for words, is_so in said.items() if is_so]
