"""What a cursor keeps of the columns of a stream, beside where it goes on."""

from collections.abc import Mapping, Sequence
from typing import Any

from strandline.connectors.pages.columns import Columns, read_kind, written_kind
from strandline.connectors.pages.stream import Child
from strandline.lazy import pa
from strandline.message import Cursor

__all__ = ["know", "written"]


def know(cursor: Cursor, columns: Columns, children: Sequence[Child]) -> None:
    """Learn the columns that a cursor keeps, those of children too, and which lists are tables.

    Raises:
        TaskError: a list that is a table cannot be one any more.
        AttributeError, TypeError, ValueError: it is a cursor of another source.
    """
    found = _kinds(cursor.get("columns", {}))
    of_children = {name: _kinds(kinds) for name, kinds in cursor.get("children", {}).items()}
    columns.know(found)
    # a list that came later was made a column then
    kept = [name for name in columns.apart or () if name not in found or pa.types.is_null(found[name])]
    lists = [str(name) for name in cursor.get("apart", ())]
    if "columns" in cursor:
        columns.apart = tuple(kept)
        columns.keep_apart(lists)
    for child in children:
        child.columns.know(of_children.get(child.stream.name, {}))


def written(columns: Columns) -> dict[str, Any]:
    """The columns as a cursor keeps them."""
    return {name: written_kind(kind) for name, kind in columns.types.items()}


def _kinds(written: Mapping[str, Any]) -> "dict[str, pa.DataType]":
    return {str(name): read_kind(kind) for name, kind in written.items()}
