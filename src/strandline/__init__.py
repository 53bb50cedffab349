"""Strandline: an ELT sync engine for incremental tables that never leaves a gap.

The Python API is described in ``strandline.api``; all of it is here, too, and is imported when it is used::

    import strandline as sl

    @sl.table(primary_key="id", incremental_key="updated_at")
    def issues(cursor):
        yield from client.pages(since=cursor)

    print(sl.sync(issues, to=sl.duckdb("warehouse.duckdb")))
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from strandline.api import (
        Destination,
        Plan,
        Plugin,
        Project,
        Report,
        Running,
        SelectedTable,
        Source,
        SyncError,
        TableReport,
        checkpoint,
        load,
        plan,
        sync,
    )

__all__ = [
    "Destination",
    "Plan",
    "Plugin",
    "Project",
    "Report",
    "Running",
    "SelectedTable",
    "Source",
    "SyncError",
    "TableReport",
    "checkpoint",
    "load",
    "plan",
    "sync",
]

_CALLED = frozenset({"destination", "source", "table"})
"""Functions of the API with the names of modules that are contracts: the modules can be called."""


class _Called(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function of the API that has the name of this module."""
        return getattr(import_module("strandline.api"), self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        if name in _CALLED and isinstance(value, ModuleType):
            value.__class__ = _Called
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    """Of the API; or what makes places of the plugin of this name."""
    if name in _CALLED:
        return import_module(f"{__name__}.{name}")
    if name.startswith("_") or (name not in __all__ and find_spec(f"{__name__}.{name}")):
        raise AttributeError(name)  # a module that is about to be imported
    if name in __all__:
        return getattr(import_module(f"{__name__}.api"), name)
    errors = import_module(f"{__name__}.errors")
    if name in errors.__all__ and name.endswith("Error"):
        return getattr(errors, name)
    try:
        return import_module(f"{__name__}.api").plugin(name)
    except errors.UsageError as error:
        raise AttributeError(f"{error.message}; {error.hint}") from None


def __dir__() -> list[str]:
    plugins = import_module(f"{__name__}.plugins")
    return sorted({*__all__, *_CALLED, *(name for kind in plugins.KINDS for name in plugins.plugin_names(kind))})


sys.modules[__name__].__class__ = _Package
