"""What is in an object: read by ranges, of which each has to be of the version that was seen first."""

import io
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

from strandline.connectors.files.paths import File, Look
from strandline.errors import RetryableError
from strandline.lazy import pa

__all__ = ["ObjectFile", "Ranges", "ReplacedError", "first_range"]

_FIRST_BYTES = 1 << 20
"""Fetched when an object is opened, so that a small one is one request."""
_FOOTER_BYTES = 64 << 10
_CHUNK_BYTES = 4 << 20
_CHUNKS_MAX = 4
"""Of one file at once."""
_EXPECTED_BYTES_MAX = 64 << 20
"""Of a row group that is fetched as a whole, in several requests at once."""
_BEFORE_BYTES = 256
_CHANGES_MAX = 5
"""One after the other, while nothing can be read in between."""
_T = TypeVar("_T")


class ReplacedError(RetryableError):
    """There is another version of the object by now."""


class Ranges(Protocol):
    """What an object is read by. For many threads; errors are those of ``paths.Opened``."""

    def fetch(self, file: File, look: Look, start: int, end: int) -> bytes:
        """These bytes of an object that looks so.

        Raises:
            ReplacedError: it looks otherwise.
        """

    def look_at(self, file: File) -> Look:
        """How it looks now."""

    def submit(self, work: Callable[[], _T]) -> "Future[_T]":
        """Do it in another thread."""


def first_range(file: File, size_bytes: int = _FIRST_BYTES) -> tuple[int, int]:
    """What is fetched of a file first: its beginning, or the end of a Parquet file, where the footer is; all of a small one."""
    size = file.look.size
    if file.format == "parquet":
        return (0, size) if size <= _FIRST_BYTES else (max(0, size - _FOOTER_BYTES), size)
    return 0, min(size, size_bytes)


class ObjectFile:
    """See ``paths.Opened``.

    Args:
        ranges: reads it.
        file: what it was when it was listed.
        first: ``first_range`` of it, perhaps, and where that begins.
    """

    def __init__(self, ranges: Ranges, file: File, first: "tuple[int, Future[bytes]] | None") -> None:
        self._ranges, self._file, self.look = ranges, file, file.look
        self._asked = file.look
        """What it has to look like: ``look``, or a longer one."""
        self._kept: list[tuple[int, memoryview]] = []
        """What was fetched before it was asked for: where it begins, and the bytes."""
        if not file.look.size or (first is None and file.format == "parquet" and file.look.tag):
            return  # what has an ETag is known without a look into it
        try:
            start, data = (first[0], first[1].result()) if first else self._first()
        except ReplacedError:
            # as of a file that has changed since it was listed: who reads it compares it with what was read before
            self.look = self._asked = ranges.look_at(file)
            start, data = self._first()
        self._kept.append((start, memoryview(data)))

    def _first(self) -> tuple[int, bytes]:
        size = self.look.size
        start, end = first_range(self._file) if self.look == self._file.look else (0, min(size, _FIRST_BYTES))
        return start, self._fetch(start, end) if end else b""

    def _fetch(self, start: int, end: int) -> bytes:
        return self._ranges.fetch(self._file, self._asked, start, end)

    def head(self, size_bytes: int) -> bytes:
        """See ``paths.Opened``."""
        return self.read(0, min(size_bytes, self.look.size))

    def read(self, start: int, end: int) -> bytes:
        """These bytes, of what is there already or by a request of its own."""
        for at, data in self._kept:
            if at <= start and end <= at + len(data):
                return bytes(data[start - at : end - at])
        return self._fetch(start, end) if end > start else b""

    def blocks(self, offset: int, size_bytes: int) -> Iterator[bytes]:
        """See ``paths.Opened``.

        An object that becomes longer while it is read, by an append or because it is replaced, is read on as far as it went:
        the bytes before are the same then, as of a local file, and the next sync compares all of it.
        """
        at, before, changes = offset, b"", 0
        while at < self.look.size:
            try:
                for data in self._chunks(at):
                    for piece in range(0, len(data), size_bytes):
                        block = data[piece : piece + size_bytes]
                        at, before, changes = at + len(block), block[-_BEFORE_BYTES:], 0
                        yield block
            except ReplacedError:
                now, changes = self._ranges.look_at(self._file), changes + 1
                if not before or now.size < self.look.size or changes > _CHANGES_MAX:
                    raise
                if self._ranges.fetch(self._file, now, at - len(before), at) != before:
                    raise
                self._asked = now

    def _chunks(self, at: int) -> Iterator[bytes]:
        """What follows, the next of it fetched while one is used."""
        for start, data in self._kept:
            if start <= at < start + len(data):
                yield bytes(data[at - start :])
                at = start + len(data)
        ahead: deque[Future[bytes]] = deque()
        size, asked, count = self.look.size, at, 1
        try:
            while at < size:
                while asked < size and len(ahead) < count:
                    end = min(asked + _CHUNK_BYTES, size)
                    ahead.append(self._soon(asked, end))
                    asked = end
                data_ = ahead.popleft().result()
                at, count = at + len(data_), min(count + 1, _CHUNKS_MAX)
                yield data_
        finally:
            for one in ahead:
                one.cancel()

    def _soon(self, start: int, end: int) -> "Future[bytes]":
        return self._ranges.submit(lambda: self._fetch(start, end))

    def for_arrow(self) -> "pa.NativeFile":
        """See ``paths.Opened``."""
        return pa.PythonFile(_Random(self) if self._file.format == "parquet" else _Stream(self), "r")

    def expect(self, start: int, end: int) -> None:
        """See ``paths.Opened``: several requests at once, unless it is too much."""
        del self._kept[1:]
        if end - start > _EXPECTED_BYTES_MAX or any(at <= start and end <= at + len(data) for at, data in self._kept):
            return
        room = memoryview(bytearray(end - start))
        starts = range(start, end, _CHUNK_BYTES)
        for at, data in zip(starts, [self._soon(at, min(at + _CHUNK_BYTES, end)) for at in starts], strict=True):
            found = data.result()
            room[at - start : at - start + len(found)] = found
        self._kept.append((start, room.toreadonly()))

    def close(self) -> None:
        """See ``paths.Opened``."""
        self._kept.clear()


class _Random(io.RawIOBase):
    """An object, read anywhere."""

    def __init__(self, opened: ObjectFile) -> None:
        super().__init__()
        self._opened, self._at = opened, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._opened.look.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._opened.look.size if size < 0 else min(self._at + size, self._opened.look.size)
        data = self._opened.read(self._at, end)
        self._at += len(data)
        return data


class _Stream(io.RawIOBase):
    """An object, read from its beginning to its end."""

    def __init__(self, opened: ObjectFile) -> None:
        super().__init__()
        self._blocks, self._rest = opened.blocks(0, _FIRST_BYTES), b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            block = next(self._blocks, b"")
            if not block:
                break
            self._rest += block
        data, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return data
