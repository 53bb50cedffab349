"""The content of a file: what is in it once it is decompressed, turned into UTF-8, and a JSON document into JSON lines.

All offsets, lengths and digests of a line format are of the content, not of the bytes on disk. So a log that is
compressed as it is rotated is still the same log, and an array with more elements than before has grown. Of a Parquet file
the content is the file.
"""

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

from strandline.connectors.arrow.json_path import JSONPath
from strandline.connectors.files.json_documents import DocumentError, is_document, records
from strandline.connectors.files.paths import File, shown
from strandline.errors import RetryableError, StrandlineError, TaskError
from strandline.lazy import pa

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "BOM",
    "UTF_8",
    "Coding",
    "Content",
    "Prefix",
    "UnfinishedError",
    "digest",
    "prefixes",
    "trouble",
]

BOM = codecs.BOM_UTF8
UTF_8 = codecs.lookup("utf-8").name
"""The encoding of a content, and of a file whose bytes are its content."""
_BLOCK_BYTES = 4 << 20
DOCUMENT_HINT = "fix the document; `records` says where in it the records lie, like data.items"
_HEAD_BYTES = 64 << 10
"""Tells a document from lines."""
_MORE = b"P"
"""What any Parquet file begins with."""
_MAGIC = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""What a compressed file begins with, whatever its name."""
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What a text begins with that says its encoding, with the name of the codec."""


def digest(hasher: "_Hash") -> str:
    """What the cursor keeps: half of a SHA-256, 32 hexadecimal digits."""
    return hasher.hexdigest()[:32]


class Coding(NamedTuple):
    """How the bytes of a table's files become their content."""

    encoding: str = UTF_8
    """A codec's own name."""
    records: JSONPath = ()
    """Where they lie in JSON."""


class UnfinishedError(TaskError):
    """A file ends too early: it was cut off, or is still being written. What comes before was yielded."""


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
    """An opened file. For one thread; closed by ``with``.

    Raises:
        TaskError: the file cannot be opened, or read any further: it is damaged, or not in the declared encoding.
        UnfinishedError: a document ends too early.
        RetryableError: it has vanished, or the disk fails.
    """

    def __init__(self, file: File, coding: Coding) -> None:
        self.file = file
        try:
            self._opened = file.place.open(file)
        except OSError as error:
            raise trouble(file, error) from error
        self.look = self._opened.look
        """As it was before anything was read: a change after that is seen by the next sync."""
        self._declared = None if coding.encoding == UTF_8 else coding.encoding
        self._records = coding.records
        self._compression = file.compression or self._by_magic()

    @property
    def plain(self) -> bool:
        """Whether the bytes of the file are the content."""
        return self._compression is None and self._encoding is None and not self._document

    @property
    def marked(self) -> str:
        """The encoding that a byte order mark says, if it is another than the declared one; else nothing."""
        return "" if self._encoding == self._declared else self._encoding or UTF_8

    @cached_property
    def _encoding(self) -> str | None:
        """As the first bytes say, or as declared; ``None``: UTF-8."""
        if self.file.format == "parquet" or not self.look.size:
            return self._declared
        try:
            head = next(self._decompressed(len(codecs.BOM_UTF32_LE)), b"")
        except (OSError, pa.ArrowException) as error:
            raise trouble(self.file, error) from error
        said = next((name for bom, name in _BOMS.items() if head.startswith(bom)), self._declared)
        if said is None or head.startswith(BOM):
            return None
        # the codec of UTF-16 is that of UTF-16LE, where the mark says so
        return self._declared if self._declared is not None and self._declared.startswith(said) else said

    @cached_property
    def _document(self) -> bool:
        """Whether it is JSON, but not in lines."""
        if self.file.format != "jsonl":
            return False
        if self._records:
            return True
        head = b""
        for block in self._bytes(0, _HEAD_BYTES):
            head += block
            if len(head) >= _HEAD_BYTES:
                break
        return is_document(head[:_HEAD_BYTES])  # so many, however they come: a log is the same one when it is packed

    def _by_magic(self) -> str | None:
        if self.file.format == "parquet":
            return None
        try:
            head = self._opened.head(max(map(len, _MAGIC)))
        except OSError as error:
            self._opened.close()
            raise trouble(self.file, error) from error
        return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def blocks(self, offset: int = 0, size_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
        """The content from ``offset`` on, in blocks of about ``size_bytes``, none of them empty. One at a time."""
        if not self._document:
            yield from self._bytes(offset, size_bytes)
            return
        for block in self._lines(size_bytes):
            if offset < len(block):
                yield block[offset:]
            offset = max(0, offset - len(block))

    def _bytes(self, offset: int, size_bytes: int) -> Iterator[bytes]:
        """The same of what is in the file, in UTF-8."""
        try:
            if self.look.size == 0:
                return
            encoding = self._encoding
            if self._compression is None and encoding is None:
                yield from self._opened.blocks(offset, size_bytes)
                return
            blocks = self._decompressed(size_bytes)
            for block in blocks if encoding is None else self._recoded(blocks, encoding):
                if offset < len(block):
                    yield block[offset:]
                offset = max(0, offset - len(block))
        except (OSError, pa.ArrowException) as error:
            raise trouble(self.file, error) from error

    def _lines(self, size_bytes: int) -> Iterator[bytes]:
        """A document's records as lines."""
        lines, size = [], 0
        try:
            for line, _ in records(self._bytes(0, size_bytes), self._records):
                lines.append(line)
                size += len(line)
                if size >= size_bytes:
                    yield b"".join(lines)
                    lines, size = [], 0
        except StrandlineError as error:
            stopped: StrandlineError | None = error
        except DocumentError as error:
            text = f"{shown(self.file.key)}:{error.line}: {error}"
            kind, hint = (UnfinishedError, "complete the file") if error.unfinished else (TaskError, DOCUMENT_HINT)
            stopped = kind(text, hint=hint)
        else:
            stopped = None
        if lines:
            yield b"".join(lines)
        if stopped is not None:
            raise stopped

    def _decompressed(self, size_bytes: int) -> Iterator[bytes]:
        if self._compression is None:
            yield from self._opened.blocks(0, size_bytes)
            return
        stream = pa.CompressedInputStream(self.for_arrow(), self._compression)
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
                hint="set `csv.encoding` to the file's own, or convert it: iconv -t UTF-8",
            ) from error

    def for_arrow(self) -> "pa.NativeFile":
        """The file as Arrow reads it."""
        return self._opened.for_arrow()

    def expect(self, start: int, end: int) -> None:
        """Arrow reads these bytes next."""
        self._opened.expect(start, end)

    def prefixes(self, lengths: Sequence[int], blocks: "Iterator[bytes] | None" = None) -> Iterator[Prefix]:
        """See ``prefixes``; ``blocks`` are the content's, where it may be read no further than these go.

        A Parquet object is known by its ETag, so that nobody has to fetch all of it twice. It has a beginning and an end only.
        """
        if self.file.format != "parquet" or not self.look.tag:
            yield from prefixes(self.blocks() if blocks is None else blocks, lengths)
            return
        if 0 in lengths:
            yield Prefix(hashlib.sha256(), 0, _MORE[: self.look.size])
        if self.look.size in lengths and self.look.size:
            yield Prefix(hashlib.sha256(f"tag {self.look.size} {self.look.tag}".encode()), self.look.size, b"")

    def line_at(self, offset: int) -> int:
        """The number of the file's line, from 1, in which the byte at ``offset`` stands. Reads everything before it."""
        line = 1
        if self._document:
            with suppress(DocumentError):
                for record, line in records(self._bytes(0, _BLOCK_BYTES), self._records):  # noqa: B007 -- of the last one
                    offset -= len(record)
                    if offset < 0:
                        break
            return line
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
        return TaskError(f"{name}: may not be read", hint="fix its permissions, or leave it out with a pattern")
    if isinstance(error, OSError) and error.errno is not None:
        return RetryableError(f"{name}: {error.strerror}")
    return TaskError(
        f"{name}: damaged, or not complete yet: {error}", hint="put a complete file in its place, or move it away"
    )
