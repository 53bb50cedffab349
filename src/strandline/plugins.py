"""Find a plugin by kind and name. Built-ins and third parties register the same way: by entry point."""

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from strandline.errors import UsageError, did_you_mean

__all__ = ["DEFAULT_BACKEND", "DEFAULT_EXECUTOR", "EXECUTOR", "KINDS", "load_plugin", "plugin_names"]

DEFAULT_BACKEND = "local"
"""The state backend of a source that names none."""
DEFAULT_EXECUTOR = "threads"
"""The executor of a source that names none."""
KINDS = ("source", "destination", "state_backend")
EXECUTOR = "executor"
"""The kind of what has tasks done, which reads and keeps nothing."""


@cache
def _installed(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What is installed along a path; looking costs 10 ms, so it is done once for each."""
    points = entry_points()
    return tuple(point for kind in (*KINDS, EXECUTOR) for point in points.select(group=f"strandline.{kind}"))


@cache
def _found(kind: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in _installed(path):
        if point.group != f"strandline.{kind}":
            continue
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UsageError(
                f"two packages offer the {kind} plugin {point.name!r}: {other.value} and {point.value}",
                hint="uninstall one of them",
            )
    return found


def plugin_names(kind: str) -> list[str]:
    """The names of all installed plugins of one kind, sorted."""
    return sorted(_found(kind, tuple(sys.path)))


def load_plugin(kind: str, name: str) -> Any:
    """The class of the plugin ``name``.

    Args:
        kind: ``source``, ``destination``, ``state_backend`` or ``executor``.
        name: as in a spec; ``cloudquery/NAME`` means ``NAME``.

    Raises:
        UsageError: there is none of that name, or it cannot be imported.
    """
    points = _found(kind, tuple(sys.path))
    short = name.removeprefix("cloudquery/")
    kinds = kind.replace("_", " ")
    if short not in points:
        raise UsageError(
            f"there is no {kinds} plugin {name!r}",
            hint=did_you_mean(short, points, f"the {kinds} plugins are {', '.join(sorted(points))}"),
        )
    try:
        return points[short].load()
    except ImportError as error:
        raise UsageError(
            f"the {kinds} plugin {name!r} cannot be imported: {error}", hint=_installs(points[short])
        ) from error


def _installs(point: EntryPoint) -> str:
    """What to do where a plugin's module is not complete: its package may have an extra of the plugin's name."""
    if point.dist is None:
        return "install what it needs"
    extras = point.dist.metadata.get_all("Provides-Extra") or []
    return (
        f"pip install '{point.dist.name}[{point.name}]'"
        if point.name in extras
        else f"pip install -U {point.dist.name}"
    )
