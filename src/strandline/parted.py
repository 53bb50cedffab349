"""A large mapping in a cursor, which is saved in parts: a commit writes what has changed, and not all of it.

::

    files = Parted.of(cursor["files"])                                  # a plain mapping, too, as it was saved before
    files = files.changed({"b.csv": [7, 1]}, gone=["a.csv"])            # another one; ``files`` stays as it was
    yield Checkpoint({"version": 1, "files": files})

It may stand where a cursor has a mapping of texts, not deeper, and equals the plain mapping of the same content. Parts are what
was changed at one time or another, the oldest first: a later one wins. Two that come one after the other become one where the
older one is not twice as large. So there are few of them, the sizes of which at least halve, and a change is written again
about as often as the whole has doubled since.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

__all__ = ["TAIL_BYTES", "Part", "Parted", "plain"]

TAIL_BYTES = 16 << 10
"""The newest parts stay with the state as long as they are no larger, encoded: a small mapping has no parts of its own."""
_RATIO = 2

_alive: "WeakValueDictionary[str, Part]" = WeakValueDictionary()
"""By name. States of a history share most of their parts, and two backends have the same."""


class Part:
    """What some keys are from then on, and which ones are gone. Never changes, nor do the values.

    Args:
        values: JSON values by key.
        gone: keys that older parts may have.
    """

    __slots__ = ("__weakref__", "_named", "gone", "values")

    def __init__(self, values: Mapping[str, Any], gone: Iterable[str] = ()) -> None:
        self.values, self.gone = values, frozenset(gone)
        self._named: tuple[str, int] | None = None

    @classmethod
    def read(cls, name: str, text: str) -> "Part":
        """The part of that name.

        Raises:
            ValueError: ``text`` is another one, or damaged.
        """
        if _name(text) != name:
            raise ValueError("its checksum does not match")
        known = _alive.get(name)
        if known is not None:
            return known
        body = json.loads(text)
        part = cls(body["values"], body["gone"])
        part._know(name, len(text))
        return part

    def text(self) -> str:
        """As it is kept.

        Raises:
            ValueError: it holds what JSON would change, or has changed since it was named.
        """
        text = json.dumps({"gone": sorted(self.gone), "values": self.values}, allow_nan=False, separators=(",", ":"))
        if self._named is None:
            if json.loads(text)["values"] != self.values:
                raise ValueError("JSON would change it")
            self._know(_name(text), len(text))
        elif _name(text) != self._named[0]:
            raise ValueError("it was changed after it was sent")
        return text

    @property
    def name(self) -> str:
        """The SHA-256 of its text, in hexadecimal. Raises as ``text``."""
        return self._known()[0]

    @property
    def size_bytes(self) -> int:
        """How long its text is, which is ASCII. Raises as ``text``."""
        return self._known()[1]

    def _known(self) -> tuple[str, int]:
        if self._named is None:
            self.text()
        assert self._named is not None
        return self._named

    def _know(self, name: str, size_bytes: int) -> None:
        self._named = name, size_bytes
        _alive.setdefault(name, self)

    def __len__(self) -> int:
        return len(self.values) + len(self.gone)

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.values, self.gone)


class Parted(Mapping[str, Any]):
    """See the module.

    Args:
        parts: the oldest first.
    """

    __slots__ = ("parts",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self.parts = tuple(parts)

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> "Parted":
        """The same content; itself, if it has parts already."""
        if isinstance(mapping, Parted):
            return mapping
        return cls([Part(dict(mapping))] if mapping else ())

    def changed(self, values: Mapping[str, Any], gone: Iterable[str] = ()) -> "Parted":
        """Another one, with these values in place of the former ones, and without what is gone.

        Args:
            values: JSON values by key, which must not change any more.
            gone: other keys; one that is not there is ignored.
        """
        newest = Part(dict(values), gone)
        if not newest:
            return self
        parts = [*self.parts, newest]
        while len(parts) > 1 and len(parts[-2]) < _RATIO * len(parts[-1]):
            parts[-2:] = [_merged(parts[-2:])]
        if len(parts) == 1:
            parts = [Part(parts[0].values)]
        return Parted(part for part in parts if part)

    def split(self) -> tuple[Sequence[Part], Part]:
        """What is kept in parts, and what stays with the state. Raises as ``Part.text``."""
        kept, tail, room = list(self.parts), list[Part](), TAIL_BYTES
        while kept and kept[-1].size_bytes <= room:
            tail.insert(0, kept.pop())
            room -= tail[0].size_bytes
        return kept, _merged(tail)

    def whole(self) -> dict[str, Any]:
        """All of it, as a new dict."""
        return dict(_merged(self.parts).values)

    def __getitem__(self, key: str) -> Any:
        for part in reversed(self.parts):
            if key in part.values:
                return part.values[key]
            if key in part.gone:
                break
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Parted):
            return self.parts == other.parts or self.whole() == other.whole()
        return isinstance(other, Mapping) and self.whole() == dict(other)

    def __repr__(self) -> str:
        return f"Parted({self.whole()!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Parted, (self.parts,)


def plain(cursor: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A cursor with plain mappings in the place of those that have parts."""
    if cursor is None:
        return None
    return {name: value.whole() if isinstance(value, Parted) else value for name, value in cursor.items()}


def _merged(parts: Sequence[Part]) -> Part:
    """Of parts one after the other, the one that says the same."""
    if len(parts) == 1:
        return parts[0]
    values, gone = dict[str, Any](), set[str]()
    for part in parts:
        for key in part.gone:
            values.pop(key, None)
        values.update(part.values)
        gone = (gone - part.values.keys()) | part.gone
    return Part(values, gone)


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
