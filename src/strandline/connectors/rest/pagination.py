"""How an answer continues: the next request, made of the last one and what was answered.

No position of a page is asked for twice in one reading: an API that names the same next page again would be read for ever.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from strandline.connectors.arrow.json_path import json_path
from strandline.connectors.pages.alike import Rows
from strandline.connectors.rest.client import json_of
from strandline.connectors.rest.continuing import guessed, shows_more
from strandline.connectors.rest.documents import NOTHING, one_at, put_at
from strandline.connectors.rest.json_queries import is_query
from strandline.connectors.rest.request import Answer, Request, shown
from strandline.connectors.rest.settings_pages import (
    LastSettings,
    LinkSettings,
    NextURLSettings,
    OffsetSettings,
    OnePageSettings,
    PageSettings,
    PaginationSettings,
    TokenSettings,
)
from strandline.errors import RetryableError, TaskError
from strandline.logs import redact

__all__ = ["Page", "Pages", "next_link"]

_NAMED_MAX = 8
_LINK = re.compile(r'<([^>]*)>((?:"(?:[^"\\]|\\.)*"|[^",])*)')
_PARAMETER = re.compile(r""";\s*([\w*-]*)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^;]*)))?""")
_SAYS_NEXT = re.compile(r"""\brel\s*=\s*["']?(?:[\w-]+\s+)*next\b""", re.IGNORECASE)


class Page:
    """One answer: what the next request is made of."""

    __slots__ = ("_document", "answer", "records")

    def __init__(self, answer: Answer, document: Any, records: Sequence[Any]) -> None:
        self.answer, self._document, self.records = answer, document, records

    @property
    def document(self) -> Any:
        """JSON values."""
        if isinstance(self._document, Rows):
            self._document = json_of(self.answer)
        return self._document

    @property
    def is_array(self) -> bool:
        """Whether its records are the elements of the whole answer, as far as Python has read it."""
        return isinstance(self._document, list)

    @property
    def is_object(self) -> bool:
        """Whether the whole answer is its only record."""
        return isinstance(self._document, dict) and list(self.records) == [self._document]

    def at(self, path: str) -> Any:
        """The first value at ``path``; ``NOTHING`` if there is none."""
        document = self._document
        found = document.beside(json_path(path)) if isinstance(document, Rows) and not is_query(path) else None
        return one_at(self.document, path) if found is None else found

    def last(self, path: str) -> Any:
        """The text or number at ``path`` in the last record; ``None``: there is none."""
        if isinstance(self.records, Rows) and isinstance(found := one_at(self.records.last(), path), str | int):
            return _scalar(found, path)
        return _scalar(one_at(self.records[-1], path), path)


class Pages:
    """One walk through the pages of a request."""

    def __init__(self, said: PaginationSettings | None, request: Request) -> None:
        self._said = said or LinkSettings(type="link")
        self._is_said = said is not None
        self.request: Request | None = request
        """The next one; ``None``: that was all."""
        self._seen = {request.target}
        self._count = 0
        self._whole: int | None = None
        """How many pages or records there are, as far as the API has said."""
        self._before: Sequence[Any] = ()
        self._told = set[int]()
        self._had_list = False
        """Whether a page was an array, whose elements are records."""
        if isinstance(self._said, PageSettings):
            self._count = self._said.first
            self.request = _sent(request, self._said, self._count)
        self._first = self.request

    def foreseen(self, count: int) -> Iterator[Request]:
        """Of the ``count`` requests after the next one, if there is so much, those that have a number. Each is told once."""
        said, first = self._said, self._first
        if not isinstance(said, PageSettings | OffsetSettings) or first is None or self.request is None:
            return
        begins, step = (said.first, 1) if isinstance(said, PageSettings) else (0, len(self._before))
        for number in range(self._count + step, self._count + step * (count + 1), step):
            if number not in self._told and (self._whole is None or number - begins < self._whole):
                self._told.add(number)
                yield _sent(first, said, number)

    def named(self, answer: Answer, document: Any) -> Request | None:
        """The request behind an answer, if that can be told at once; what is wrong is told by ``turn``. Safe in any thread.

        Args:
            answer: of any page of this walk.
            document: what was read of it; ``NOTHING``: that was not done yet, and only a header may tell.
        """
        said = self._said
        if isinstance(said, LinkSettings):
            is_told = document is NOTHING
        else:
            is_told = isinstance(said, NextURLSettings | TokenSettings) and _is_quick(document, said)
        try:
            position = self._position(Page(answer, document, ())) if is_told else None
        except TaskError:
            return None
        return None if position is None else position[1]

    def turn(self, page: Page) -> None:
        """After ``page``.

        Raises:
            TaskError: the API sends us round in a circle, or does not say what it should.
        """
        if self._had_list and page.is_object:
            raise TaskError(
                f"{shown(page.answer.request.url)} answers with an object, after pages that were lists; it has "
                f"{', '.join(map(repr, [*page.document][:_NAMED_MAX]))}",
                hint="is it an error? `records` says where the records lie",
            )
        self._had_list = self._had_list or page.is_array
        position = self._position(page)
        if position is None:
            self._check_end(page)
            self.request = None
            return
        key, request = position
        if isinstance(self._said, PageSettings | OffsetSettings) and page.records == self._before:
            raise TaskError(
                f"{shown(request.url)}: two pages have the same records",
                hint="does the API take no notice of the parameter in `pagination`? Then the first page would come for ever",
            )
        self._before = page.records
        if key in self._seen:
            raise TaskError(
                f"{shown(request.url)}: the API names the same next page twice",
                hint="is `pagination` right? Where the position is not sent, the first page comes again and again",
            )
        self._seen.add(key)
        self.request = request

    def _check_end(self, page: Page) -> None:
        """Where the spec does not say how an answer continues, one that shows that it does is not taken for all."""
        if self._is_said or not isinstance(page.document, dict) or list(page.records) == [page.document]:
            return
        found, _ = guessed(page.document, identified=True)
        if shows_more(page.document, found, len(page.records)):
            shape = ", ".join(f"{name}: {value}" for name, value in found.items())
            raise TaskError(
                f"{shown(page.answer.request.url)}: the answer continues, and the spec does not say how",
                hint=f"is it `pagination: {{{shape}}}`? If there is nothing behind it, `pagination: {{type: none}}`",
            )

    def _position(self, page: Page) -> tuple[str, Request] | None:
        first, said = self._first, self._said
        if first is None or _is_over(said, page):
            return None
        match said:
            case OnePageSettings():
                return None
            case LinkSettings():
                url = next_link(page.answer.headers.get("link", "")) or None
            case NextURLSettings():
                url = _scalar(page.at(said.path), said.path)
            case TokenSettings():
                token = _scalar(page.at(said.path), said.path)
                return None if token is None else (str(token), _sent(first, said, token))
            case LastSettings():
                last = page.last(said.field)
                if last is None:
                    raise TaskError(f"the last record of a page has no {said.field!r}", hint="look at `pagination`")
                return str(last), _sent(first, said, last)
            case PageSettings() | OffsetSettings():
                return self._counted(page, said)
        target = None if url is None else self._at(page, str(url))
        return None if target is None else (target.url, target)

    def _counted(self, page: Page, said: PageSettings | OffsetSettings) -> tuple[str, Request] | None:
        """By a number, which is that of the page or of the records before it."""
        if isinstance(said, PageSettings):
            self._count += 1
            passed, whole = self._count - said.first, _whole(page, said.pages)
            self._whole = whole
        else:
            # as many as came, for an API may give fewer than it was asked for
            self._count += len(page.records)
            passed, whole = self._count, _whole(page, said.total)
            self._whole = self._whole or whole
            if whole is not None and self._whole is not None and whole < self._whole:
                raise RetryableError(
                    f"{shown(page.answer.request.url)}: records were removed while it was read, so others have moved to pages before",
                    hint="a `token` or `last` in `pagination` is not shaken by that, if the API has one",
                )
        if whole is not None and passed >= whole:
            return None
        return str(self._count), _sent(self._request(page), said, self._count)

    def _request(self, page: Page) -> Request:
        return self._first or page.answer.request

    def _at(self, page: Page, url: str) -> Request:
        """The first request at another URL, which may be relative to that of the page."""
        return replace(self._request(page), url=page.answer.request.asking(url=url).url, query={})


def _is_quick(document: Any, said: NextURLSettings | TokenSettings) -> bool:
    """Whether it can be looked up without reading the document a second time."""
    paths = [one for one in (said.path, getattr(said, "more", None)) if one is not None]
    if document is NOTHING or any(map(is_query, paths)):
        return False
    return not isinstance(document, Rows) or all(document.beside(json_path(one)) is not None for one in paths)


def _is_over(said: PaginationSettings, page: Page) -> bool:
    """Whether there is no other page, as far as the answer says."""
    more = getattr(said, "more", None)
    if more is not None:
        found = page.at(more)
        if found is NOTHING or not isinstance(found, bool | None):
            raise TaskError(
                f"{shown(page.answer.request.url)}: the answer does not say at {more!r} whether there is more",
                hint="`more` in `pagination` names a place with true or false",
            )
        if not found:
            return True
    return isinstance(said, PageSettings | OffsetSettings | LastSettings) and not page.records


def _whole(page: Page, path: str | None) -> int | None:
    """How many there are in all, as the answer says at ``path``."""
    if path is None:
        return None
    found = page.at(path)
    if isinstance(found, bool) or not str(found).isdigit():
        raise TaskError(
            f"{shown(page.answer.request.url)}: the answer does not say at {path!r} how many there are",
            hint="`pages` and `total` in `pagination` name a place with a number",
        )
    return int(found)


def _scalar(found: Any, path: str) -> Any:
    """A text or a number; ``None``: there is none."""
    if isinstance(found, dict | list | bool):
        raise TaskError(f"what lies at {path!r} is no text and no number", hint="look at `pagination`")
    return None if found is NOTHING or found == "" else found


def _sent(
    request: Request, said: TokenSettings | PageSettings | OffsetSettings | LastSettings, value: str | int
) -> Request:
    if said.query is not None:
        return request.asking(query={said.query: str(value)})
    return replace(request, body=put_at(request.body, said.body or "", value))


def next_link(header: str) -> str:
    """The URL of ``rel="next"`` in a header ``Link``; empty if there is none.

    Raises:
        TaskError: there seems to be one, and it is not written as a link is.
    """
    rest = header
    for url, parameters in _LINK.findall(header):
        rest = rest.replace(f"<{url}>{parameters}", "", 1)
        # of several `rel`, the first one counts
        found = _PARAMETER.findall(parameters)
        rel = next((quoted or single or plain for name, quoted, single, plain in found if name.lower() == "rel"), "")
        if "next" in rel.lower().split():
            return str(url)
    if _SAYS_NEXT.search(rest):
        raise TaskError(
            f"the header `Link` cannot be understood: {redact(header)[:200]!r}",
            hint="say in `pagination` where the next page is",
        )
    return ""
