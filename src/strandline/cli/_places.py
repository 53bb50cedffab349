"""A URI, or a path, as the plugin that it means, with its settings."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from strandline.connection_string import HINT, understood, without_secrets
from strandline.errors import UsageError
from strandline.logs import MASK, is_secret_name, register_parts, register_secret
from strandline.plugins import plugin_names

__all__ = ["FROM_EXAMPLES", "TO_EXAMPLES", "Place", "place_of"]

FROM_EXAMPLES = "postgresql://user@host/shop, shop.db, a directory of files, 'data/*.csv'"
TO_EXAMPLES = "warehouse.duckdb, postgresql://user@host/warehouse, copy.sqlite, lake/ for files"

_SQLITE = (".db", ".sqlite", ".sqlite3", ".db3")
_FILES = (".csv", ".jsonl", ".ndjson", ".json", ".parquet")
_ONE_FILE = ("duckdb", "sqlite")
_PACKED = (".gz", ".zst")
_SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "sqlite": "sqlite",
    "duckdb": "duckdb",
    "files": "files",
    "file": "files",
}
_SETTINGS = re.compile(r"\s*(?:[a-z_]+\s*=[^/]*\s)?(?:host|hostaddr|dbname|service|user|password)\s*=")
"""How a list of settings of PostgreSQL begins, and no path."""
_USER = re.compile(r"/*[^/@:]*:[^@]*@")
_WILD = re.compile(r"[*?\[]")
_SUFFIXES = dict.fromkeys(_SQLITE, "sqlite") | {".duckdb": "duckdb"} | dict.fromkeys(_FILES, "files")
_MAGIC = {b"SQLite format 3\0": (0, "sqlite"), b"DUCK": (8, "duckdb")}


@dataclass(frozen=True, slots=True)
class Place:
    """A plugin with its settings."""

    plugin: str
    settings: Mapping[str, str]
    stem: str
    """What a name can be made of; may be empty."""
    shown: str
    """For people, without a password."""
    secret: bool = False
    """``connection_string`` holds a password, and must not be written down."""


def place_of(uri: str, kind: str) -> Place:
    """What ``uri`` means as a ``source`` or a ``destination``.

    Raises:
        UsageError: there is no plugin for it.
    """
    register_parts(uri)
    place = _meant(uri, kind)
    if place.plugin not in plugin_names(kind):
        raise _unknown(place.shown, kind)
    if place.plugin == "files" and kind == "destination":
        _check_directory(place.shown)
    if place.plugin in _ONE_FILE and kind == "destination":
        _check_parent(Path(place.settings["path"]))
    for value in place.settings.values():
        if "${" in value:
            raise UsageError(
                f"{place.shown!r} has a '${{', which begins a variable in a spec", hint="choose another name"
            )
    return place


def _meant(uri: str, kind: str) -> Place:
    scheme, separator, rest = uri.partition("://")
    if _SETTINGS.match(uri) or (separator and _SCHEMES.get(scheme) == "postgresql"):
        return _server(uri)
    if not separator:
        return _path(uri, kind)
    if scheme == "test":
        return Place("test", {}, "test", "generated rows")
    if scheme not in _SCHEMES:
        raise _unknown(f"{scheme}://" if re.fullmatch(r"[\w+.-]+", scheme) else MASK, kind)
    if _USER.match(rest):
        raise UsageError(f"a path ({scheme}://) has no user and no password", hint="write the path alone")
    path = _relative_or_not(rest)
    return Place(_SCHEMES[scheme], {"path": path}, Path(path).stem, path)


def _check_parent(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"there is no directory {folder}", hint=f"mkdir -p {folder}")


def _check_directory(path: str) -> None:
    if not Path(path).is_dir() and not path.endswith(os.sep) and _by_name(path, Path(path)) == "files":
        raise UsageError(
            f"{path!r} names files, but tables are written as files of a directory",
            hint="name the directory, as lake/, and choose `format` in the spec",
        )


def _unknown(what: str, kind: str) -> UsageError:
    examples = FROM_EXAMPLES if kind == "source" else TO_EXAMPLES
    return UsageError(f"no {kind} plugin is known for {what!r}", hint=f"for example {examples}")


def _server(uri: str) -> Place:
    settings = understood(uri)
    if settings is None:
        register_secret(uri)
        raise UsageError("this connection string can be understood in more than one way, or in none", hint=HINT)
    has_password = any(is_secret_name(name) for name in settings)
    if has_password:
        register_secret(uri)
    stem = settings.get("dbname") or settings.get("host") or settings.get("hostaddr") or ""
    return Place("postgresql", {"connection_string": uri}, stem, without_secrets(uri), has_password)


def _path(path: str, kind: str) -> Place:
    if not path:
        raise _unknown(path, kind)
    found = Path(path).expanduser()
    plugin = _by_content(found) or _by_name(path, found)
    if not plugin:
        raise _unknown(MASK if set(path) & set("@=") else path, kind)
    text = str(found) if path.startswith("~") else path
    above = Path(_WILD.split(path)[0]).parent if _WILD.search(path) else found
    return Place(plugin, {"path": text}, _stem(above if above.name else Path.cwd()), text)


def _stem(path: Path) -> str:
    whole = path if path.name not in {"", ".", ".."} else path.resolve()
    return whole.name.partition(".")[0] or whole.name


def _by_content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return ""
    return next((plugin for magic, (at, plugin) in _MAGIC.items() if head[at:].startswith(magic)), "")


def _by_name(path: str, found: Path) -> str:
    if found.is_dir() or path.endswith(os.sep):
        return "files"
    name = found.name
    for packed in _PACKED:
        name = name.removesuffix(packed)
    suffix = Path(name).suffix.lower()
    return _SUFFIXES.get(suffix) or ("files" if _WILD.search(path) else "")


def _relative_or_not(rest: str) -> str:
    """What follows ``sqlite://``: three slashes may mean a relative path, as elsewhere, or an absolute one as written."""
    readings = [rest[1:], rest] if rest.startswith("/") else [rest]
    there = [one for one in readings if one and Path(one).exists()]
    may_be = [one for one in readings if one and Path(one).parent.is_dir()]
    return next(iter([*there, *may_be, *readings]))
