"""The tables of a spec as streams: what is promised of each, what identifies its rows, and what fetches them."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from strandline.connectors.pages.alike import Alike
from strandline.connectors.pages.children import Line
from strandline.connectors.pages.columns import Columns
from strandline.connectors.pages.shape import Shape
from strandline.connectors.pages.stream import Child, Stream
from strandline.connectors.rest.asking import Asking, Records
from strandline.connectors.rest.client import Client
from strandline.connectors.rest.documents import NOTHING, one_at
from strandline.connectors.rest.family import Family
from strandline.connectors.rest.settings import RestTable
from strandline.connectors.rest.times import as_time, parsed, windows
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.logs import redact
from strandline.reading import Reading
from strandline.settings import duration_s, parse_type
from strandline.table import FULL_READ, Guarantee

__all__ = ["RestStream", "child_of", "stream_of", "taken"]

_SIZES = re.compile(r"limit|(per.?)?page.?size|per_?page|max.?results|count|first|top|size|rows", re.IGNORECASE)
"""Parameters that say how many records a page has: which they are does not hang on it."""


@dataclass(frozen=True, slots=True)
class RestStream:
    """A table, and how it is fetched."""

    asking: Asking
    client: Callable[[], Client]
    now: Callable[[], datetime]
    """The API's clock."""
    family: Family
    above: Sequence[Asking] = ()
    """Of a table with a cursor of its own that is asked for by the records of another one: that one, behind those above it."""

    def pages(self, began: Any, partition: str | None, reading: Reading | None) -> Iterator[Records]:
        """The records from ``began`` on, page after page; ``reading`` is none while its columns are looked for."""
        said = self.asking.said
        start = None if said.start is None else parsed(said.start)
        since = start if began is None else began
        until = self.now() if said.end is None else parsed(said.end)
        values = {"since": since, "until": until, "partition": partition}
        first, last = as_time(since), as_time(until)
        if said.window is None:
            # what is asked for is a little wider than what was meant
            low, high = (
                (as_time(start), as_time(None if said.end is None else until)) if said.incremental_key else (None, None)
            )
            alike = None if low or high or _shape(said).keeps_json else self.asking.alike()
            for page in self._asked(values, reading, alike):
                yield (
                    [one for one in page if _lies(one, said.incremental_key or "", low, high)] if low or high else page
                )
            return
        if first is None or last is None:
            raise TaskError(f"{self.asking.name}: a `window` of time needs a key of times, and not {since!r}")
        for lower, upper in windows(first, last, said.window):
            yield self._window(values, lower, upper, reading)

    def of_row(self, *line: Mapping[str, Any], partition: str | None, reading: Reading | None) -> Iterator[Records]:
        """The records that belong to a row of the parent, which is the first one; those above it follow."""
        values = {**_of_parents(self.asking.said, line), "partition": partition}
        return self.asking.pages(
            self.client(), values, _quiet if reading is None else reading.alive, ahead=self._ahead(reading)
        )

    def _asked(
        self, values: Mapping[str, Any], reading: Reading | None, alike: Alike | None = None
    ) -> Iterator[Records]:
        alive = _quiet if reading is None else reading.alive
        if not self.above:
            yield from self.asking.pages(self.client(), values, alive, ahead=self._ahead(reading), alike=alike)
            return
        for lines in self._lines(self.above, values, reading):
            yield from self._of_lines(self.asking, lines, values, reading)

    def _lines(
        self, above: Sequence[Asking], values: Mapping[str, Any], reading: Reading | None
    ) -> Iterator[list[Line]]:
        """The records of the last one, each with those above it, some at a time. They have no cursor: all are asked for."""
        *higher, asking = above
        start = asking.said.start
        values = {**values, "since": None if start is None else parsed(start), "until": self.now()}
        if not higher:
            alive = _quiet if reading is None else reading.alive
            for page in asking.pages(self.client(), values, alive):
                yield [(row,) for row in page]
            return
        for lines in self._lines(higher, values, reading):
            for line in lines:
                for page in self._of_lines(asking, [line], values, reading):
                    yield [(row, *line) for row in page]

    def _ahead(self, reading: Reading | None) -> int:
        return 0 if reading is None else self.asking.settings.concurrency

    def _of_lines(
        self, asking: Asking, lines: Sequence[Line], values: Mapping[str, Any], reading: Reading | None
    ) -> Iterator[Records]:
        """The records that belong to some rows, with the columns that they have of these."""
        alive = _quiet if reading is None else reading.alive
        columns = self.family.refers(asking.name)

        def children(line: Line) -> list[Records]:
            above = {name: taken(line[0], f'"{of}"') for name, of in columns.items()}
            asked = asking.pages(self.client(), {**values, **_of_parents(asking.said, line)}, alive)
            return [[{**one, **above} for one in page] for page in asked]

        found: Iterable[list[Records]] = (
            map(children, lines) if reading is None else reading.each(children, lines, self.asking.settings.concurrency)
        )
        for pages in found:
            yield from pages

    def _window(self, values: Mapping[str, Any], lower: datetime, upper: datetime, reading: Reading | None) -> Records:
        """The records of one window, by their key. What the API sends besides is of another window."""
        key = self.asking.said.incremental_key or ""
        found = []
        for page in self._asked({**values, "since": lower, "until": upper}, reading):
            for record in page:
                at = as_time(record.get(key)) if isinstance(record, dict) else None
                if at is None:
                    raise TaskError(
                        f"{self.asking.name}: a record has no time in {key!r}, so it belongs to no `window`",
                        hint="read it without a `window`",
                    )
                if lower <= at < upper:
                    found.append((at, record))
        found.sort(key=lambda one: one[0])
        return [record for _, record in found]


def stream_of(asking: Asking, now: Callable[[], datetime]) -> Stream:
    """What is promised of a table."""
    said = asking.said
    return Stream(
        asking.name,
        primary_key=tuple(said.primary_key),
        incremental_key=said.incremental_key or "",
        marks=said.etag,
        sorted=said.sorted or said.window is not None,
        lag=said.lag,
        now=now,
        drops_older=True,
        shape=_shape(said),
        guarantee=_guarantee(said),
        access=f"by {'POST' if said.graphql else said.method} {said.path}",
        selection=_selection(asking),
    )


def child_of(asking: Asking, family: Family, of_parent: Columns, pages: Callable[..., Iterable[Records]]) -> Child:
    """A table that is asked for by each record of its parent, and read together with it.

    Args:
        asking: how it is asked for.
        family: of which table.
        of_parent: the columns of that.
        pages: the records of one row of the parent.
    """
    refers, parent = family.refers(asking.name), asking.said.parent or ""
    missing = [of for of in refers.values() if of not in of_parent.types]
    if missing:
        raise TaskError(
            f"{asking.name}: the records of {parent} have no {missing[0]!r}", hint="look at `parent_columns`"
        )
    root = family.said[next(one for one in reversed(family.above(asking.name)) if not family.is_child(one))]
    stream = Stream(
        asking.name,
        primary_key=tuple(asking.said.primary_key) or (*family.own(asking.name), "position"),
        declared=pa.schema([(name, of_parent.types[of]) for name, of in refers.items()]),
        shape=_shape(asking.said),
        parent=parent,
        follows=root.incremental_key is not None,
        guarantee=_guarantee(root),
        access=f"by {asking.said.method} {asking.said.path}",
        selection=_selection(asking),
    )
    return Child(stream, stream.columns(), pages, refers, at_once=asking.settings.concurrency)


def _of_parents(said: RestTable, line: Line) -> dict[str, Any]:
    """The values of placeholders that the records above give: ``parent.parent.id`` is of the second one, if there is one."""
    found: dict[str, Any] = {}
    for name in {name for name, _, _ in said.placeholders() if name.startswith("parent.")}:
        path, above = name.removeprefix("parent."), 0
        while path.startswith("parent.") and above + 1 < len(line):
            path, above = path.removeprefix("parent."), above + 1
        value = one_at(line[above], path)
        found[name] = None if value is NOTHING else value
    return found


def taken(record: Any, path: str) -> Any:
    """What lies at ``path`` in a record.

    Raises:
        TaskError: nothing does.
    """
    found = one_at(record, path)
    if found is NOTHING or found is None:
        raise TaskError(f"a record has no {path}", hint="look at `parent_columns`, or `field` of `partitions`")
    return found


def _lies(record: Any, key: str, low: datetime | None, high: datetime | None) -> bool:
    """Whether it lies between the start and the end of the spec, as far as its key is a time."""
    at = as_time(record.get(key)) if isinstance(record, dict) else None
    return at is None or ((low is None or low <= at) and (high is None or at < high))


def _quiet() -> None:
    """Nobody listens."""


def _shape(said: RestTable) -> Shape:
    kinds = {name: pa.json_() if text == "json" else parse_type(text) for name, text in said.types.items()}
    return Shape(kinds, said.objects, said.lists, said.conflicts)


def _guarantee(said: RestTable) -> Guarantee:
    if said.etag:
        return Guarantee(
            "full read", "every row is read when the API has another ETag, and not as long as it is the same"
        )
    if not said.incremental_key:
        return FULL_READ
    return Guarantee(
        "lag only",
        f"a record that appears more than {duration_s(said.lag)} s after what it has in {said.incremental_key}, or that is stamped "
        "by a clock before the API's, is missed; so is what is changed without a new value there, or removed",
    )


def _selection(asking: Asking) -> str:
    """What decides which records there are; not how many a page has, nor what is secret."""
    said = asking.said
    parts = {
        "path": said.path,
        "query": {
            name: text for name, text in {**asking.settings.query, **said.query}.items() if not _SIZES.fullmatch(name)
        },
        "body": said.body,
        "graphql": said.graphql,
        "records": said.records,
        "start": said.start,
        "end": said.end,
    }
    kept = {name: value for name, value in parts.items() if value}
    return redact(json.dumps(kept, sort_keys=True, ensure_ascii=False, default=str))
