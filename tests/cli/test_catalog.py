"""Tables documentation. The golden texts are CloudQuery's own format, byte for byte."""

import json
from urllib.parse import unquote

import pyarrow as pa
import pytest

from strandline.cli._catalog import Catalog, file_name, type_name
from strandline.table import Table

INT, TEXT = pa.int64(), pa.string()
TABLES = [
    Table(
        "test_table",
        pa.schema(
            [
                ("int_col", INT),
                ("id_col", INT),
                ("id_col2", INT),
                ("json_col", pa.json_()),
                ("list_col", pa.list_(INT)),
                ("map_col", pa.map_(TEXT, INT)),
                ("struct_col", pa.struct([("string_field", TEXT), ("int_field", INT)])),
            ]
        ),
        primary_key=("id_col", "id_col2"),
        description="Description for test table",
    ),
    Table("relation_table2", pa.schema([("string_col", TEXT)]), parent="test_table", description="Second."),
    Table(
        "relation_table",
        pa.schema([("string_col", TEXT)]),
        parent="test_table",
        description="Description for relational table",
    ),
    Table("relation_relation_table_b", pa.schema([("string_col", TEXT)]), parent="relation_table"),
    Table("relation_relation_table_a", pa.schema([("string_col", TEXT)]), parent="relation_table"),
    Table(
        "incremental_table",
        pa.schema([("int_col", INT), ("id_col", INT), ("id_col2", INT)]),
        primary_key=("id_col",),
        incremental_key=("id_col", "id_col2"),
        incremental=True,
        description="Description for incremental table",
    ),
]

README = """\
# Source Plugin: test

## Tables

- [incremental_table](incremental_table.md) (Incremental)
- [test_table](test_table.md)
  - [relation_table](relation_table.md)
    - [relation_relation_table_a](relation_relation_table_a.md)
    - [relation_relation_table_b](relation_relation_table_b.md)
  - [relation_table2](relation_table2.md)"""

INCREMENTAL = """\
# Table: incremental_table

This table shows data for Incremental Table.

Description for incremental table

The primary key for this table is **id_col**.
It supports incremental syncs based on the (**id_col**, **id_col2**) columns.

## Columns

| Name          | Type          |
| ------------- | ------------- |
|int_col|`int64`|
|id_col (PK) (Incremental Key)|`int64`|
|id_col2 (Incremental Key)|`int64`|"""

TEST_TABLE = """\
# Table: test_table

This table shows data for Test Table.

Description for test table

The composite primary key for this table is (**id_col**, **id_col2**).

## Relations

The following tables depend on test_table:
  - [relation_table](relation_table.md)
  - [relation_table2](relation_table2.md)

## Columns

| Name          | Type          |
| ------------- | ------------- |
|int_col|`int64`|
|id_col (PK)|`int64`|
|id_col2 (PK)|`int64`|
|json_col|`json`|
|list_col|`list<item: int64, nullable>`|
|map_col|`map<utf8, int64, items_nullable>`|
|struct_col|`struct<string_field: utf8, int_field: int64>`|"""

RELATION = """\
# Table: relation_table

This table shows data for Relation Table.

Description for relational table

The composite primary key for this table is ().

## Relations

This table depends on [test_table](test_table.md).

The following tables depend on relation_table:
  - [relation_relation_table_a](relation_relation_table_a.md)
  - [relation_relation_table_b](relation_relation_table_b.md)

## Columns

| Name          | Type          |
| ------------- | ------------- |
|string_col|`utf8`|"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.md", README),
        ("incremental_table.md", INCREMENTAL),
        ("test_table.md", TEST_TABLE),
        ("relation_table.md", RELATION),
    ],
)
def test_markdown(name, text):
    assert dict(Catalog("test", TABLES).pages())[name] == text


def test_every_table_has_a_page():
    assert [name for name, _ in Catalog("test", TABLES).pages()] == ["README.md", *(f"{one.name}.md" for one in TABLES)]


def one_page(**options):
    table = Table("t", pa.schema([("id", INT), ("at", INT)]), **options)
    return dict(Catalog("test", [table]).pages())["t.md"]


def test_the_ways_to_be_incremental():
    assert "\nIt supports incremental syncs.\n" in one_page(incremental=True)
    assert "based on the **at** column.\n" in one_page(incremental=True, incremental_key=("at",))
    assert "incremental" not in one_page().lower()


def test_without_a_description_there_is_no_gap():
    assert one_page(primary_key=("id",)).startswith(
        "# Table: t\n\nThis table shows data for T.\n\nThe primary key for this table is **id**.\n\n## Columns\n\n"
    )


def test_json():
    text = Catalog("test", TABLES).as_json()
    assert text.endswith("]\n")
    assert text.startswith('[\n  {\n    "name": "incremental_table",\n    "title": "Incremental Table",\n')
    incremental, table = json.loads(text)
    assert incremental == {
        "name": "incremental_table",
        "title": "Incremental Table",
        "description": "Description for incremental table",
        "columns": [
            {"name": "int_col", "type": "int64"},
            {"name": "id_col", "type": "int64", "is_primary_key": True, "is_incremental_key": True},
            {"name": "id_col2", "type": "int64", "is_incremental_key": True},
        ],
        "relations": [],
        "is_incremental": True,
    }
    assert "is_incremental" not in table
    assert [one["name"] for one in table["relations"]] == ["relation_table", "relation_table2"]
    assert table["relations"][0]["relations"][1] == {
        "name": "relation_relation_table_b",
        "title": "Relation Relation Table B",
        "description": "",
        "columns": [{"name": "string_col", "type": "utf8"}],
        "relations": [],
    }


def test_a_child_whose_parent_is_left_out_is_a_root():
    child = Table("child", pa.schema([("id", INT)]), parent="gone")
    assert "- [child](child.md)" in dict(Catalog("test", [child]).pages())["README.md"]


@pytest.mark.parametrize(
    ("arrow", "text"),
    [
        (pa.float64(), "float64"),
        (pa.float32(), "float32"),
        (pa.float16(), "float16"),
        (pa.large_string(), "large_utf8"),
        (pa.binary(16), "fixed_size_binary[16]"),
        (pa.date32(), "date32"),
        (pa.date64(), "date64"),
        (pa.timestamp("us", tz="UTC"), "timestamp[us, tz=UTC]"),
        (pa.timestamp("ns"), "timestamp[ns]"),
        (pa.time64("us"), "time64[us]"),
        (pa.bool_(), "bool"),
        (pa.decimal128(19, 10), "decimal(19, 10)"),
        (pa.uuid(), "uuid"),
        (pa.list_(pa.field("item", pa.string(), nullable=False)), "list<item: utf8>"),
        (pa.large_list(pa.float64()), "large_list<item: float64, nullable>"),
        (pa.list_(pa.int64(), 3), "fixed_size_list<item: int64, nullable>[3]"),
        (
            pa.list_(pa.struct([("a", pa.list_(pa.string()))])),
            "list<item: struct<a: list<item: utf8, nullable>>, nullable>",
        ),
    ],
)
def test_types_are_named_as_in_go(arrow, text):
    assert type_name(arrow) == text


HOSTILE = ["../../etc/passwd", "..", ".hidden", "a/b", "a|b", "a\nb", "[x](y)", "README", "readme", "Orders", "orders"]
HOSTILE += ["é", "e\u0301", "x" * 300, "x" * 299 + "y", "con", "🚢", "%20", "__tables.json"]


def test_no_two_tables_share_a_page_and_none_leaves_the_directory():
    names = [file_name(name) for name in HOSTILE]
    assert len({name.casefold() for name in [*names, "README.md"]}) == len(HOSTILE) + 1
    assert all("/" not in name and not name.startswith(".") and len(name.encode()) <= 200 for name in names)


def test_names_do_not_break_the_page():
    table = Table("a|b\n# c", pa.schema([("x|y\nz", INT)]))
    pages = dict(Catalog("test", [table]).pages())
    assert pages["README.md"].splitlines()[4:] == ["- [a\\|b # c](a%257cb%250a%2523%2520c.md)"]
    assert pages["a%7cb%0a%23%20c.md"].splitlines()[-1] == "|x\\|y z|`int64`|"


def test_a_link_leads_to_the_page():
    catalog = Catalog("test", [Table("a b/ü", pa.schema([("id", INT)]))])
    pages = dict(catalog.pages())
    link = pages["README.md"].rpartition("(")[2].rstrip(")")
    assert unquote(link) in pages
