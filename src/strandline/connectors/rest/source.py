"""The source ``rest``: tables of an API, declared in a spec.

What is promised:

- A cursor covers only what was read. An unsorted table, which is the default, has one checkpoint at its end, so that an API that
  sends the newest record first, and fails in the middle, leaves no gap. A ``sorted`` one has them in between, and fails if it is
  not sorted; one with a ``window`` has one behind each window.
- The cursor never passes the API's clock before the first request, minus ``lag``. What is stamped later is read again by the next
  sync, and so is what is stamped equally.
- What an API is asked for is a little wider than what is meant: by a second, or by the unit of a coarse form, since some leave out what lies
  exactly at a bound. What comes along is left out.
- An answer that is cut off, or is no JSON, is never taken for the end: it is asked for again, and then the table fails. So does an
  API that names the same next page twice, or does not say what the spec says that it says.
- Without ``incremental_key`` all of a table is read at each sync.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from strandline.connectors.pages.children import Line
from strandline.connectors.pages.columns import Columns
from strandline.connectors.pages.opened import Opened
from strandline.connectors.pages.stream import Child, Fetch, Mark
from strandline.connectors.rest.asking import Asking, Records
from strandline.connectors.rest.authentication import credentials_of
from strandline.connectors.rest.client import Client, Clock
from strandline.connectors.rest.openapi import document_of, is_openapi, proposed_by
from strandline.connectors.rest.proposals import proposed
from strandline.connectors.rest.request import Request, shown
from strandline.connectors.rest.settings import PartitionList, RestSettings
from strandline.connectors.rest.settings_auth import OAuth2
from strandline.connectors.rest.streams import RestStream, child_of, stream_of, taken
from strandline.connectors.rest.transport import Transport
from strandline.connectors.rest.unchanged import unless_unchanged
from strandline.describe import Description, Place, how_by
from strandline.errors import NothingYetError, RetryableError, TaskError, UnreachableError, UsageError
from strandline.lazy import pa
from strandline.logs import is_secret_name
from strandline.message import Cursor, SourceMessage
from strandline.proposal import Proposal, Proposals
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import Table

__all__ = ["RestSource"]

_SAMPLES = 20
"""How many parents are looked at for the columns of their children."""


def _no_columns() -> "pa.Schema":
    return pa.schema([("unreadable", pa.null())])


class RestSource:
    """See ``strandline.source.Source``. Safe to share between threads."""

    description = Description(
        schemes=("https", "http"),
        examples=("https://api.example.com/v1/orders", "https://api.example.com/openapi.json"),
        drivers=("urllib3", "jsonpath"),
        installs="strandline[rest]",
    )
    Spec = RestSettings

    @classmethod
    def understand(cls, written: str) -> Place | None:
        """A URL that answers with records, or with an OpenAPI document; see ``strandline.describe``."""
        parts = urlsplit(written)
        if parts.scheme not in {"https", "http"}:
            return None
        secret = next((name for name, _ in parse_qsl(parts.query) if is_secret_name(name)), None)
        if parts.username or parts.password or secret:
            raise UsageError(
                f"{shown(written)}: {'its query has ' + secret if secret else 'it has a user'}, and no secret is written into a spec",
                hint="name the URL without it, and write `authentication` into the spec",
            )
        if not parts.hostname:
            raise UsageError(f"{shown(written)!r} has no host", hint="write it as https://api.example.com/v1/orders")
        named = [one for one in parts.hostname.split(".") if one not in {"api", "www"}]
        stem = "api" if parts.hostname.replace(".", "").isdigit() or not named else named[max(0, len(named) - 2)]
        return Place({"base_url": written}, stem, written)

    def __init__(self, spec: RestSettings, *, clock: Clock | None = None) -> None:
        self._spec, self._clock = spec, clock or Clock()
        self._family = spec.family()
        self._lock = threading.RLock()
        self._made: Client | None = None
        self._opened: dict[str, Opened] = {}
        self._broken: dict[str, TaskError] = {}
        self._tables: list[Table] | None = None
        self._listed: list[str] | None = None

    def tables(self) -> Sequence[Table]:
        """Every table of the spec, with the columns of its first records; each that cannot be read with the reason."""
        with self._lock:
            if self._tables is None:
                self._spec.tables.check(dict.fromkeys(self._spec.names(), ""), where=str(self._spec.base_url))
                self._tables = [table for name in self._family.roots() for table in self._offered(name)]
            return list(self._tables)

    def how(self, table: Table, *, mirror: bool) -> str:  # noqa: ARG002 -- the same for all
        """By its key; see ``strandline.describe.TellsHow``."""
        written = self._spec.tables.written(self._family.root_of(table))
        return how_by(", ".join(table.incremental_key), {"lag": written.get("lag"), "window": written.get("window")})

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """One for each table with its children; where it is partitioned, one for each partition."""
        by_root: dict[str, list[Table]] = {}
        for table in tables:
            by_root.setdefault(self._family.root_of(table), []).append(table)
        for root, some in by_root.items():
            if not self._is_partitioned(root):
                yield Task(root, tuple(some))
                continue
            for one in self._partitions():
                yield Task(f"{root}[{one}]", tuple(some), partition=one)

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """See the module."""
        self.tables()
        root = self._family.root_of(task.tables[0])
        if root in self._broken:
            raise self._broken[root]
        base = self._opened[root]
        children = [self._fetching(child, task.partition, reading) for child in base.children]
        if (asking := self._asking(root)).said.etag:
            made = partial(base.read, task, reading)
            yield from unless_unchanged(asking, self._client(), task, reading, task.partition, made)
        else:
            yield from base.read(task, reading, self._fetch(root, task.partition, reading), children)

    def proposals(self) -> Proposals:
        """The tables that the answer of ``base_url`` shows, if the spec has none; see ``strandline.proposal``."""
        if self._spec.names():
            return Proposals(tuple(Proposal(one.name, one.name, "", one.guarantee.name) for one in self.tables()))
        url, client = str(self._spec.base_url), self._client()
        answer = client.ask(Request("GET", url), lambda: None, lambda one: one)
        document = document_of(answer)
        return proposed_by(document, url) if is_openapi(document) else proposed(url, answer, document, client)

    def remembered(self, task: Task, cursor: Cursor | None, stored: Mapping[str, int]) -> Task:
        """With the columns and lists that were seen before; see ``strandline.source.Remembers``."""
        self.tables()
        root = self._family.root_of(task.tables[0])
        return task if root in self._broken else self._opened[root].remembered(task, cursor, stored)

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """An API need not be told."""

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for one in self._opened.values():
                one.close()
            if self._made is not None:
                self._made.close()

    # tables ----------------------------------------------------------------------------------------------------------
    def _is_partitioned(self, root: str) -> bool:
        asked = [self._family.said[one] for one in (root, *self._family.below(root), *self._family.above(root))]
        return any(name == "partition" for one in asked for name, _, _ in one.placeholders())

    def _partitions(self) -> Sequence[str]:
        """Named by the spec, or listed by the API once."""
        said = self._spec.partitions
        if not isinstance(said, PartitionList):
            return said
        with self._lock:
            if self._listed is None:
                asking = Asking("partitions", said.as_table(), self._spec)
                records = [one for page in asking.pages(self._client(), {}, lambda: None) for one in page]
                self._listed = list(dict.fromkeys(str(taken(one, said.field)) for one in records))
            return self._listed

    def _asking(self, name: str) -> Asking:
        return Asking(name, self._spec.tables.of(name), self._spec)

    def _stream(self, name: str) -> RestStream:
        above = () if self._family.is_child(name) else [self._asking(one) for one in self._family.above(name)]
        return RestStream(self._asking(name), self._client, self._now, self._family, above)

    def _offered(self, name: str) -> list[Table]:
        """A table with its children."""
        partitions: Sequence[str | None] = self._partitions() if self._is_partitioned(name) else [None]
        problem: TaskError | None = None
        for partition in partitions:
            try:
                opened = self._looked_at(name, partition)
                tables = opened.tables(partition)
            except UnreachableError:
                raise
            except (TaskError, RetryableError, UsageError) as error:
                if problem is None or isinstance(problem, NothingYetError):
                    problem = TaskError(error.message, hint=error.hint)
                continue
            opened.close()  # what is read says that it is alive, and begins with a request of its own
            if (found := tables[0].unreadable) is None:
                self._opened[name] = opened
                return tables
            if problem is None or isinstance(problem, NothingYetError):
                known = isinstance(found, NothingYetError)
                problem = (NothingYetError if known else TaskError)(found.message, hint=found.hint)
        self._broken[name] = problem or TaskError(f"{name}: there is no partition")
        return [
            Table(
                one,
                _no_columns(),
                parent=None if one == name else self._family.said[one].parent,
                unreadable=self._broken[name],
                never_left_out=True,
            )
            for one in (name, *self._family.below(name))
        ]

    def _looked_at(self, name: str, partition: str | None) -> Opened:
        """A stream whose columns are known, and those of its children by those of its first records."""
        stream, asking = self._stream(name), self._asking(name)
        samples = list[Any]()

        def fetch(of: str | None) -> Fetch:
            return lambda began: _sampled(stream.pages(began, of, None), samples)

        opened = Opened(stream_of(asking, self._now), fetch)
        if opened.tables(partition)[0].unreadable is not None:
            return opened
        opened.children = self._children(name, [(row,) for row in samples], opened.columns, partition)
        return opened

    def _children(self, name: str, lines: Sequence[Line], above: Columns, partition: str | None) -> list[Child]:
        """What is read together with a table, with the columns of their first records; ``lines`` are some of the table."""
        children = []
        for child_name in self._family.children(name):
            fetch = self._child_fetch(child_name, partition, None)
            child = child_of(self._asking(child_name), self._family, above, fetch)
            is_parent, found = bool(self._family.children(child_name)), list[Line]()
            for line in lines[:_SAMPLES]:
                pages, some = child.stream.look(fetch(*line), child.columns)
                if is_parent:
                    named = {column: line[0].get(of) for column, of in child.refers.items()}
                    rows = [row for page in pages if not isinstance(page, Mark) for row in page]
                    found += [({**row, **named}, *line) for row in rows]
                if some and (not is_parent or len(found) >= _SAMPLES):
                    break
            child.refer(above)
            self._check_keys(child, name, len(lines[:_SAMPLES]))
            children.append(replace(child, children=self._children(child_name, found, child.columns, partition)))
        return children

    def _check_keys(self, child: Child, parent: str, looked_at: int) -> None:
        """A key has the type that its table is made with."""
        unknown = [one for one in child.stream.primary_key if pa.types.is_null(child.columns.types.get(one, pa.null()))]
        if unknown:
            raise TaskError(
                f"{child.stream.name}: {looked_at} records of {parent} were looked at, and no record of theirs has {unknown[0]!r}, a column "
                "of its primary key",
                hint=f"declare what it is, as `types: {{{unknown[0]}: int64}}`",
            )

    # fetching --------------------------------------------------------------------------------------------------------
    def _fetch(self, name: str, partition: str | None, reading: Reading) -> Fetch:
        stream = self._stream(name)
        return lambda began: stream.pages(began, partition, reading)

    def _fetching(self, child: Child, partition: str | None, reading: Reading) -> Child:
        """The child, which fetches for one reading, and so all below it."""
        below = [self._fetching(one, partition, reading) for one in child.children]
        return replace(child, fetch=self._child_fetch(child.stream.name, partition, reading), children=below)

    def _child_fetch(
        self, name: str, partition: str | None, reading: Reading | None
    ) -> Callable[..., Iterable[Records]]:
        return partial(self._stream(name).of_row, partition=partition, reading=reading)

    def _now(self) -> datetime:
        """The API's clock before what is asked next; ours, if it does not tell."""
        return self._client().date or self._clock.now()

    def _client(self) -> Client:
        with self._lock:
            if self._made is None:
                self._made = _client_of(self._spec, self._clock)
            return self._made


def _client_of(spec: RestSettings, clock: Clock) -> Client:
    url, said = str(spec.base_url), spec.authentication
    transport = Transport(
        url,
        trusted=[str(said.url)] if isinstance(said, OAuth2) else [],
        timeout_s=spec.timeout,
        answer_timeout_s=spec.answer_timeout,
        answer_max=spec.answer_max,
        connections=spec.concurrency,
        allows_narrower=spec.private_addresses == "allow",
    )
    limit = spec.rate_limit
    return Client(
        transport,
        home=url,
        headers=spec.headers,
        query=spec.query,
        credentials=credentials_of(said, url, clock),
        attempts=spec.attempts,
        wait_max_s=spec.wait_max.total_seconds(),
        every_s=limit.per / limit.requests if limit else 0.0,
        clock=clock,
    )


def _sampled(pages: Iterable[Records], samples: list[Any]) -> Iterator[Records]:
    """The pages, of whose first records some are remembered."""
    for page in pages:
        samples += page[: max(0, _SAMPLES - len(samples))]
        yield page
