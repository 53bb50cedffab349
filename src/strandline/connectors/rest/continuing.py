"""What an answer shows of how it continues, where nobody has said it: for `init`, and so that no first page is taken for all."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from strandline.connectors.rest.documents import one_at

__all__ = ["guessed", "joined_path", "shows_more"]

_DEPTH_MAX = 3
_URL_KEY = re.compile(
    r"next([_-]?(url|uri|link|href|page[_-]?(url|uri|link)))?|@odata\.nextLink|nextLink|nextRecordsUrl", re.IGNORECASE
)
_TOKEN_KEY = re.compile(
    r"next[_-]?(page)?[_-]?(token|cursor|key)|(end|next)?cursor|continuation([_-]?token)?|page[_-]?token", re.IGNORECASE
)
_MORE = ("has_more", "hasMore", "more", "has_next", "hasNext", "hasNextPage")
_PAGES = ("total_pages", "totalPages", "pages", "last_page", "page_count", "num_pages")
_TOTALS = ("total", "total_count", "totalCount", "count")
_OFFSETS = ("startAt", "offset", "skip", "start")
_PLAIN_KEY = re.compile(r'[^."]+')
_A_GUESS = "the parameter is a guess: look into the API's documentation"


def joined_path(path: str, name: str) -> str:
    """The path of what is called ``name`` at ``path``."""
    step = name if _PLAIN_KEY.fullmatch(name) and name != "*" else '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    return f"{path}.{step}" if path else step


def guessed(document: Any, *, identified: bool) -> tuple[dict[str, Any], str]:
    """The pagination that a document shows, and why; ``none`` if it shows none.

    Args:
        document: an answer, JSON values.
        identified: whether its records have an ``id``.
    """
    found = list(_values(document))
    more = next((path for path, name, value in found if name in _MORE and isinstance(value, bool)), "")
    for path, name, value in found:
        if _URL_KEY.fullmatch(name) and (value is None or re.match(r"https?://|/", str(value))):
            return {"type": "next_url", "path": path}, "the answer has the next URL"
    for path, name, value in found:
        if _TOKEN_KEY.fullmatch(name) and isinstance(value, str | int | None) and not isinstance(value, bool):
            sent = re.sub(r"^(next|end)[_-]?", "", name) or "cursor"
            said = {"type": "token", "path": path, "query": sent[0].lower() + sent[1:]}
            return _with(said, more=more), _A_GUESS
    names = {name: path for path, name, _ in found}
    if offset := next((one for one in _OFFSETS if one in names), ""):
        said = {"type": "offset", "query": offset}
        return _with(said, total=_first(names, _TOTALS)), "the answer says where it begins"
    if "page" in names:
        return _with(
            {"type": "page", "query": "page"}, pages=_first(names, _PAGES)
        ), "the answer has the number of its page"
    if more and identified:
        return {"type": "last", "query": "starting_after", "more": more}, _A_GUESS
    return {"type": "none"}, ""


def shows_more(document: Any, said: Mapping[str, Any], records: int) -> bool:
    """Whether a document shows that there is another page behind it, by a pagination that was guessed of it."""
    if "more" in said:
        return one_at(document, said["more"]) is True
    if said["type"] in {"next_url", "token"}:
        return bool(one_at(document, said["path"]))
    # a whole that is more than what came until here
    names = {name: value for _, name, value in _values(document)}
    if said["type"] == "page" and "pages" in said:
        return _number(one_at(document, said["pages"])) > _number(names.get("page"))
    if said["type"] == "offset" and "total" in said:
        return _number(one_at(document, said["total"])) > _number(names.get(said["query"])) + records
    return False


def _values(document: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """Path, name and value of all that is no list."""
    for name, value in document.items() if isinstance(document, dict) and depth < _DEPTH_MAX else ():
        here = joined_path(path, name)
        if isinstance(value, dict):
            yield from _values(value, here, depth + 1)
        elif not isinstance(value, list):
            yield here, name, value


def _with(said: dict[str, Any], **more: str) -> dict[str, Any]:
    return said | {name: path for name, path in more.items() if path}


def _first(names: Mapping[str, str], known: tuple[str, ...]) -> str:
    return next((names[one] for one in known if one in names), "")


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
