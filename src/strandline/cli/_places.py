"""A URI, or a path, as the plugin that it means, with its settings: what plugins say of themselves, put together."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strandline.describe import (
    Description,
    Place,
    Understands,
    check_folder,
    description_of,
    file_path,
    file_place,
    name_of_file,
)
from strandline.errors import UsageError
from strandline.logs import MASK, register_parts
from strandline.plugins import load_plugin, plugin_names

__all__ = ["Meant", "examples", "meant", "proposed"]

_WILD = re.compile(r"[*?\[]")
_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Meant:
    """A plugin, and which place of it."""

    plugin: str
    place: Place


@dataclass(frozen=True, slots=True)
class _Candidate:
    kind: str
    name: str
    cls: Any

    @property
    def said(self) -> Description:
        return description_of(self.cls)


def meant(written: str, kind: str) -> Meant:
    """What a user means by ``written`` as a ``source`` or a ``destination``.

    Raises:
        UsageError: there is no plugin for it, or it is wrong.
    """
    register_parts(written)
    found = _found(written, kind)
    if found is None or found[0].kind != kind:
        raise _unknown(written, kind)
    candidate, place = found
    if not isinstance(candidate.cls, Understands) and kind == "destination" and not candidate.said.folders:
        check_folder(place.settings["path"])
    for value in place.settings.values():
        if "${" in value:
            raise UsageError(
                f"{place.shown!r} has a '${{', which begins a variable in a spec", hint="choose another name"
            )
    return Meant(candidate.name, place)


def examples(kind: str) -> Iterator[str]:
    """Places as a user may write them, of all plugins, which are imported one after the other."""
    return (one for candidate in _plugins(kind) for one in candidate.said.examples)


def proposed() -> str | None:
    """A destination for whoever has none."""
    return next((one.said.proposed for one in _plugins("destination") if one.said.proposed), None)


def _plugins(kind: str) -> Iterator[_Candidate]:
    """All that can be imported, by name."""
    for name in plugin_names(kind):
        try:
            yield _Candidate(kind, name, load_plugin(kind, name))
        except UsageError:
            continue  # it fails when somebody names it


def _found(written: str, kind: str) -> tuple[_Candidate, Place] | None:
    """The plugin whose place it is, of this kind first: one of the other kind alone tells why there is none."""
    other = "destination" if kind == "source" else "source"
    candidates = [*_plugins(kind), *_plugins(other)]
    scheme, separator, _ = written.partition("://")
    if separator:
        claim = [one for one in candidates if scheme in one.said.schemes]
        if not claim and scheme in plugin_names(kind):
            load_plugin(kind, scheme)  # why it cannot be imported
        return _understood(claim, written)
    own = _understood([one for one in candidates if not _claims_paths(one)], written)
    return own or (_understood(_by_path(written, candidates), written) if written else None)


def _claims_paths(one: _Candidate) -> bool:
    said = one.said
    return bool(said.suffixes or said.magic or said.folders) or not isinstance(one.cls, Understands)


def _understood(candidates: list[_Candidate], written: str) -> tuple[_Candidate, Place] | None:
    for one in candidates:
        place = one.cls.understand(written) if isinstance(one.cls, Understands) else file_place(written)
        if place is not None:
            return one, place
    return None


def _by_path(written: str, candidates: list[_Candidate]) -> list[_Candidate]:
    """Those whose file it is by its content, else by its name, else those that take directories and patterns."""
    path = Path(file_path(written))
    head = _head(path)
    if found := [one for one in candidates if any(head[at:].startswith(magic) for at, magic in one.said.magic)]:
        return found
    is_folder = path.is_dir() or written.endswith(os.sep)
    suffix = Path(name_of_file(written)).suffix
    if found := [one for one in candidates if not is_folder and suffix in one.said.suffixes]:
        return found
    return [one for one in candidates if one.said.folders and (is_folder or _WILD.search(written))]


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _unknown(written: str, kind: str) -> UsageError:
    scheme, separator, _ = written.partition("://")
    if separator:
        shown = f"{scheme}://" if re.fullmatch(r"[\w+.-]+", scheme) else MASK
    else:
        shown = MASK if set(written) & set("@=") else written
    return UsageError(f"no {kind} plugin is known for {shown!r}", hint=f"for example {', '.join(examples(kind))}")
