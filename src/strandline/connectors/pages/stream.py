"""One stream of an API, from the pages that its author fetches to the messages that the engine takes."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from strandline.connectors.arrow.json_path import JSONPath
from strandline.connectors.pages.columns import Columns
from strandline.connectors.pages.key import check_key
from strandline.connectors.pages.records import Page, Records, read_page
from strandline.connectors.pages.shape import Shape
from strandline.errors import NothingYetError, UsageError
from strandline.lazy import pa
from strandline.table import FULL_READ, Guarantee, Table

__all__ = ["Child", "Fetch", "Mark", "Stream", "naming"]

_LOOK_S = 5.0
"""How long records are looked at, once there is one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Among the pages of a stream that keeps a cursor of its own: all before it is covered by ``cursor``."""

    cursor: Mapping[str, Any]


Fetch: TypeAlias = Callable[[Any], Iterable[Page | Mark]]
"""The pages of a stream, given where it goes on: ``None`` from nothing, the key's value in its type, or the last mark's cursor."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Stream:
    """What is declared of one stream. Immutable; what is learnt while it is read lies in ``Columns``."""

    name: str
    primary_key: tuple[str, ...] = ()
    incremental_key: str = ""
    """The column by which it is read from where the last pass ended; the greatest value is the cursor."""
    marks: bool = False
    """Its author keeps a cursor of his own instead, and sends it as ``Mark``."""
    sorted: bool = False
    """Rows come in ascending order of the key, so that a pass that is interrupted goes on where it was. Checked."""
    lag: timedelta = timedelta(0)
    """How much earlier than the first request the bound of the cursor lies: what appears later than stamped is read again."""
    now: Callable[[], datetime] = _now
    """The clock by which rows are stamped, as far as it can be asked. Called once a pass, before the first page."""
    drops_older: bool = False
    """Rows with a lower key than the cursor's are left out: for an API that cannot be asked for what is new."""
    declared: "pa.Schema | None" = None
    """Its columns, as far as they are known before it is read."""
    closed: bool = False
    """It has no other columns than the declared ones."""
    looks: bool = True
    """Whether the first page is looked at before a read, for columns that are not declared."""
    look_rows: int = 1
    """So many records are looked at, some seconds long: where a read always begins with them, they are not fetched twice."""
    shape: Shape = Shape()  # noqa: RUF009 -- it is frozen
    path: JSONPath = ()
    """Where the records lie in pages that are JSON."""
    parent: "str | None" = None
    follows: bool = False
    """It is read together with a parent that is incremental."""
    description: str = ""
    guarantee: Guarantee = FULL_READ
    access: str = ""
    selection: str = ""
    """See ``Table.selection``."""

    def columns(self) -> Columns:
        """What is known of its columns before the first page."""
        keys = frozenset({*self.primary_key, self.incremental_key} - {""})
        times = frozenset({self.incremental_key})
        shape = replace(self.shape, texts=self.shape.texts | (frozenset(self.primary_key) - times))
        known = {one.name: one.type for one in self.declared or ()}
        shape = replace(shape, types={**known, **shape.types})
        return Columns(self.name, shape, keys, {**known, **self.shape.types}, closed=self.closed)

    @property
    def is_incremental(self) -> bool:
        """Whether a pass goes on where the last one ended."""
        return bool(self.incremental_key) or self.marks or self.follows

    def look(self, pages: Iterable[Page | Mark], columns: Columns) -> tuple[list[Page | Mark], bool]:
        """Learn the columns from the first page that has records, or from some; the pages that were taken, and whether there was one."""
        taken: list[Page | Mark] = []
        found: list[Records] = []
        began_s = time.monotonic()
        for page in pages:
            # a stream of Arrow can be read once, and these pages are read again
            page = pa.table(page) if hasattr(page, "__arrow_c_stream__") else page  # noqa: PLW2901 -- it is read again
            taken.append(page)
            if isinstance(page, Mark):
                continue
            records = read_page(page, columns.shape, where=self.name, path=self.path)
            found += [records] if records.rows else []
            late = found and time.monotonic() - began_s >= _LOOK_S
            if late or sum(one.rows for one in found) >= self.look_rows:
                break
        if found:
            columns.take(found)
        return taken, bool(found)

    def tables(self, columns: Columns) -> list[Table]:
        """The table with these columns; and one for each list in them, where lists become tables.

        Raises:
            UsageError: a key is not among the columns.
            TaskError: there are none, or the incremental key has no order.
        """
        schema = columns.schema
        if not schema.names:
            raise NothingYetError(
                f"table {self.name!r}: there is no record yet, and no column is declared, so no table is made",
                hint="a sync that finds one makes it; with `types` there is a table before",
            )
        if self.incremental_key in schema.names:
            check_key(self.incremental_key, schema.field(self.incremental_key).type, where=self.name)
        lists = columns.apart = self._lists(columns)
        kept = pa.schema([one for one in schema if one.name not in lists])
        table = Table(
            self.name,
            kept,
            primary_key=self.primary_key,
            incremental_key=(self.incremental_key,) if self.incremental_key else (),
            incremental=self.is_incremental,
            parent=self.parent,
            description=self.description,
            guarantee=self.guarantee,
            access=self.access,
            selection=self.selection,
            former=self._former(kept),
        )
        return [table, *(self._child(table, name, schema.field(name).type.value_type) for name in lists)]

    def _lists(self, columns: Columns) -> tuple[str, ...]:
        """The columns that are child tables: those that the first look has found, and no others later."""
        if self.shape.lists != "tables" or columns.apart is not None:
            return columns.apart or ()
        kinds = columns.types.items()
        return tuple(name for name, kind in kinds if pa.types.is_list(kind) and name not in self.shape.types)

    def lists_in(self, stored: Mapping[str, int]) -> dict[str, int]:
        """The lists of which these are the tables, with the number of their rows."""
        before = f"{self.name}_"
        found = {name.removeprefix(before): rows for name, rows in stored.items() if name.startswith(before)}
        return found if self.shape.lists == "tables" else {}

    def of_parent(self, name: str) -> str:
        """How a column of the primary key is called in the tables of children."""
        return f"{self.name}_{name}"

    def _child(self, table: Table, name: str, kind: "pa.DataType") -> Table:
        if self.parent is not None:
            raise UsageError(
                f"table {self.name!r}: its list {name!r} can be no table, since it is read together with {self.parent!r}",
                hint="keep its lists as `list` or `json`",
            )
        if not table.primary_key:
            raise UsageError(
                f"table {self.name!r}: its list {name!r} can be no table, since it has no primary key",
                hint="name one, or keep lists as `list` or `json`",
            )
        parents = [pa.field(self.of_parent(key), table.schema.field(key).type) for key in table.primary_key]
        front = [*parents, pa.field("position", pa.int64())]
        value = [] if pa.types.is_null(kind) else [pa.field("value", kind)]
        inner = list(kind) if pa.types.is_struct(kind) else value
        taken = {one.name for one in front}
        inner = [one.with_name(f"{name}_{one.name}" if one.name in taken else one.name) for one in inner]
        return Table(
            f"{self.name}_{name}",
            pa.schema([*front, *inner]),
            primary_key=tuple(one.name for one in front),
            incremental=table.incremental,
            parent=self.name,
            description=f"the list {name!r} of {self.name}",
            guarantee=self.guarantee,
            selection=self.selection,
            former={one.name: pa.float64() for one in inner if pa.types.is_integer(one.type)},
        )

    def _former(self, schema: "pa.Schema") -> "dict[str, pa.DataType]":
        """In which types a warehouse may hold what was inferred here: other records have shown other values."""
        former: dict[str, pa.DataType] = {}
        fixed = {*self.primary_key, self.incremental_key, *self.shape.types, *(self.declared or pa.schema([])).names}
        for one in schema:
            if one.name in fixed:
                continue
            if pa.types.is_integer(one.type):
                former[one.name] = pa.float64()
            elif pa.types.is_temporal(one.type):
                former[one.name] = pa.string()
        return former


@dataclass(frozen=True, slots=True)
class Child:
    """A stream that is fetched for each row of its parent."""

    stream: Stream
    columns: Columns
    fetch: Callable[..., Iterable[Page]]
    """The pages of one parent, given its row; where the parent is a child itself, also the rows above it, the nearest first."""
    refers: Mapping[str, str] = field(default_factory=dict)
    """The columns that refer to the parent, with the parent's columns: ``{"order_id": "id"}``. Where the parent is a child itself,
    the columns by which that one refers to the row at the top are among them, under their names."""
    at_once: int = 1
    """How many parents' children are fetched at once, in threads."""
    children: "Sequence[Child]" = ()
    """What belongs to its rows, to any depth. It is replaced with them, by the row at the top."""

    def refer(self, parents: Columns) -> None:
        """Learn the types of the columns that refer to the parent, and of the place among its children, from its columns."""
        for name, of in self.refers.items():
            self.columns.types.setdefault(name, parents.types.get(of, pa.null()))
        if "position" in self.stream.primary_key and "position" not in self.columns.types:
            self.columns.types["position"] = pa.int64()

    def all(self) -> "Iterator[Child]":
        """Itself, and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.all()

    def copied(self) -> "Child":
        """With columns of its own, and so all below it."""
        return replace(self, columns=deepcopy(self.columns), children=[one.copied() for one in self.children])


def naming(refers: Mapping[str, str], key: Sequence[str]) -> dict[str, str]:
    """Of the columns that refer to a parent, those that say which it is: those of its primary key, if they have all of it.

    What else is taken from the parent may change, and the children of before would not be found by it.
    """
    named = {name: of for name, of in refers.items() if of in key}
    return named if key and set(key) <= set(named.values()) else dict(refers)
