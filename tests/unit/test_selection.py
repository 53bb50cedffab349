"""Which tables a spec means. The cases of CloudQuery's own table filter, then what it leaves open."""

import pyarrow as pa
import pytest
from pydantic import BaseModel

from strandline.errors import UsageError
from strandline.selection import chosen_columns, columns_said, matches, select_tables
from strandline.table import Table
from strandline.table_settings import Entry, PerTable

SCHEMA = pa.schema([("id", pa.int64())])


def tables(*names):
    """``main/sub`` is a child of ``main``."""
    made = []
    for path in names:
        parent, _, name = path.rpartition("/")
        made.append(Table(name, SCHEMA, parent=parent.rpartition("/")[2] or None))
    return made


def chosen(names, include, skip=(), **options):
    return [table.name for table in select_tables(tables(*names), include, skip, **options)]


FLAT = ("table1", "table2", "table3")
FAMILY = ("main", "main/sub", "main/sub/leaf", "main/other")


@pytest.mark.parametrize(
    ("names", "include", "skip", "want"),
    [
        (FLAT, ["*"], [], ["table1", "table2", "table3"]),
        (FLAT, ["*"], ["table1", "table3"], ["table2"]),
        (FLAT, ["table1"], [], ["table1"]),
        (FLAT, ["table*"], ["table2"], ["table1", "table3"]),
        (FLAT, ["table2", "table1"], ["table1"], ["table2"]),
        (FLAT, ["*", "table2", "table1", "table*"], ["table2"], ["table1", "table3"]),
        (FLAT, ["*2"], [], ["table2"]),
        (FLAT, ["t*b*1"], [], ["table1"]),
        (FLAT, ["*"], ["t*1"], ["table2", "table3"]),
        (FLAT, ["*"], ["t*1", "t*2"], ["table3"]),
        (FLAT, ["table3", "table1"], [], ["table1", "table3"]),
        (FLAT, ["*"], ["*"], []),
    ],
)
@pytest.mark.parametrize("skip_dependent_tables", [False, True])
def test_tables_without_children(names, include, skip, want, skip_dependent_tables):
    assert chosen(names, include, skip, skip_dependent_tables=skip_dependent_tables) == want


@pytest.mark.parametrize(
    ("include", "skip", "with_children", "without"),
    [
        (["*"], [], ["main", "sub", "leaf", "other"], ["main", "sub", "leaf", "other"]),
        (["main"], [], ["main", "sub", "leaf", "other"], ["main"]),
        (["main"], ["sub"], ["main", "other"], ["main"]),
        (["main"], ["leaf"], ["main", "sub", "other"], ["main"]),
        (["*"], ["sub"], ["main", "other"], ["main", "other"]),
        (["*"], ["main"], [], []),
        (["main", "sub"], [], ["main", "sub", "leaf", "other"], ["main", "sub"]),
        (["sub"], [], ["main", "sub", "leaf"], ["main", "sub"]),
        (["leaf"], [], ["main", "sub", "leaf"], ["main", "sub", "leaf"]),
        (["leaf", "other"], [], ["main", "sub", "leaf", "other"], ["main", "sub", "leaf", "other"]),
        (["leaf"], ["sub"], [], []),
        (["other"], [], ["main", "other"], ["main", "other"]),
    ],
)
def test_parents_and_children(include, skip, with_children, without):
    assert chosen(FAMILY, include, skip, skip_dependent_tables=False) == with_children
    assert chosen(FAMILY, include, skip, skip_dependent_tables=True) == without


def test_a_child_that_is_named_comes_with_its_parent_only():
    names = ("one", "one/below_one", "two", "two/below_two", "two/beside_two")
    assert chosen(names, ["one", "below_two"], skip_dependent_tables=True) == ["one", "two", "below_two"]


@pytest.mark.parametrize(
    ("include", "skip", "message", "hint"),
    [
        (["tabel1"], [], "`tables`: no table matches 'tabel1'", "did you mean 'table1'?"),
        (["*"], ["tabel1"], "`skip_tables`: no table matches 'tabel1'", "did you mean 'table1'?"),
        (["*", "zzz*"], [], "`tables`: no table matches 'zzz*'", "the tables are table1, table2, table3"),
        (["Table1"], [], "`tables`: no table matches 'Table1'", "did you mean 'table1'?"),
        ([""], [], "`tables`: no table matches ''", "the tables are table1, table2, table3"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(include, skip, message, hint):
    with pytest.raises(UsageError) as caught:
        chosen(FLAT, include, skip)
    assert (caught.value.message, caught.value.hint) == (message, hint)


SALES = [Table("orders", SCHEMA, spec_name="public.orders"), Table("sales_orders", SCHEMA, spec_name="sales.orders")]


@pytest.mark.parametrize(
    ("include", "skip", "want"),
    [
        (["sales.orders"], [], ["sales_orders"]),
        (["sales_orders"], [], ["sales_orders"]),
        (["sales.*"], [], ["sales_orders"]),
        (["sales_*"], [], ["sales_orders"]),
        (["*.orders"], [], ["orders", "sales_orders"]),
        (["*.orders"], ["public.*"], ["sales_orders"]),
        (["orders"], [], ["orders"]),
        (["public.orders"], [], ["orders"]),
        (["*"], ["sales.*"], ["orders"]),
        (["*"], ["sales_orders"], ["orders"]),
    ],
)
def test_a_table_of_another_schema_has_two_names(include, skip, want):
    assert [table.name for table in select_tables(SALES, include, skip)] == want


def test_the_name_with_its_schema_is_the_one_that_is_proposed():
    with pytest.raises(UsageError) as caught:
        select_tables(SALES, ["sales.order"])
    assert caught.value.hint == "did you mean 'sales.orders'?"
    with pytest.raises(UsageError) as caught:
        select_tables(SALES, ["zzz"])
    assert caught.value.hint == "the tables are orders, sales.orders"


def test_a_source_without_tables_says_so():
    with pytest.raises(UsageError, match="no table matches") as caught:
        select_tables([], ["*"])
    assert caught.value.hint == "the source has no tables"


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "", True),
        ("*", "any\nthing", True),
        ("a.b", "a.b", True),
        ("a.b", "axb", False),
        ("a[bc]", "a[bc]", True),
        ("a[bc]", "ab", False),
        ("a?", "ab", False),
        ("a**b", "ab", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("orders", "ORDERS", False),
        ("público.*", "público.órdenes", True),
        ("ab*ba", "aba", False),
        ("ab*ba", "abba", True),
        ("*ab*ab*", "aab", False),
        ("*ab*ab*", "aabxabx", True),
        ("*b*c", "abc", True),
        ("*c*c", "abc", False),
        # each of these would be tried until the end of time by whoever tries every way to part the name
        ("*a" * 200, "a" * 199 + "b", False),
        ("*a" * 200, "a" * 300 + "b", False),
        ("*a" * 200, "ba" * 200, True),
        ("*" * 5000 + "b", "a" * 63, False),
    ],
)
def test_only_a_star_is_special(pattern, name, fits):
    assert matches(pattern, name) is fits


@pytest.mark.parametrize("pattern", ["*a" * 200, "a*" * 200 + "b", "*" * 1000 + "z"])
def test_settings_under_a_glob_of_many_stars_are_those_of_no_table(pattern):
    settings = PerTable(BaseModel, [Entry(pattern, {})])
    with pytest.raises(UsageError, match="the source has no table that matches"):
        settings.check({"a" * 63: ""}, where="the source")


COLUMNS = ["id", "at", "internal_note", "name", "-x"]


@pytest.mark.parametrize(
    ("patterns", "needed", "expected"),
    [
        (None, (), COLUMNS),
        (["*"], (), COLUMNS),
        (["name", "at"], ("id",), ["id", "at", "name"]),
        (["*", "-internal_*"], ("id",), ["id", "at", "name", "-x"]),
        (["-internal_*", "-name"], (), ["id", "at", "-x"]),
        (["*", "-*", "n*"], (), ["name"]),
        (["*", "-i*", "id"], ("id",), ["id", "at", "name", "-x"]),
        (["*", "-nothing_*"], (), COLUMNS),
        (["-x"], (), ["-x"]),  # the name of a column
        (["*", "--x"], (), ["id", "at", "internal_note", "name"]),
    ],
)
def test_columns_are_chosen_by_the_last_pattern_that_matches(patterns, needed, expected):
    assert chosen_columns(patterns, COLUMNS, needed, where="t") == expected


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["*", "-id"], "t: `columns` leaves out 'id' \\('-id'\\), which is a key"),
        (["*", "-i*"], "leaves out 'id'"),
        (["nam"], "t has no column 'nam'"),
    ],
)
def test_columns_that_do_not_fit_are_refused(patterns, message):
    with pytest.raises(UsageError, match=message):
        chosen_columns(patterns, COLUMNS, ("id",), where="t")


def test_a_table_needs_a_column():
    with pytest.raises(UsageError, match="leaves out every column"):
        chosen_columns(["-*"], ["a"], where="t")


def test_what_columns_say_is_the_same_for_the_same_columns():
    assert columns_said(None) is columns_said(["*"]) is None
    assert columns_said(["b", "a", "b"]) == ["a", "b"]
    assert columns_said(["*", "-b", "-a"]) == ["*", "-b", "-a"]


def test_a_pattern_that_leaves_out_nothing_anywhere_was_mistyped():
    told = PerTable(
        BaseModel, [Entry("*", {"columns": ["*", "-pasword", "-internal_*"]}), Entry("b", {"columns": ["z*"]})]
    )
    columns = {"a": ["id", "password"], "b": ["id", "internal_a"]}
    with pytest.raises(UsageError) as caught:
        told.check(dict.fromkeys(columns, ""), where="shop", columns=columns)
    assert [one.message for one in caught.value.problems] == [
        "`columns` of '*': no column matches 'pasword'",
        "`columns` of 'b': no column matches 'z*'",
    ]
    assert "did you mean 'password'?" in caught.value.problems[0].hint
