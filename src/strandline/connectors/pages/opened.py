"""A stream as a source holds it: looked at once for its columns, and read as often as it is asked for."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain

from strandline.connectors.pages.columns import Columns
from strandline.connectors.pages.reading import LISTS, STRANGE, GrewError, Pass
from strandline.connectors.pages.records import Page, read_page
from strandline.connectors.pages.remembering import know
from strandline.connectors.pages.spool import columns_first
from strandline.connectors.pages.stream import Child, Fetch, Mark, Stream
from strandline.errors import NothingYetError, StrandlineError, TaskError
from strandline.lazy import pa
from strandline.message import Cursor, SourceMessage
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import Table

__all__ = ["Opened"]

_PARENTS_MAX = 20
"""Of how many parents the children are asked for, to learn their columns."""


@dataclass(slots=True)
class _Look:
    """The first pages, and the iterator that has the others."""

    partition: str | None
    before: datetime
    pages: list[Page | Mark]
    rest: Iterator[Page | Mark]

    def close(self) -> None:
        if hasattr(self.rest, "close"):
            self.rest.close()


@dataclass(slots=True)
class Opened:
    """A stream with its children. Safe to share between threads; ``close`` it with the source."""

    stream: Stream
    fetch: Callable[[str | None], Fetch]
    """What fetches pages, by partition."""
    children: Sequence[Child] = ()
    columns: Columns = field(init=False)
    _look: _Look | None = None
    _grew: set[str] = field(default_factory=set)
    """Tasks that are to be read to their end before the first row is sent."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.columns = self.stream.columns()

    def tables(self, partition: str | None = None) -> list[Table]:
        """The tables, children after their parents; by a look at the first page where not all columns are declared.

        What was looked at is not fetched again by a read that starts from nothing.

        One that cannot be read is ``unreadable``; so is one of which no columns are known, for want of a record.

        Raises:
            UsageError: a key is not among the columns.
            RetryableError: the first page cannot be fetched now.
        """
        with self._lock:
            try:
                if self._look is None and self.columns.apart is None and self.stream.looks and not self.stream.closed:
                    before = self.stream.now()
                    pages = iter(self.fetch(partition)(None))
                    self._look = _Look(partition, before, self.stream.look(pages, self.columns)[0], pages)
                tables = self.stream.tables(self.columns)
                tables += self._of_children(self.children, self.columns)
            except TaskError as error:
                return [self.unreadable(error)]
        return tables

    def _of_children(self, children: Sequence[Child], parents: Columns) -> list[Table]:
        tables: list[Table] = []
        for child in children:
            if child.stream.looks and not child.columns.types:
                self._look_at(child)
            child.refer(parents)
            tables += [*child.stream.tables(child.columns), *self._of_children(child.children, child.columns)]
        return tables

    def _look_at(self, child: Child) -> None:
        """Learn the columns of children from those of the first parents that have any."""
        parents = [page for page in (self._look.pages if self._look else ()) if not isinstance(page, Mark)]
        read = [read_page(page, self.columns.shape, where=self.stream.name, path=self.stream.path) for page in parents]
        for row in self.columns.take(read).slice(0, _PARENTS_MAX).to_pylist() if read else ():
            _, found = child.stream.look(child.fetch(row), child.columns)
            if found:
                return

    def unreadable(self, error: TaskError) -> Table:
        """The table, which cannot be read now. It fails where it would be left out, but for one that has no record yet."""
        return Table(
            self.stream.name,
            pa.schema([("unreadable", pa.null())]),
            unreadable=error,
            never_left_out=not isinstance(error, NothingYetError),
        )

    def read(
        self, task: Task, reading: Reading, fetch: Fetch | None = None, children: Sequence[Child] | None = None
    ) -> Iterator[SourceMessage]:
        """See ``strandline.source.Source.read``. The task has some of the tables.

        Args:
            task: one of the stream.
            reading: what is asked for.
            fetch: what fetches pages for this reading only.
            children: the same children, which fetch for this reading only.
        """
        learns = task.id in self._grew
        with self._lock:
            columns = deepcopy(self.columns)
            children = [child.copied() for child in children or self.children]
        stream, fetch = self._from_look(task, reading, fetch or self.fetch(task.partition))
        one = Pass(stream, columns, task, reading, fetch, children, learns=learns)
        try:
            yield from columns_first(one.messages()) if learns else one.messages()
        except GrewError:
            self._grew.add(task.id)
            raise

    def remembered(self, task: Task, cursor: Cursor | None, stored: Mapping[str, int]) -> Task:
        """See ``strandline.source.Remembers``."""
        with self._lock:
            columns = deepcopy(self.columns)
            children = [one.copied() for child in self.children for one in child.all()]
        others = {child.stream.name for child in children}
        lists = self.stream.lists_in({name: rows for name, rows in stored.items() if name not in others})
        if lists:
            task = replace(task, payload={**task.payload, LISTS: lists})
        try:
            know(cursor or {}, columns, children)
            columns.keep_apart([*lists])
            found = [table for one in children for table in one.stream.tables(one.columns)]
            names = {*stored, *(table.name for table in task.tables)}
            offered = [one for one in [*self.stream.tables(columns), *found] if one.name in names]
            return replace(task, tables=tuple(offered))
        except (*STRANGE, StrandlineError):
            return task  # reading says what is wrong

    def _from_look(self, task: Task, reading: Reading, fetch: Fetch) -> tuple[Stream, Fetch]:
        """What fetches, and the clock of its first request: the pages that were looked at, if they are what is asked for."""
        if reading.cursor is not None or reading.resumed:
            return self.stream, fetch
        with self._lock:
            look = self._look
            if look is None or look.partition != task.partition:
                return self.stream, fetch
            self._look = None
        return replace(self.stream, now=lambda: look.before), lambda _: chain(look.pages, look.rest)

    def close(self) -> None:
        """A second call does nothing."""
        with self._lock:
            look, self._look = self._look, None
        if look is not None:
            look.close()
