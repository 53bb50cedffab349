"""Files of an object store: S3, GCS, Azure, and single files of a server of HTTP.

An object is known by its key, and by its ETag, which is another one once its content is. So nothing is opened to see that it is
unchanged, and an object that is replaced while it is read is noticed at the next request. What the keys have between two ``/`` is
called a directory here, too.
"""

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from strandline.connectors.files.object_file import ObjectFile, ReplacedError, first_range
from strandline.connectors.files.paths import (
    WILD,
    File,
    Look,
    Parts,
    file_of,
    in_order,
    is_hidden,
    matches,
    pattern_of,
    shown,
    written_below,
)
from strandline.connectors.stores.drivers import obstore, obstore_exceptions
from strandline.connectors.stores.opening import (
    OBJECT_SCHEMES,
    advice,
    first_line,
    object_place,
    opened,
    refused,
    shown_url,
)
from strandline.errors import RetryableError, StrandlineError, TaskError, UnreachableError, UsageError

__all__ = ["URL_SCHEMES", "ObjectPlace", "split_url"]

URL_SCHEMES = (*OBJECT_SCHEMES, "https", "http")
_AT_ONCE = 8
"""Requests of one place."""
_SOON = 16
"""Files of which the first bytes are fetched before they are asked for."""
_PAGE = 1_000
_TIMEOUT_S = 60
_RETRIES = 10
"""Within that time. Then the engine tries again, and can be stopped in between."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000
_REPLACED = "the files are listed again"
_T = TypeVar("_T")
_URL = re.compile(r"([a-z0-9]+)://([^/]+)(?:/(.*))?", re.DOTALL)


def split_url(url: str) -> tuple[str, Parts]:
    """The bucket or server of a URL, as a URL, and the parts of what follows.

    Raises:
        ValueError: it is none, or has something in it that is a secret, or may be one.
    """
    found = _URL.fullmatch(url)
    scheme = found[1] if found else ""
    if found is None or scheme not in URL_SCHEMES:
        raise ValueError(f"a URL such as s3://bucket/prefix/*.parquet is needed; schemes are {', '.join(URL_SCHEMES)}")
    if "@" in found[2] and not scheme.startswith("abfs"):
        raise ValueError("the URL has no user and no password: credentials go into `options`, or the environment")
    if scheme.startswith("http") and set("?#") & set(found[3] or ""):
        raise ValueError("a URL of https:// has no query; headers of its requests, as authorization, go into `options`")
    path = unquote(found[3] or "") if scheme.startswith("http") else found[3] or ""
    return f"{scheme}://{found[2]}", tuple(part for part in path.split("/") if part)


class ObjectPlace:
    """A prefix of a store, and what an object below it has to match; or one object. See ``paths.Place``.

    Args:
        url: ``s3://bucket/prefix``, with a pattern or without.
        options: see ``stores.opening``.
    """

    buffer_bytes = 64 << 20

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self._bucket, parts = split_url(url)
        self._url, self._options = shown_url(url), options
        self._is_http = url.startswith("http")
        wild = next((at for at, part in enumerate(parts) if WILD.search(part)), None)
        self._single = parts if wild is None and parts and not url.endswith("/") else ()
        """What may be one object; if there is none, it is a prefix."""
        self._base = parts if wild is None else parts[:wild]
        self._pattern = ("**", "*") if wild is None else pattern_of(parts[wild:])
        self._stem = self._base[-1] if self._base else self._bucket.partition("://")[2]
        self._heads: dict[tuple[str, Look], tuple[int, Future[bytes]]] = {}

    @cached_property
    def _store(self) -> Any:
        """Opened when it is first needed: looking for credentials may ask the network."""
        return opened(self._bucket, self._options, _TIMEOUT_S, retries=_RETRIES, what="`path` or `options`")

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_AT_ONCE, "strandline-objects")

    def find(self, wanted: Callable[[str], bool] = lambda _table: True) -> list[File]:
        """See ``paths.Place``."""
        with self._listing():
            if self._single and (one := self._head(self._single)) is not None:
                return [one]
        if self._is_http:
            hint = "a server of HTTP is not asked for lists: name one file"
            raise UsageError(f"there is no file {self._url!r}", hint=hint)
        return in_order(self._find(wanted))

    def _head(self, parts: Parts) -> File | None:
        path = "/".join(parts)
        try:
            meta = obstore.head(self._store, path)
        except (FileNotFoundError, obstore_exceptions.NotFoundError):
            return None
        stem = parts[-2] if parts[1:] else self._bucket.partition("://")[2]
        return file_of(self, stem, parts[-1:], path, _look(meta))

    def _find(self, wanted: Callable[[str], bool]) -> Iterator[File]:
        above = len(self._base)
        for meta in self._listed():
            path = meta["path"]
            names = tuple(path.split("/"))[above:]
            if not names or any(map(is_hidden, names)) or not matches(names, self._pattern):
                continue
            file = file_of(self, self._stem, names, path, _look(meta))
            # what a console makes of a directory without files
            if not file.look.size and file.format is None:
                continue
            if wanted(file.table):
                yield file

    def _listed(self) -> Iterator[Any]:
        """What the store says of each object below the prefix, a page at a time."""
        pages: Iterator[Sequence[Any]] | None = None
        while True:
            with self._listing():
                pages = pages or iter(obstore.list(self._store, prefix="/".join(self._base) or None, chunk_size=_PAGE))
                page = next(pages, None)
            if page is None:
                return
            yield from page

    def open(self, file: File) -> ObjectFile:
        """See ``paths.Place``."""
        return ObjectFile(self, file, self._heads.pop((file.path, file.look), None))

    def soon(self, files: Iterable[File], size_bytes: int) -> Iterator[File]:
        """See ``paths.Place``: the first bytes of the next files are fetched meanwhile."""
        waiting: deque[File] = deque()
        try:
            for file in files:
                start, end = first_range(file, size_bytes)
                if end:
                    self._heads[file.path, file.look] = (
                        start,
                        self.submit(partial(self.fetch, file, file.look, start, end)),
                    )
                waiting.append(file)
                if len(waiting) > _SOON:
                    yield waiting[0]
                    self._drop(waiting.popleft())
            while waiting:
                yield waiting[0]
                self._drop(waiting.popleft())
        finally:
            for file in waiting:
                self._drop(file)

    def _drop(self, file: File) -> None:
        """What was fetched of a file that was not opened."""
        if (head := self._heads.pop((file.path, file.look), None)) is not None:
            head[1].cancel()

    def fetch(self, file: File, look: Look, start: int, end: int) -> bytes:
        """See ``object_file.Ranges``."""
        options: dict[str, Any] = {} if (start, end) == (0, look.size) else {"range": (start, end)}
        if look.tag:
            options["if_match"] = look.tag
        with self._reading(file):
            found = obstore.get(self._store, file.path, options=cast(Any, options))
            now = _look(found.meta)
            data = bytes(found.bytes())
        # a server may have ignored the condition; without an ETag nothing else tells
        if not _same(now, look) or len(data) != end - start:
            raise ReplacedError(f"{shown(file.key)}: replaced while it was read", hint=_REPLACED)
        return data

    def look_at(self, file: File) -> Look:
        """See ``object_file.Ranges``."""
        with self._reading(file):
            return _look(obstore.head(self._store, file.path))

    def submit(self, work: Callable[[], _T]) -> "Future[_T]":
        """See ``object_file.Ranges``."""
        return self._pool.submit(work)

    def places(self) -> Sequence[str]:
        """Where it is, with the pattern of the objects in it."""
        return [f"{object_place('/'.join((self._bucket, *self._base)), self._options)} {'/'.join(self._pattern)}"]

    def reaches(self, places: Sequence[str]) -> bool:
        """What is written below the prefix may match the pattern."""
        above = f"{object_place(self._bucket, self._options)}/"
        written = [tuple(name.removeprefix(above).split("/")) for name in places if name.startswith(above)]
        depth = len(self._base)
        return any(one[:depth] == self._base and written_below(one[depth:], self._pattern) for one in written)

    def close(self) -> None:
        """See ``paths.Place``."""
        if "_pool" in self.__dict__:
            self._pool.shutdown(
                wait=False, cancel_futures=True
            )  # nobody waits for what may be an answer of a dead store
            del self.__dict__["_pool"]

    @contextmanager
    def _listing(self) -> Iterator[None]:
        try:
            yield
        except StrandlineError:
            raise
        except obstore_exceptions.InvalidPathError as error:
            hint = "rename the object: its key has nothing, a . or .. between two /"
            raise UsageError(f"{self._url}: cannot be listed: {first_line(error)}", hint=hint) from None
        except (obstore_exceptions.BaseError, OSError) as error:
            text = f"{self._url}: could not be listed: {first_line(error)}"
            if refused(error):
                hint = "check the credentials, and that they allow to list: s3:ListBucket, or a like right"
                raise UsageError(text, hint=advice(error, hint)) from None
            if said := advice(error):
                raise UsageError(text, hint=said) from None
            raise UnreachableError(text, hint="is the store up, and can it be reached from here?") from None

    @contextmanager
    def _reading(self, file: File) -> Iterator[None]:
        name = shown(file.key)
        try:
            yield
        except (FileNotFoundError, obstore_exceptions.NotFoundError):
            raise RetryableError(f"{name}: vanished while it was read", hint=_REPLACED) from None
        except obstore_exceptions.NotSupportedError:
            hint = "name a file of a server that does, or one of at most 1 MiB"
            raise TaskError(f"{name}: its server does not serve ranges of it", hint=hint) from None
        except obstore_exceptions.PreconditionError:
            raise ReplacedError(f"{name}: replaced while it was read", hint=_REPLACED) from None
        except (obstore_exceptions.BaseError, OSError) as error:
            text = f"{name}: {first_line(error)}"
            if refused(error):
                hint = "check the credentials, and that they allow to read: s3:GetObject, or a like right"
                raise TaskError(text, hint=advice(error, hint)) from None
            if said := advice(error):
                raise TaskError(text, hint=said) from None
            raise UnreachableError(text, hint="is the store up, and can it be reached from here?") from None


def _look(meta: Any) -> Look:
    """How an object looks, by what the store says of it."""
    tag = meta["e_tag"] or ""
    changed = tag.strip('"') or meta["version"] or ""
    mtime_ns = (meta["last_modified"] - _EPOCH) // timedelta(microseconds=1) * 1_000
    strong = "" if tag.startswith("W/") else tag
    return Look(meta["size"], mtime_ns, _number(changed), _number(meta["path"]), strong)


def _same(one: Look, other: Look) -> bool:
    """By ETag or version; where there is none, by the time, which a list may say more exactly than the object itself."""
    if one.ctime_ns or other.ctime_ns:
        return (one.size, one.ctime_ns) == (other.size, other.ctime_ns)
    return (one.size, one.mtime_ns // _SECOND_NS) == (other.size, other.mtime_ns // _SECOND_NS)


def _number(text: str) -> int:
    """Below 0, so that it is neither a time nor an inode; 0 of nothing."""
    return -int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) if text else 0
