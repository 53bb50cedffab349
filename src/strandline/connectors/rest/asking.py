"""One table as requests: what is asked for, page after page, and the records in what is answered."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from strandline.connectors.arrow.json_path import json_path
from strandline.connectors.pages.alike import Alike, Rows
from strandline.connectors.rest.ahead import Ahead
from strandline.connectors.rest.client import Client, json_of
from strandline.connectors.rest.documents import NOTHING, all_at, listed, one_at
from strandline.connectors.rest.json_queries import is_query
from strandline.connectors.rest.pagination import Page, Pages
from strandline.connectors.rest.placeholders import fill
from strandline.connectors.rest.request import Answer, Request, shown
from strandline.connectors.rest.settings import RestSettings, RestTable
from strandline.errors import RetryableError, TaskError

__all__ = ["Asking", "Records"]

Records = Sequence[Any]
_LIMITED = re.compile(r"rate.?limit|throttl|too many", re.IGNORECASE)
_NAMED_MAX = 8
_NOT_MODIFIED = 304
_WITHOUT_BODY = frozenset({204, 205, _NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Asking:
    """How one table is asked for."""

    name: str
    said: RestTable
    settings: RestSettings

    @property
    def url(self) -> str:
        """With its placeholders."""
        path = self.said.path or ""
        return path if urlsplit(path).scheme else f"{str(self.settings.base_url).rstrip('/')}/{path.lstrip('/')}"

    def request(self, values: Mapping[str, Any]) -> Request:
        """The first request, with these values in the place of placeholders."""
        said = self.said
        body = None if said.body is None else fill(said.body, values)
        if said.graphql is not None:
            body = {**(body or {}), "query": said.graphql}
        return Request(
            "POST" if said.graphql is not None else said.method,
            fill(self.url, values, quoted=True),
            query={name: str(value) for name, value in fill(said.query, values).items()},
            headers={name: str(value) for name, value in fill(said.headers, values).items()},
            body=body,
        )

    def alike(self) -> Alike | None:
        """What reads pages by Arrow, if that can be done with the records that are selected."""
        said = self.said.records or ""
        path = () if not said or is_query(said) else json_path(said)
        return None if is_query(said) or None in path else Alike(path)

    def pages(
        self,
        client: Client,
        values: Mapping[str, Any],
        alive: Callable[[], None],
        *,
        ahead: int = 0,
        alike: Alike | None = None,
    ) -> Iterator[Records]:
        """The records of each page.

        Args:
            client: asks.
            values: of placeholders.
            alive: is told now and then while an answer is waited for.
            ahead: whether pages are asked for while the records of one are taken. So many at most where they have numbers; a chain, of
                which each names the next one, is asked for one after the other in any case.
            alike: reads the pages, as far as it can; then nobody should look at a single record.

        Raises:
            RetryableError: the API cannot answer now.
            TaskError: it refuses, or its answers cannot be understood.
        """
        request = self.request(values)
        pages = Pages(self.said.pagination or self.settings.pagination, request)
        named = pages.named if ahead else _nothing
        with closing(Ahead(client, alive, partial(_read, alike), named)) as asked:
            yield from self._turned(pages, pages.request or request, asked, ahead=ahead, alike=alike)

    def _turned(
        self, pages: Pages, first: Request, asked: Ahead, *, ahead: int, alike: Alike | None
    ) -> Iterator[Records]:
        next_: Request | None = first
        turned = 0
        while next_ is not None:
            answer, document = asked.result(next_)
            if answer.status == _NOT_MODIFIED and self.said.incremental_key is None:
                # what does not come would be taken for gone
                raise TaskError(
                    f"{self.name}: {shown(answer.request.url)} answers that nothing was changed (304), and was asked for all",
                    hint="leave `If-Modified-Since` and `If-None-Match` out of `headers`",
                )
            if alike is not None and not isinstance(document, Rows):
                alike.learn(document)
            records = self._records(document, answer)
            pages.turn(Page(answer, document, self._counted(document, records)))
            next_, turned = pages.request, turned + 1
            if next_ is not None and ahead:
                # a table of few pages is not asked for many that it does not have
                asked.begin([next_, *pages.foreseen(min(ahead, turned) - 1)])
            yield records

    def once(
        self, client: Client, values: Mapping[str, Any], alive: Callable[[], None], *, etag: str
    ) -> tuple[Answer, Records | None]:
        """The only answer, and its records; ``None``: it is the one that had this ``etag``. Errors as of ``pages``."""
        request = self.request(values).asking(headers={"If-None-Match": etag} if etag else {})
        answer, document = client.ask(request, alive, partial(_read, None))
        return answer, None if answer.status == _NOT_MODIFIED else self._records(document, answer)

    def _records(self, document: Any, answer: Answer) -> Records:
        if isinstance(document, Rows):
            if self.said.graphql is None or not document.has("errors"):
                return document
            document = json_of(answer)
        if isinstance(document, dict) and self.said.graphql is not None:
            self._check_graphql(document)
        found = all_at(document, self.said.records) if self.said.records else [document]
        says_none = document is None and answer.status in _WITHOUT_BODY
        if found is None and not says_none and self.said.absent == "fail":
            there = (
                ", ".join(map(repr, [*document][:_NAMED_MAX]))
                if isinstance(document, dict)
                else type(document).__name__
            )
            raise TaskError(
                f"{self.name}: {shown(answer.request.url)} answers without {self.said.records!r}; it has {there}",
                hint="look at `records`; where it is left out if there is none, set `absent: empty`",
            )
        return [
            one
            for lying in found or ()
            for one in (lying if isinstance(lying, list) else () if lying is None else [lying])
        ]

    def _counted(self, document: Any, records: Records) -> Records:
        """What the page has, whichever of it are records: a page of which a filter picks none is not the last one."""
        among = listed(self.said.records) if self.said.records else None
        return records if among is None else all_at(document, among) or []

    def _check_graphql(self, document: Mapping[str, Any]) -> None:
        """GraphQL tells its errors in good answers, and may leave out what it could not read."""
        errors = document.get("errors")
        if not errors:
            return
        said = [one_at(one, "message") for one in errors] if isinstance(errors, list) else [errors]
        words = (
            f"{self.name}: {'; '.join(str(one) for one in said if one is not NOTHING) or 'GraphQL tells of an error'}"
        )
        if _LIMITED.search(json.dumps(errors)):
            raise RetryableError(words)
        raise TaskError(words, hint="look at `graphql` and its variables")


def _nothing(_answer: Answer, _document: Any) -> None:
    """No page is asked for before its turn."""


def _read(alike: Alike | None, answer: Answer) -> tuple[Answer, Any]:
    """A body of nothing is an answer only where the status says so; otherwise it was lost on the way."""
    if answer.status in _WITHOUT_BODY and not answer.content.strip():
        return answer, None
    rows = None if alike is None else alike.read(answer.content)
    return answer, json_of(answer) if rows is None else rows
