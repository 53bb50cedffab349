"""What is synced, and where to: places of plugins, and what the spec may say of a source or a destination."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from strandline.connectors.python.functions import TableFunction
from strandline.connectors.python.source import functions_of
from strandline.describe import Understands
from strandline.errors import UsageError, did_you_mean
from strandline.logs import is_secret_name, register_parts, register_secret
from strandline.plugins import KINDS, load_plugin, plugin_names

__all__ = ["Destination", "Plugin", "Source", "destination", "plugin", "source"]


@dataclass(frozen=True)
class Plugin:
    """A place that an installed plugin knows: what ``sl.duckdb("warehouse.duckdb")`` makes."""

    name: str
    where: str = field(default="", repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def settings_as(self, kind: str) -> dict[str, Any]:
        """Its settings as a source, destination or state backend; what is secret in them is masked from now on."""
        cls = load_plugin(kind, self.name)
        settings = dict(self.settings)
        if self.where:
            register_parts(self.where)
            place = cls.understand(self.where) if isinstance(cls, Understands) else None
            settings = (
                dict(place.settings) | settings if place else {next(iter(cls.Spec.model_fields)): self.where} | settings
            )
        for name, value in settings.items():
            if isinstance(value, str) and not register_parts(value) and is_secret_name(name):
                register_secret(value)
        return settings


@dataclass(frozen=True)
class Source:
    """A source with what the spec may say of one: what ``sl.source`` makes."""

    spec: Mapping[str, Any] = field(repr=False)
    name: str


@dataclass(frozen=True)
class Destination:
    """A destination with what the spec may say of one: what ``sl.destination`` makes."""

    spec: Mapping[str, Any] = field(repr=False)
    name: str


def plugin(name: str) -> Callable[..., Plugin]:
    """What makes places of an installed plugin: ``sl.duckdb`` is ``plugin("duckdb")``.

    Raises:
        UsageError: there is none of that name.
    """
    names = {one for kind in KINDS for one in plugin_names(kind)}
    if name not in names:
        raise UsageError(
            f"there is no plugin {name!r}", hint=did_you_mean(name, names, f"there are {', '.join(sorted(names))}")
        )

    def made(where: str | Path = "", /, **settings: Any) -> Plugin:
        return Plugin(name, str(where), settings)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"A place of {name}: its path or URL, and its settings as the spec has them."
    return made


def source(
    *what: "Plugin | str | TableFunction | ModuleType",
    name: str = "",
    backend: Plugin | str | None = None,
    settings: Mapping[str, Any] | None = None,
    **of_spec: Any,
) -> Source:
    """A source with more to say of it than its place.

    Args:
        what: a place, the name of a plugin, table functions, or a module that has them.
        name: names the states; by default of the plugin, or of the module that has the functions.
        backend: where states are kept; by default in ``.cq/state``.
        settings: of the plugin.
        of_spec: what the spec's document of a source has: ``tables``, ``skip_tables``, ``table_settings``, ``names``, ``concurrency``.

    Raises:
        UsageError: something is no source.
    """
    if not what:
        raise UsageError("sync what?", hint="name table functions, a module of them, or a place: sl.sqlite('shop.db')")
    first = Plugin(what[0]) if isinstance(what[0], str) else what[0]
    if isinstance(first, Plugin):
        if len(what) > 1:
            raise UsageError("a source is one place", hint="sync them one after the other, or write a spec")
        path, given = first.name, first.settings_as("source")
    else:
        functions = [one for given_ in what for one in functions_of(given_)]
        path, given = "python", {"functions": functions}
        name = name or _module_name(first)
    spec = {"name": name or path, "path": path, "spec": given | dict(settings or {}), **of_spec}
    if backend is not None:
        kept = Plugin(backend) if isinstance(backend, str) else backend
        in_destination = kept.name == "destination"
        spec |= {
            "backend": kept.name,
            "backend_spec": dict(kept.settings) if in_destination else kept.settings_as("state_backend"),
        }
    return Source(spec, spec["name"])


def destination(
    what: Plugin | str, *, name: str = "", settings: Mapping[str, Any] | None = None, **of_spec: Any
) -> Destination:
    """A destination with more to say of it than its place.

    Args:
        what: a place, or the name of a plugin.
        name: by default of the plugin.
        settings: of the plugin.
        of_spec: what the spec's document of a destination has: ``write_mode``, ``migrate_mode``, ``pk_mode``.
    """
    place = Plugin(what) if isinstance(what, str) else what
    given = place.settings_as("destination") | dict(settings or {})
    spec = {"name": name or place.name, "path": place.name, "spec": given, **of_spec}
    return Destination(spec, spec["name"])


def _module_name(first: Any) -> str:
    """The name of the module that has a function; of a program, that of its file; the plugin's in a notebook."""
    name: str = first.__name__ if isinstance(first, ModuleType) else first.fn.__module__
    if name == "__main__":
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file).stem if file else ""
    return name.rpartition(".")[2]
