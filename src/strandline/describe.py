"""How a plugin describes itself, so that no command has to know it by name.

All of it is optional. A plugin that says nothing is found by its name in `path`, and every command works with it; what it
says here makes `strandline init` understand what a user writes for its place, and tells which drivers it needs::

    class OurSource:
        description = Description(
            schemes=("ours",),
            examples=("ours://team/project",),
            drivers=("ours_driver",),
            installs="ours-strandline[driver]",
        )

        @classmethod
        def understand(cls, written: str) -> Place | None:
            team, _, project = written.removeprefix("ours://").partition("/")
            return Place({"team": team, "project": project}, stem=project, shown=written)

The class says it, not an object of it: nothing is opened. A class is imported for this, so its module must not import a
driver when it is imported (``strandline.lazy``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from strandline.errors import UsageError
from strandline.table import Table

__all__ = [
    "Described",
    "Description",
    "Place",
    "TellsHow",
    "Understands",
    "check_drivers",
    "check_folder",
    "description_of",
    "file_path",
    "file_place",
    "how_by",
    "name_of_file",
]

_WILD = re.compile(r"[*?\[]")
_USER = re.compile(r"/*[^/@:]*:[^@]*@")
_PACKED = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class Place:
    """What a user has written for a place, as settings of the plugin."""

    settings: Mapping[str, str]
    stem: str = ""
    """What its name in the spec is made of; may be empty."""
    shown: str = ""
    """For people, without a password."""
    path: str = ""
    """The name of the setting that is a path: `init` makes it absolute where the spec is written elsewhere."""
    secret: str = ""
    """The name of the setting that holds a password: the spec names a variable in its stead."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a plugin is, before there is one."""

    schemes: tuple[str, ...] = ()
    """What stands before ``://`` in a URI of its places, in small letters."""
    suffixes: tuple[str, ...] = ()
    """Of its files, with the dot, in small letters; before one of ``.gz`` or ``.zst``, too."""
    magic: tuple[tuple[int, bytes], ...] = ()
    """How its files begin: an offset of up to 32, and what stands there. Counts for more than a suffix."""
    folders: bool = False
    """A directory is one of its places, and so are the files that a pattern with ``*``, ``?`` or ``[]`` finds."""
    examples: tuple[str, ...] = ()
    """Places as a user may write them, the plainest first; `init` shows them."""
    proposed: str = ""
    """A destination that `init` offers where none was named: only what needs neither a server nor an account."""
    drivers: tuple[str, ...] = ()
    """Modules of other packages without which it does nothing. They are looked for, and not imported."""
    installs: str = ""
    """What pip installs to have them, as ``ours-strandline[driver]``."""
    of_host: bool = False
    """A state backend that keeps cursors on the machine where it is opened, and on no other."""
    keeps_nothing: bool = False
    """A state backend that keeps no cursor, so that every sync is a first one."""


@runtime_checkable
class Described(Protocol):
    """A plugin whose class describes itself. Optional."""

    description: Description
    """Of the class, and the same for every object of it."""


@runtime_checkable
class Understands(Protocol):
    """A source or destination whose class makes settings of what a user writes. Optional.

    Without, what its description claims is taken for a path: the setting ``path``.
    """

    @classmethod
    def understand(cls, written: str) -> Place | None:
        """The place that ``written`` means; ``None`` where it is none of this plugin's. Looks at paths only, changes nothing.

        Asked for URIs of its schemes and for paths that its description claims; and for everything else that has no scheme,
        so that it may know a form of its own (``host=… dbname=…``). A password in it is known to the masks already.

        Raises:
            UsageError: it is meant for this plugin, and wrong.
        """


@runtime_checkable
class TellsHow(Protocol):
    """A source that knows more than a table says of how its rows are found. Optional: without, ``by`` its key."""

    def how(self, table: Table, *, mirror: bool) -> str:
        """In a few words, for `plan`: ``by updated_at (lag: 1m, deletes: sweep)``. Called after ``tables``; see ``how_by``.

        Args:
            table: an incremental one of its tables.
            mirror: whether the destination is to hold what the source holds (`overwrite-delete-stale`).
        """


def description_of(plugin: Any) -> Description:
    """What a plugin, or its class, says of itself; an empty one if nothing."""
    found = plugin.description if isinstance(plugin, Described) else None
    return found if isinstance(found, Description) else Description()


def how_by(key: str, settings: Mapping[str, Any]) -> str:
    """The words of ``TellsHow.how``: a key, and those of the settings that have a value."""
    told = ", ".join(f"{name}: {value}" for name, value in settings.items() if value)
    return " ".join(part for part in (f"by {key}" if key else "", f"({told})" if told else "") if part)


def check_drivers(plugin: Any, what: str) -> None:
    """Look for the drivers of a plugin, of which ``what`` says to people which it is.

    Raises:
        UsageError: one is not installed.
    """
    described = description_of(plugin)
    missing = [name for name in described.drivers if find_spec(name) is None]
    if missing:
        command = f"pip install '{described.installs}'" if described.installs else f"install {', '.join(missing)}"
        raise UsageError(f"{what} needs {', '.join(missing)}, which is not installed", hint=command)


# Places that are paths -----------------------------------------------------------------------------------------------
def file_place(written: str) -> Place:
    """A URI or a path as the setting ``path``.

    Raises:
        UsageError: it has a user and a password.
    """
    path = file_path(written)
    above = Path(_WILD.split(path)[0]).parent if _WILD.search(path) else Path(path)
    return Place({"path": path}, _stem(above if above.name else Path.cwd()), path, path="path")


def file_path(written: str) -> str:
    """The path that a URI or a path means.

    Raises:
        UsageError: it has a user and a password.
    """
    scheme, separator, rest = written.partition("://")
    if not separator:
        return str(Path(written).expanduser()) if written.startswith("~") else written
    if _USER.match(rest):
        raise UsageError(f"a path ({scheme}://) has no user and no password", hint="write the path alone")
    return _relative_or_not(rest)


def name_of_file(path: str) -> str:
    """The last part of a path, in small letters, without what says that it is packed."""
    name = Path(path).name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return name


def check_folder(path: str) -> None:
    """Of a file that will be made.

    Raises:
        UsageError: its directory is not there.
    """
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise UsageError(f"there is no directory {folder}", hint=f"mkdir -p {folder}")


def _stem(path: Path) -> str:
    whole = path if path.name not in {"", ".", ".."} else path.resolve()
    return whole.name.partition(".")[0] or whole.name


def _relative_or_not(rest: str) -> str:
    """What follows ``files://``: three slashes may mean a relative path, as elsewhere, or an absolute one as written."""
    readings = [rest[1:], rest] if rest.startswith("/") else [rest]
    there = [one for one in readings if one and Path(one).exists()]
    may_be = [one for one in readings if one and Path(one).parent.is_dir()]
    return next(iter([*there, *may_be, *readings]))
