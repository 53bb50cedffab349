"""YAML 1.2 without its traps: no tags, no duplicate keys, bounded in every direction, and every value knows its place.

Built from the parser's events, not from constructed objects: nothing is created that was not asked for, and a document
that would expand without end is refused while it is read.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from strandline.errors import Problem
from strandline.logs import is_secret_name, register_parts

__all__ = ["Entry", "File", "Node", "parse", "read"]

SIZE_BYTES_MAX = 1 << 20
DEPTH_MAX = 64
ALIASES_MAX = 1_000
NODES_MAX = 50_000
"""Values in a file, with every alias written out."""

Scalar: TypeAlias = str | int | float | bool | None

_TEXT_MAX = 10_000
"""Characters of what is said of a problem, until its secrets are masked and it is cut to what is shown."""
_ASSIGNMENT = re.compile(r"""["']?([\w.-]+)["']?\s*:\s*(?=\S)""")
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS_MAX = 400


@dataclass(frozen=True, slots=True)
class File:
    """A spec file as it was read."""

    name: str
    """As the user named it."""
    text: str
    """With line breaks as ``\\n`` and without a byte order mark."""

    def problem(self, index: int, message: str, hint: str = "", *, unparsed: bool = False) -> Problem:
        """What is wrong at character ``index``. ``unparsed``: secrets on the line could not be recognised yet."""
        row = self.text.count("\n", 0, index) + 1
        start = self.text.rfind("\n", 0, index) + 1
        line = self.text[start:].split("\n", 1)[0]
        if unparsed:
            register_parts(line)
            ends = (found.end() for found in _ASSIGNMENT.finditer(line) if is_secret_name(found[1]))
            line = f"{line[:end]}***" if (end := next(ends, None)) is not None else line
        where = f"{self.name}:{row}:{index - start + 1}"
        return Problem(*(text[:_TEXT_MAX] for text in (message, where, line, hint)))


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping, with its value."""

    index: int
    """Where the key stands."""
    node: "Node"


@dataclass(slots=True, eq=False)
class Node:
    """A value and where it stands. The same node appears twice where an alias repeats it."""

    file: File
    index: int
    """In characters from the beginning of the file."""
    value: "Scalar | list[Node] | dict[str, Entry]"
    raw: str = ""
    """A scalar as it was written, without quotes."""
    size: int = 1
    """Values in it, itself included, with every alias written out."""
    height: int = 1

    def plain(self) -> Any:
        """As Python's own dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def get(self, key: str) -> "Node | None":
        """The value under ``key`` if this is a mapping that has it."""
        entry = self.value.get(key) if isinstance(self.value, dict) else None
        return entry.node if entry else None

    def at(self, path: Sequence[str | int]) -> tuple["Node", int]:
        """The deepest node along ``path``, and how many of its parts lead there."""
        node, depth = self, 0
        for part in path:
            below: Node | None = None
            if isinstance(node.value, dict) and isinstance(part, str):
                below = node.get(part)
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                below = node.value[part]
            if below is None:
                break
            node, depth = below, depth + 1
        return node, depth

    def below(self, *path: str) -> "Node | None":
        """What stands at ``path``; ``None`` if nothing does."""
        node, depth = self.at(path)
        return node if depth == len(path) else None

    def text_at(self, *path: str) -> "Node | None":
        """The text that stands at ``path``; ``None`` if there is nothing, or something else."""
        node = self.below(*path)
        return node if node is not None and isinstance(node.value, str) else None

    def problem(self, message: str, hint: str = "", *, key: str | None = None) -> Problem:
        """What is wrong with this value, or with its ``key``."""
        index = self.value[key].index if isinstance(self.value, dict) and key in self.value else self.index
        return self.file.problem(index, message, hint)


class _RefusedError(Exception):
    def __init__(self, index: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.index, self.message, self.hint = index, message, hint


def read(path: Path, name: str, problems: list[Problem]) -> File | None:
    """The file at ``path``; ``None`` where it cannot be read, with the reason in ``problems``."""
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE_BYTES_MAX + 1)
    except OSError as error:
        problems.append(Problem(f"cannot be read: {error.strerror or error}", name))
        return None
    if len(data) > SIZE_BYTES_MAX:
        problems.append(Problem(f"larger than {SIZE_BYTES_MAX >> 20} MiB", name, hint="split it into several files"))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        problems.append(Problem("not UTF-8", f"{name}:{row}:1", hint="save the file as UTF-8"))
        return None
    return File(name, text.replace("\r\n", "\n").replace("\r", "\n"))


def parse(file: File, problems: list[Problem]) -> list[Node]:
    """The documents of ``file``. Reading it ends at the first error of its syntax, which goes to ``problems``."""
    documents: list[Node] = []
    try:
        documents.extend(_Reader(file).documents())
    except _RefusedError as error:
        problems.append(file.problem(error.index, error.message, error.hint, unparsed=True))
    except ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        problems.append(file.problem(error.position, f"character U+{code:04X} is not allowed in YAML", unparsed=True))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        index = mark.index if mark else 0
        if index >= len(file.text.rstrip()) and error.context_mark:
            index = error.context_mark.index  # where it began says more than the end of the file
        message = ", ".join(str(part) for part in (error.context, error.problem) if part)
        problems.append(file.problem(index, f"not YAML: {message}", _syntax_hint(file, index), unparsed=True))
    except YAMLError as error:
        problems.append(Problem(f"not YAML: {error}", file.name))
    return documents


def _syntax_hint(file: File, index: int) -> str:
    if file.text[index : index + 1] == "\t":
        return "indent with spaces, not with tabs"
    line = file.text[file.text.rfind("\n", 0, index) + 1 :].split("\n", 1)[0]
    if "${" in line:
        return 'put the value with ${…} in quotes: "${NAME}"'
    return 'put a value with ": ", " #" or one of {}[],&*!|>%@` at its beginning in quotes' if ":" in line else ""


class _Reader:
    """Turns the parser's events into nodes, counting."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(file.text))
        self._anchors: dict[str, Node | None] = {}
        self._aliases = 0
        self._nodes = 0

    def documents(self) -> Iterator[Node]:
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                if event.version not in (None, (1, 2)):
                    raise _RefusedError(event.start_mark.index, "only YAML 1.2 is read", "remove the %YAML line")
                self._anchors = {}
                node = self._node(next(self._events), 1)
                end = next(self._events)
                assert isinstance(end, DocumentEndEvent)
                if node.value is not None:
                    yield node

    def _node(self, event: Any, depth: int) -> Node:
        index = event.start_mark.index
        if isinstance(event, AliasEvent):
            return self._alias(event.anchor, index, depth)
        if event.tag is not None:
            raise _RefusedError(index, f"the tag {event.tag.rpartition(':')[2]!r} is refused", "remove it")
        if depth > DEPTH_MAX:
            raise _RefusedError(index, f"nested deeper than {DEPTH_MAX} levels")
        self._count(1, index)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = Node(self._file, index, None)
        if isinstance(event, ScalarEvent):
            node.raw = event.value
            node.value = self._scalar(event, index)
        elif isinstance(event, SequenceStartEvent):
            node.value = list(self._items(node, depth))
        else:
            assert isinstance(event, MappingStartEvent)
            node.value = self._entries(node, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, index: int, depth: int) -> Node:
        self._aliases += 1
        if anchor not in self._anchors:
            raise _RefusedError(index, f"there is no anchor &{anchor} before this alias")
        node = self._anchors[anchor]
        if node is None:
            raise _RefusedError(index, f"the alias *{anchor} stands inside what it repeats")
        if self._aliases > ALIASES_MAX:
            raise _RefusedError(index, f"more than {ALIASES_MAX} aliases")
        if depth + node.height - 1 > DEPTH_MAX:
            raise _RefusedError(index, f"nested deeper than {DEPTH_MAX} levels")
        self._count(node.size, index)
        return node

    def _count(self, nodes: int, index: int) -> None:
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            raise _RefusedError(index, f"more than {NODES_MAX} values in one file", "split it into several files")

    def _items(self, parent: Node, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), SequenceEndEvent):
            node = self._node(event, depth + 1)
            _grow(parent, node)
            yield node

    def _entries(self, parent: Node, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self._events), MappingEndEvent):
            index = event.start_mark.index
            if not isinstance(event, ScalarEvent):
                raise _RefusedError(index, "a key must be a text", "aliases, lists and mappings cannot be keys")
            if event.tag is not None or event.anchor is not None:
                raise _RefusedError(index, "a key cannot have a tag or an anchor", "remove it")
            key = _text(event.value, index)
            node = self._node(next(self._events), depth + 1)
            _grow(parent, node)
            if key == "<<" and event.style is None:
                merged += node.value if isinstance(node.value, list) else [node]
            elif key in entries:
                raise _RefusedError(index, f"{key!r} stands here twice", "remove one of the two")
            else:
                entries[key] = Entry(index, node)
        for node in merged:
            if not isinstance(node.value, dict):
                raise _RefusedError(node.index, "`<<` merges mappings only")
            entries = node.value | entries
        return entries

    def _scalar(self, event: Any, index: int) -> Scalar:
        text = _text(event.value, index)
        return _resolve(text, index) if event.style is None else text


def _grow(parent: Node, child: Node) -> None:
    parent.size += child.size
    parent.height = max(parent.height, child.height + 1)


def _text(text: str, index: int) -> str:
    if _SURROGATE.search(text):
        raise _RefusedError(index, "half of a surrogate pair is not a character")
    return text


def _resolve(text: str, index: int) -> Scalar:
    """A value without quotes, by the core schema of YAML 1.2: ``no`` and ``2024-01-01`` are texts."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if len(text) > _DIGITS_MAX and (_INT.fullmatch(text) or _BASED.fullmatch(text)):
        raise _RefusedError(index, f"a number of more than {_DIGITS_MAX} digits", "put it in quotes")
    if _INT.fullmatch(text):
        return int(text)
    if based := _BASED.fullmatch(text):
        return int(based[1], 8) if based[1] else int(based[2], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float("nan") if special[3] else float(f"{special[1]}inf")
    return text
