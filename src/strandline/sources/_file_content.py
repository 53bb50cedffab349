"""The content of a file: what is in it once it is decompressed and, where it was not, turned into UTF-8.

All offsets, lengths and digests of a line format are of the content, not of the bytes on disk. So a log that is
compressed as it is rotated is still the same log. Of a Parquet file the content is the file.
"""

import codecs
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from strandline.errors import RetryableError, StrandlineError, TaskError
from strandline.lazy import pa
from strandline.sources._file_paths import File, shown

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["BOM", "UTF_8", "Content", "Prefix", "digest", "prefixes", "trouble"]

BOM = codecs.BOM_UTF8
UTF_8 = codecs.lookup("utf-8").name
"""The encoding of a content, and of a file whose bytes are its content."""
_BLOCK_BYTES = 4 << 20


def digest(hasher: "_Hash") -> str:
    """What the cursor keeps: half of a SHA-256, 32 hexadecimal digits."""
    return hasher.hexdigest()[:32]


class Prefix(NamedTuple):
    """The first ``length`` bytes of a content."""

    hasher: "_Hash"
    length: int
    following: bytes
    """The byte after them; empty at the end of the content."""


def prefixes(blocks: Iterator[bytes], lengths: Sequence[int]) -> Iterator[Prefix]:
    """The prefix of each of the ascending ``lengths``, as far as the content goes. Reads each byte once."""
    hasher, position, rest = hashlib.sha256(), 0, next(blocks, b"")
    for length in lengths:
        while length - position > len(rest):
            hasher.update(rest)
            position += len(rest)
            rest = next(blocks, b"")
            if not rest:
                return
        hasher.update(rest[: length - position])
        rest = rest[length - position :] or next(blocks, b"")
        position = length
        yield Prefix(hasher.copy(), length, rest[:1])


class Content:
    """An opened file. For one thread; closed by ``with``. ``encoding`` is a codec's own name.

    Raises:
        TaskError: the file cannot be opened, or read any further: it is damaged, or not in the declared encoding.
        RetryableError: it has vanished, or the disk fails.
    """

    def __init__(self, file: File, encoding: str) -> None:
        self.file = file
        self.raw: BinaryIO
        self._handles: list[BinaryIO] = []
        try:
            self.raw = Path(file.path).open("rb", buffering=0)  # noqa: SIM115 closed by __exit__
        except OSError as error:
            raise trouble(file, error) from error
        self.stat = os.fstat(self.raw.fileno())
        """As it was before anything was read: a change after that is seen by the next sync."""
        self._encoding = None if encoding == UTF_8 else encoding

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in (self.raw, *self._handles):
            handle.close()

    def blocks(self, offset: int = 0, size_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
        """The content from ``offset`` on, in blocks of about ``size_bytes``, none of them empty. One at a time."""
        try:
            if self.stat.st_size == 0:
                return
            if self.file.compression is None and self._encoding is None:
                self.raw.seek(offset)
                yield from iter(lambda: self.raw.read(size_bytes), b"")
                return
            self.raw.seek(0)
            blocks = self._decompressed(size_bytes)
            for block in blocks if self._encoding is None else self._recoded(blocks, self._encoding):
                if offset < len(block):
                    yield block[offset:]
                offset = max(0, offset - len(block))
        except (OSError, pa.ArrowException) as error:
            raise trouble(self.file, error) from error

    def _decompressed(self, size_bytes: int) -> Iterator[bytes]:
        if self.file.compression is None:
            yield from iter(lambda: self.raw.read(size_bytes), b"")
            return
        stream = pa.CompressedInputStream(self.for_arrow(), self.file.compression)
        yield from iter(lambda: stream.read(size_bytes), b"")

    def _recoded(self, blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(encoding)()
        line = 1
        try:
            for block in blocks:
                text = decoder.decode(block).encode()
                line += text.count(b"\n")
                yield text
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].decode(encoding, errors="ignore").encode()
            yield good
            line += good.count(b"\n")
            raise TaskError(
                f"{shown(self.file.key)}:{line}: {error.reason}: the file is not in {encoding}",
                hint="set `csv.encoding` to the file's own",
            ) from error

    def for_arrow(self) -> "pa.NativeFile":
        """The file as Arrow reads it. Arrow closes what it is given, at times, so it gets a handle of its own."""
        handle = os.fdopen(os.dup(self.raw.fileno()), "rb", buffering=0)
        self._handles.append(handle)
        return pa.PythonFile(handle, "r")

    def line_at(self, offset: int) -> int:
        """The number of the line, from 1, in which the byte at ``offset`` stands. Reads everything before it."""
        line = 1
        for block in self.blocks():
            line += block[:offset].count(b"\n")
            offset -= len(block)
            if offset <= 0:
                break
        return line


def trouble(file: File, error: BaseException) -> StrandlineError:
    """What an error of the operating system or of Arrow means for the sync."""
    name = shown(file.key)
    if isinstance(error, FileNotFoundError):
        return RetryableError(f"{name}: vanished while it was read", hint="the files are listed again")
    if isinstance(error, PermissionError):
        return TaskError(f"{name}: may not be read", hint="mend its permissions, or leave it out with a pattern")
    if isinstance(error, OSError) and error.errno is not None:
        return RetryableError(f"{name}: {error.strerror}")
    return TaskError(
        f"{name}: damaged, or not complete yet: {error}", hint="put a complete file in its place, or move it away"
    )
