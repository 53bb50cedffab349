"""Tables documentation in CloudQuery's formats: the same text, so that what reads theirs reads ours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from strandline.lazy import pa
from strandline.logs import as_json, printable
from strandline.paths import encode_part
from strandline.table import Table

__all__ = ["Catalog", "file_name", "type_name"]


def file_name(table: str) -> str:
    """The name of a table's page: safe on every file system, never that of another table or of ``README.md``."""
    part = encode_part(table)
    return f"{'%72eadme' if part == 'readme' else part}.md"


def type_name(kind: "pa.DataType") -> str:
    """An Arrow type as Arrow's Go library prints it."""
    text = str(kind)
    if text.startswith("extension<"):
        name = kind.extension_name
        return str(name.removeprefix("arrow."))
    if pa.types.is_map(kind):
        nullable = ", items_nullable" if kind.item_field.nullable else ""
        return f"map<{type_name(kind.key_type)}, {type_name(kind.item_type)}{nullable}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {type_name(field.type)}' for field in kind)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = kind.value_field
        inner = f"<{item.name}: {type_name(item.type)}{', nullable' if item.nullable else ''}>"
        size = f"[{kind.list_size}]" if pa.types.is_fixed_size_list(kind) else ""
        return text.partition("<")[0] + inner + size
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    return _GO_NAMES.get(text, text)


_GO_NAMES = {
    "string": "utf8",
    "large_string": "large_utf8",
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
    "date32[day]": "date32",
    "date64[ms]": "date64",
}


def _title(name: str) -> str:
    return " ".join(word.capitalize() for word in name.split("_") if word)


def _line(text: str) -> str:
    """A name inside Markdown: on one line, and in one cell."""
    return printable(" ".join(text.split()).replace("|", "\\|") if set(text) & set("|\n\r\t") else text)


def _bold(names: Sequence[str]) -> str:
    return ", ".join(f"**{_line(name)}**" for name in names)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The tables of one source."""

    plugin: str
    tables: Sequence[Table]

    def below(self, parent: str | None) -> list[Table]:
        """The child tables of ``parent``, or the root tables; by name."""
        names = {table.name for table in self.tables}
        found = [table for table in self.tables if (table.parent if table.parent in names else None) == parent]
        return sorted(found, key=lambda table: table.name)

    def pages(self) -> Iterator[tuple[str, str]]:
        """(file name, Markdown) of the overview and of each table."""
        yield "README.md", "\n".join([f"# Source Plugin: {self.plugin}", "", "## Tables", "", *self._entries(None, "")])
        for table in self.tables:
            yield file_name(table.name), self._page(table)

    def _entries(self, parent: str | None, indent: str) -> Iterator[str]:
        for table in self.below(parent):
            yield f"{indent}- {_link(table.name)}{' (Incremental)' if table.incremental else ''}"
            yield from self._entries(table.name, indent + "  ")

    def _page(self, table: Table) -> str:
        blocks = [f"# Table: {_line(table.name)}", f"This table shows data for {_line(_title(table.name))}."]
        if table.description:
            blocks.append("\n".join(map(printable, table.description.split("\n"))))
        keys = (
            f"The primary key for this table is {_bold(table.primary_key)}."
            if len(table.primary_key) == 1
            else f"The composite primary key for this table is ({_bold(table.primary_key)})."
        )
        blocks.append(keys + (f"\n{_incremental(table)}" if table.incremental else ""))
        children = self.below(table.name)
        if table.parent is not None or children:
            blocks.append("## Relations")
        if table.parent is not None:
            blocks.append(f"This table depends on {_link(table.parent)}.")
        if children:
            links = [f"  - {_link(child.name)}" for child in children]
            blocks.append("\n".join([f"The following tables depend on {_line(table.name)}:", *links]))
        rows = [_row(table, field) for field in table.schema]
        columns = ["| Name          | Type          |", "| ------------- | ------------- |", *rows]
        return "\n\n".join([*blocks, "## Columns", "\n".join(columns)])

    def as_json(self) -> str:
        """``__tables.json``."""
        return as_json(self._objects(None), indent=2) + "\n"

    def _objects(self, parent: str | None) -> list[dict[str, Any]]:
        return [
            {
                "name": table.name,
                "title": _title(table.name),
                "description": table.description,
                "columns": [_column(table, field) for field in table.schema],
                "relations": self._objects(table.name),
            }
            | ({"is_incremental": True} if table.incremental else {})
            for table in self.below(parent)
        ]


def _link(name: str) -> str:
    text = _line(name).replace("[", "\\[").replace("]", "\\]")
    return f"[{text}]({quote(file_name(name))})"


def _incremental(table: Table) -> str:
    keys = table.incremental_key
    if not keys:
        return "It supports incremental syncs."
    columns = f"{_bold(keys)} column" if len(keys) == 1 else f"({_bold(keys)}) columns"
    return f"It supports incremental syncs based on the {columns}."


def _row(table: Table, field: "pa.Field") -> str:
    primary = " (PK)" if field.name in table.primary_key else ""
    incremental = " (Incremental Key)" if field.name in table.incremental_key else ""
    return f"|{_line(field.name)}{primary}{incremental}|`{_line(type_name(field.type))}`|"


def _column(table: Table, field: "pa.Field") -> dict[str, Any]:
    column: dict[str, Any] = {"name": field.name, "type": type_name(field.type)}
    if field.name in table.primary_key:
        column["is_primary_key"] = True
    if field.name in table.incremental_key:
        column["is_incremental_key"] = True
    return column
