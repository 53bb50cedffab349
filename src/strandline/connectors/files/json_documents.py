"""Records of JSON documents, as JSON lines: the elements of arrays, and objects that go over several lines.

A content is a sequence of JSON values. Each object is a record, and so is each element of an array; with a path, what lies
there in each value. A record stays as it is written, in one line. Nothing but the record at hand is held in memory.
"""

import codecs
import json
import re
from collections.abc import Iterator

from strandline.connectors.arrow.json_path import JSONPath

__all__ = ["RECORD_BYTES_MAX", "DocumentError", "is_document", "records"]

RECORD_BYTES_MAX = 64 << 20

_SPACE = re.compile(r"[ \t\r\n]*")
_CUT = re.compile(r"-?[0-9.]*[eE]?[-+]?|tr?u?|fa?l?s?|nu?l?")
"""The rest of a number or a word that does not end."""
_NUMBER = re.compile(r"[-+.0-9A-Za-z]*")
"""What may follow the beginning of a number, or of a word."""
_TEXT = re.compile(rb'"(?:[^"\\\n]|\\.)*+"')
_NAMED_MAX = 8


class DocumentError(ValueError):
    """A document cannot be read any further. ``unfinished``: it ends too early, for it may still be being written."""

    def __init__(self, message: str, line: int, *, unfinished: bool = False) -> None:
        super().__init__(message)
        self.line = line
        self.unfinished = unfinished


def is_document(head: bytes) -> bool:
    """Whether a file that begins with ``head`` holds an array, or an object over several lines, and no JSON lines.

    A file of JSON lines may go on with an object over several. What was read of it has to stay what it was, so it is a document
    then only if each line before is as a document's records are: one object, and no blanks around it.
    """
    bare = head.removeprefix(codecs.BOM_UTF8)
    stripped = bare.lstrip()
    first, newline, _ = stripped.partition(b"\n")
    if not stripped.startswith(b"{") or not newline:
        return stripped.startswith(b"[")
    if _opens(first):
        return True
    if bare != head or bare.count(b"}\n") == bare.count(b"\n"):
        return False  # of a document, a byte order mark is no content
    for line in bare.split(b"\n")[:-1]:
        if not (line.startswith(b"{") and line.endswith(b"}")):
            return line.startswith(b"{") and _opens(line)
        if _opens(line):
            return True
    return False


def _opens(line: bytes) -> bool:
    """Whether something begins in the line and does not end there."""
    left = _TEXT.sub(b"", line)
    return left.count(b"{") + left.count(b"[") > left.count(b"}") + left.count(b"]")


def records(blocks: Iterator[bytes], path: JSONPath = ()) -> Iterator[tuple[bytes, int]]:
    """Each record as a line, with the number of the line, from 1, in which it begins.

    Raises:
        DocumentError: it is no JSON, or nothing lies at ``path``.
    """
    text = _Text(blocks)
    while text.peek():
        yield from _below(text, path)


def _below(text: "_Text", path: JSONPath) -> Iterator[tuple[bytes, int]]:
    opened = text.peek()
    if not path:
        for _ in _elements(text) if opened == "[" else "1":
            yield text.record()
    elif opened == "[" and path[0] is None:
        for _ in _elements(text):
            yield from _below(text, path[1:])
    elif opened == "{":
        yield from _in_object(text, path[0], path[1:])
    else:
        what = "an array" if opened == "[" else "no object"
        raise text.error(f"{what} lies where `records` names {'*' if path[0] is None else repr(path[0])}")


def _in_object(text: "_Text", key: str | None, path: JSONPath) -> Iterator[tuple[bytes, int]]:
    line, names = text.line, dict[str, bool]()
    for name in _keys(text):
        if name in names and name == key:
            raise text.error(f"the key {name!r} comes twice")
        names[name] = True
        # many APIs say null where there are no records
        if key not in (None, name) or text.peek() == "n":
            text.skip()
        else:
            yield from _below(text, path)
    if key is not None and key not in names:
        there = ", ".join(map(repr, [*names][:_NAMED_MAX])) or "none"
        raise DocumentError(f"`records` names {key!r}, which is no key of the object here: {there}", line)


def _parts(text: "_Text", opened: str, closed: str) -> Iterator[None]:
    """Once for each part of the array or object that begins here, which has to be taken."""
    line = text.line
    text.take(opened)
    if text.peek() == closed:
        text.take(closed)
        return
    while True:
        yield
        if text.peek() != ",":
            break
        text.take(",")
    if not text.peek():
        what = "array" if opened == "[" else "object"
        raise DocumentError(f"the {what} that begins here does not end", line, unfinished=True)
    text.take(closed)


def _elements(text: "_Text") -> Iterator[None]:
    """Once for each element of the array that begins here, which has to be taken."""
    return _parts(text, "[", "]")


def _keys(text: "_Text") -> Iterator[str]:
    """The keys of the object that begins here; the value of each has to be taken."""
    for _ in _parts(text, "{", "}"):
        if text.peek() not in ('"', ""):
            raise text.error("a key is missing")
        name = json.loads(text.value())
        text.take(":")
        yield name


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


class _Text:
    """What is still to be read, as far as it is in memory."""

    _decoder = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_no_number)
    """Where a value ends; what it is does not matter, so numbers stay text."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._utf_8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._line_of_at, self._counted = 1, 0

    @property
    def line(self) -> int:
        """Of what comes next."""
        self._line_of_at += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line_of_at

    def error(self, message: str, *, unfinished: bool = False) -> DocumentError:
        """An error in the line of what comes next."""
        return DocumentError(message, self.line, unfinished=unfinished)

    def peek(self) -> str:
        """The character that comes next, behind space; none at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def take(self, character: str) -> None:
        """Go behind ``character``, which has to be next."""
        if self.peek() != character:
            raise self.error(f"{character!r} is missing", unfinished=not self.peek())
        self._at += 1

    def record(self) -> tuple[bytes, int]:
        """The value that comes next as a line, and where it begins."""
        self.peek()
        line = self.line
        value = self.value()
        # in JSON a newline is never within a text
        return value.replace("\n", " ").replace("\r", " ").encode() + b"\n", line

    def value(self) -> str:
        """The text of the value that comes next."""
        self.peek()
        end = self._end()
        while end is None:
            if len(self._text) - self._at > RECORD_BYTES_MAX:
                raise self.error(f"a value of more than {RECORD_BYTES_MAX >> 20} MiB")
            end = self._end(last=not self._fill())
        found, self._at = self._text[self._at : end], end
        return found

    def skip(self) -> None:
        """Go behind the value that comes next, however large it is."""
        opened = self.peek()
        end = self._end()
        if end is not None:
            self._at = end
        elif opened == "[":
            for _ in _elements(self):
                self.skip()
        elif opened == "{":
            for _ in _keys(self):
                self.skip()
        else:
            self.value()

    def _end(self, *, last: bool = False) -> int | None:
        """Where the value that comes next ends, if that is in memory."""
        try:
            _, end = self._decoder.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            if not last:
                return None
            rest = self._text[error.pos :].strip()
            cut = not rest or error.msg.startswith("Unterminated string") or _CUT.fullmatch(rest) is not None
            raise self._invalid(error.msg, error.pos, unfinished=cut) from error
        except RecursionError as error:
            raise self.error("nested too deep") from error
        except ValueError as error:
            raise self.error(str(error)) from error
        number = _NUMBER.match(self._text, end)
        # a number may go on in the next block
        ends = self._text[end - 1] in '}]"' or (number and number.end() < len(self._text))
        return end if last or ends else None

    def _invalid(self, message: str, at: int, *, unfinished: bool) -> DocumentError:
        if unfinished:
            return self.error("the value that begins here does not end", unfinished=True)
        return DocumentError(message, self.line + self._text.count("\n", self._at, at))

    def _fill(self) -> bool:
        """Get more; whether there was any."""
        line = self.line
        block = next(self._blocks, b"")
        try:
            more = self._utf_8.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += self._text.count("\n", self._at) + error.object[: error.start].count(b"\n")
            raise DocumentError(f"{error.reason}: it is not UTF-8", line) from error
        self._text, self._at, self._counted = self._text[self._at :] + more, 0, 0
        return bool(block)
