"""Python functions as tables: what their author declares with ``@strandline.table``.

::

    @sl.table(primary_key="id", incremental_key="updated_at")
    def issues(cursor):                        # the saved cursor; None at the first sync
        yield from client.pages(since=cursor)  # lists of dicts, Arrow, pandas or polars

    @sl.table(primary_key="id", parent=issues)
    def comments(issue):                       # once for each issue that came
        yield client.comments(issue["id"])

    @sl.table(primary_key="id", incremental_key="at", partitions=["eu", "us"])
    def orders(cursor, region): ...            # a cursor for each region, and one that fails fails alone
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, overload

from strandline.connectors.pages import Mark
from strandline.errors import UsageError
from strandline.settings import parse_duration, parse_type

__all__ = ["TableFunction", "checkpoint", "table"]


@dataclass(frozen=True, eq=False)
class TableFunction:
    """A function that is a table. Called, it is the function."""

    fn: Callable[..., Any]
    name: str
    primary_key: tuple[str, ...] = ()
    incremental_key: str = ""
    sorted: bool = False
    marks: bool = False
    """It keeps a cursor of its own, and says so with ``checkpoint``."""
    lag: timedelta = timedelta(0)
    parent: "TableFunction | None" = None
    refers: Mapping[str, str] = field(default_factory=dict)
    """The columns that refer to the parent, with the parent's."""
    partitions: Sequence[str] | Callable[[], Iterable[str]] | None = None
    columns: Any = None
    """A class or mapping that declares columns, or nothing."""
    types: Mapping[str, str] = field(default_factory=dict)
    objects: Literal["struct", "json", "flat"] = "struct"
    lists: Literal["list", "json", "tables"] = "list"
    conflicts: Literal["fail", "json", "new"] = "fail"
    at_once: int = 1
    description: str = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function yields."""
        return self.fn(*args, **kwargs)

    def arguments(self, cursor: Any, other: Any = None) -> dict[str, Any]:
        """For one call: the cursor, and the parent's row or the partition, as far as the function takes them."""
        names = list(inspect.signature(self.fn).parameters)
        has_other = self.parent is not None or self.partitions is not None
        named = next((name for name in names if name == "cursor"), None)
        rest = [name for name in names if name != named]
        if named is None and rest and not has_other:
            named = rest.pop(0)
        values = {named: cursor} if named is not None else {}
        if has_other and rest:
            values[rest.pop(0)] = other
        return values

    def check(self) -> None:
        """Whether what was declared fits together.

        Raises:
            UsageError: it does not.
        """
        problem, hint = self._problem()
        if problem:
            raise UsageError(f"table {self.name!r}: {problem}", hint=hint)

    def _problem(self) -> tuple[str, str]:
        if self.sorted and not self.incremental_key:
            return "it is sorted, and has no incremental key", "name the column by which it is sorted"
        if self.parent is not None:
            if not self.parent.primary_key:
                return f"its parent {self.parent.name!r} has no primary key", "name one, so that rows can refer to it"
            if self.parent.parent is not None:
                return (
                    f"its parent {self.parent.name!r} has a parent itself",
                    "yield the inner ones as a list, or as a table of the first parent",
                )
            if self.incremental_key or self.partitions is not None or self.marks:
                return "it has a parent, and so its cursor and its partitions", "leave them out"
        parameters = inspect.signature(self.fn).parameters.values()
        needed = [
            one.name
            for one in parameters
            if one.default is one.empty
            and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        ]
        surplus = [name for name in needed if name not in self.arguments(None)]
        if surplus:
            return (
                f"nothing is known of its argument {surplus[0]!r}",
                "it may take `cursor`, and the row of its parent or the name of a partition",
            )
        if self.parent is not None and not self.arguments(None):
            return "it has a parent, and takes no row of it", "give it an argument"
        return "", ""


@overload
def table(fn: Callable[..., Any], /) -> TableFunction: ...
@overload
def table(*, name: str = ..., **declared: Any) -> Callable[[Callable[..., Any]], TableFunction]: ...


def table(fn: Callable[..., Any] | None = None, /, *, name: str = "", **declared: Any) -> Any:
    """Make a function a table: a generator, sync or async, or a function that returns what can be iterated.

    It takes where to go on, its ``cursor``, and yields pages: a list of dicts, dataclasses, or msgspec or pydantic models; one of these; or a table of
    Arrow, pandas or polars. What its return annotation says of the rows (``-> Iterator[Issue]``) is the schema; without, the first page
    is, and it grows.

    A function with an incremental key gets the greatest value that was delivered. One without a key that takes a ``cursor`` keeps a
    mapping of its own, saves it with ``yield checkpoint({...})``, and gets the last one back. One that takes none is read in full.

    Args:
        fn: the function, where the decorator is used without arguments.
        name: of the table; the function's by default.
        declared: any of

            - ``primary_key``: a column, or several.
            - ``incremental_key``: a column. The function gets the greatest value that was delivered, in its type; ``None`` at first. Rows
              from this value on are to be yielded, itself included.
            - ``sorted``: the rows come in ascending order of the key, so that an interrupted sync goes on where it was.
            - ``lag``: how much later than stamped a row may appear, as ``"5m"``.
            - ``parent``: another table function. This one is called with each of its rows, and yields the rows that belong to it; those
              that it does not yield any more are removed. ``refers``: ``{"issue_id": "id"}``, the columns that get the parent's key, by
              default ``issues_id``. ``at_once``: how many calls go on at once, in threads.
            - ``partitions``: texts, or a function that returns them. The function is called with each; each has a cursor of its own.
            - ``columns``: a class or a mapping of names to types that declares columns; ``types``: types as a spec writes them.
            - ``objects``: ``struct``, ``json`` or ``flat``; ``lists``: ``list``, ``json`` or ``tables``; ``conflicts``: ``fail``, ``json`` or
              ``new``: what becomes of values that do not go with their column.
            - ``description``.

    Raises:
        UsageError: what is declared does not fit together.
    """

    def made(function: Callable[..., Any]) -> TableFunction:
        key = declared.get("primary_key", ())
        declared["primary_key"] = (key,) if isinstance(key, str) else tuple(key)
        takes_cursor = "cursor" in inspect.signature(function).parameters
        declared.setdefault("marks", takes_cursor and not declared.get("incremental_key"))
        declared["lag"] = parse_duration(declared.get("lag", "0"))
        declared.setdefault("description", inspect.getdoc(function) or "")
        for column, kind in declared.get("types", {}).items():
            if kind != "json":
                _checked(parse_type, kind, f"`types` of {column!r}")
        try:
            one = TableFunction(function, name or function.__name__, **declared)
        except TypeError as error:
            raise UsageError(
                f"table {name or function.__name__!r}: {error}", hint="see help(strandline.table)"
            ) from None
        parent = one.parent
        if parent is not None and not one.refers:
            object.__setattr__(one, "refers", {f"{parent.name}_{key}": key for key in parent.primary_key})
        one.check()
        return one

    return made if fn is None else made(fn)


def _checked(parse: Callable[[str], Any], value: str, what: str) -> None:
    try:
        parse(value)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None


def checkpoint(cursor: Mapping[str, Any]) -> Mark:
    """Yielded by a table function: everything before it is covered by ``cursor``, which it gets back where it is to go on.

    Args:
        cursor: JSON values.
    """
    return Mark(cursor)
