"""The source ``python``: the table functions of a module, or of a program. Implements ``strandline.source.Source``."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.pages import Child, Fetch, Opened, Shape, Stream
from strandline.connectors.python.calls import pages_of
from strandline.connectors.python.functions import TableFunction
from strandline.connectors.python.hints import columns_of, returned
from strandline.errors import NothingYetError, RetryableError, TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Cursor, SourceMessage
from strandline.reading import Reading
from strandline.settings import parse_type
from strandline.source import Task, TaskFailure
from strandline.table import FULL_READ, Guarantee, Table

__all__ = ["PythonSource", "functions_in", "functions_of", "opened_of"]

_LOOK_ROWS = 1_000
"""Of a table that is read in full, before its columns are told."""


class PythonSettings(BaseModel):
    """Where the table functions are."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    module: str = Field("", description="The module that has them, as it is imported: `my_package.my_module`.")
    functions: list[Any] = Field([], description="The functions themselves; in Python only.", exclude=True)


class PythonSource:
    """See ``strandline.source.Source``. One task for each table that has no parent, with its children, in each partition."""

    Spec = PythonSettings

    def __init__(self, spec: PythonSettings) -> None:
        self._spec = spec
        self._roots: dict[str, tuple[TableFunction, Opened]] = {}
        self._partitions: dict[str, list[str | None]] = {}

    @classmethod
    def module_settings(cls, path: str, beside: str | None = None) -> dict[str, str]:
        """Settings for ``registry: python``; the module is imported.

        Args:
            path: the name of the module.
            beside: the directory of the spec; ``None``: it was looked at.

        Raises:
            UsageError: it cannot be imported, has no table functions, or is another one than lies beside the spec.
        """
        functions_in(path)
        if beside is not None:
            _check_is_own(path, Path(beside))
        return {"module": path}

    def tables(self) -> Sequence[Table]:
        """By the first page of each function, unless its columns are declared."""
        return [table for _, opened in self._opened().values() for table in self._looked(opened)]

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task | TaskFailure]:
        """See above."""
        chosen = {table.name: table for table in tables}
        for name, (_, opened) in self._opened().items():
            mine = [chosen[one.name] for one in self._looked(opened) if one.name in chosen]
            for partition in self._partitions_of(name) if mine else ():
                suffix = "" if partition is None else f":{partition}"
                yield Task(f"{name}{suffix}", tuple(mine), partition)

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """What the function yields from the cursor on."""
        return self._opened()[self._name(task)][1].read(task, reading)

    @staticmethod
    def _name(task: Task) -> str:
        return task.id if task.partition is None else task.id.removesuffix(f":{task.partition}")

    def remembered(self, task: Task, cursor: Cursor | None, stored: Mapping[str, int]) -> Task:
        """With the columns and lists that were seen before; see ``strandline.source.Remembers``."""
        return self._opened()[self._name(task)][1].remembered(task, cursor, stored)

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """A function need not be told."""

    def close(self) -> None:
        """Close generators that were looked at and not read to their end."""
        for _, opened in self._roots.values():
            opened.close()

    def _opened(self) -> dict[str, tuple[TableFunction, Opened]]:
        if not self._roots:
            functions = self._spec.functions or functions_in(self._spec.module)
            self._roots = {one.name: (one, opened_of(one, functions)) for one in _roots(functions)}
        return self._roots

    def _partitions_of(self, name: str) -> list[str | None]:
        if name not in self._partitions:
            given = self._roots[name][0].partitions
            found = given() if callable(given) else given
            self._partitions[name] = [None] if found is None else [str(one) for one in found]
        return self._partitions[name]

    def _looked(self, opened: Opened) -> list[Table]:
        """The tables, by the first partition that can be read."""
        tables = [opened.unreadable(TaskError(f"table {opened.stream.name!r} has no partitions"))]
        failing: list[Table] | None = None
        for partition in self._partitions_of(opened.stream.name):
            try:
                tables = opened.tables(partition)
            except RetryableError as failed:
                tables = [opened.unreadable(TaskError(failed.message, hint=failed.hint or "sync again"))]
            if not isinstance(tables[0].unreadable, TaskError):
                return tables
            if not isinstance(tables[0].unreadable, NothingYetError):
                failing = failing or tables
        return failing or tables


def _roots(functions: Sequence[TableFunction]) -> list[TableFunction]:
    names: set[str] = set()
    for one in functions:
        if not isinstance(one, TableFunction):
            raise UsageError(f"{one!r} is no table function", hint="put @strandline.table above it")
        if one.name in names:
            raise UsageError(f"two functions are table {one.name!r}", hint="give one of them another `name`")
        names.add(one.name)
    # a child alone brings its parent
    return list(dict.fromkeys(one.parent or one for one in functions))


def opened_of(root: TableFunction, functions: Sequence[TableFunction]) -> Opened:
    """A function with those that have it as their parent."""
    stream = _stream(root)

    def fetch(partition: str | None) -> Fetch:
        return lambda cursor: pages_of(lambda: root(**root.arguments(cursor, partition)), where=root.name)

    children = [_child(one, stream) for one in functions if one.parent is root]
    return Opened(stream, fetch, children)


def _stream(one: TableFunction) -> Stream:
    declared = columns_of(hint, where=one.name) if (hint := one.columns or returned(one.fn)) is not None else None
    types = {name: pa.json_() if kind == "json" else parse_type(kind) for name, kind in one.types.items()}
    return Stream(
        one.name,
        one.primary_key,
        one.incremental_key,
        marks=one.marks,
        sorted=one.sorted,
        lag=one.lag,
        declared=declared,
        looks=declared is None,
        look_rows=1 if one.incremental_key or one.marks or one.parent else _LOOK_ROWS,
        shape=Shape(types=types, objects=one.objects, lists=one.lists, conflicts=one.conflicts),
        description=one.description,
        guarantee=_guarantee(one),
        access="by calling a Python function",
    )


def _child(one: TableFunction, parent: Stream) -> Child:
    stream = _stream(one)
    key = one.primary_key or (*one.refers, "position")
    stream = replace(
        stream, primary_key=key, parent=parent.name, follows=parent.is_incremental, guarantee=parent.guarantee
    )
    return Child(stream, stream.columns(), _rows_of(one), one.refers, one.at_once)


def _rows_of(one: TableFunction) -> Callable[[Mapping[str, Any]], Iterator[Any]]:
    return lambda row: pages_of(lambda: one(**one.arguments(None, row)), where=one.name)


def _guarantee(one: TableFunction) -> Guarantee:
    if one.incremental_key:
        late = f"more than {one.lag} later than it is stamped" if one.lag else "later than it is stamped"
        return Guarantee(
            "lag only",
            f"a row that the function could yield only {late} may be missed; so is what it changes without a new {one.incremental_key}, or "
            "removes",
        )
    if one.marks:
        return Guarantee("off", "what comes is up to the cursor that the function keeps; nothing is removed")
    return FULL_READ


def functions_in(path: str) -> list[TableFunction]:
    """The table functions of a module, in their order; children with them.

    Raises:
        UsageError: it cannot be imported, or has none.
    """
    if not path:
        raise UsageError(
            "the source python has neither `module` nor functions", hint="name a module: `module: my_module`"
        )
    try:
        module = importlib.import_module(path)
    except Exception as error:
        raise UsageError(_why(path, error), hint=_hint(path, error)) from error
    found = functions_of(module)
    if not found:
        raise UsageError(
            f"module {path!r} ({module.__file__}) has no tables", hint="put @strandline.table above a function"
        )
    return found


def _check_is_own(module: str, folder: Path) -> None:
    own = folder.joinpath(*module.split("."))
    found = [file for file in (own.with_suffix(".py"), own / "__init__.py") if file.exists()]
    imported = Path(getattr(sys.modules[module], "__file__", None) or "")
    if found and imported.is_file() and not found[0].samefile(imported):
        raise UsageError(
            f"module {module!r} is {imported}, and not the one that lies beside the spec",
            hint="give that one another name: there can be one module of a name",
        )


def functions_of(what: Any) -> list[TableFunction]:
    """A table function, or those of a module.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(what, TableFunction):
        return [what]
    if not isinstance(what, ModuleType):
        raise UsageError(f"{what!r} is no table", hint="put @strandline.table above the function")
    return list(dict.fromkeys(one for one in vars(what).values() if isinstance(one, TableFunction)))


def _why(path: str, error: Exception) -> str:
    if (
        isinstance(error, ModuleNotFoundError)
        and error.name
        and (path == error.name or path.startswith(f"{error.name}."))
    ):
        return f"there is no module {error.name!r}"
    place = next(
        (one for one in reversed(traceback.extract_tb(error.__traceback__)) if not _is_import(one.filename)), None
    )
    at = f" ({Path(place.filename).name}:{place.lineno})" if place is not None else ""
    return f"module {path!r} cannot be imported: {type(error).__name__}: {error}{at}"


def _is_import(file: str) -> bool:
    return "importlib" in file or file == __file__


def _hint(path: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        where = "it is looked for beside the spec, and where Python looks for modules"
        return where if path.startswith(error.name or path) else f"pip install what has {error.name}"
    return f"python -c 'import {path}' shows where" if sys.executable else ""
