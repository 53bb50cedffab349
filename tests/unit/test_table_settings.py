"""Settings of single tables: which of them apply to a table, by its names and by globs."""

from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from strandline.connectors.postgresql.plan import PostgreSQLTable
from strandline.connectors.sqlite.source import SQLiteTable
from strandline.errors import Problem, UsageError
from strandline.selection import matches
from strandline.table_settings import Entry, PerTable


class Three(BaseModel):
    model_config = ConfigDict(extra="forbid")

    a: int = 0
    b: int = 0
    c: dict[str, int] = {}


class Holder(BaseModel):
    tables: PerTable[Three] = Field(default_factory=partial(PerTable, Three))


def resolved(tables, name="orders", spec_name=""):
    return Holder(tables=tables).tables.of(name, spec_name)


NAMES = ("orders", "items", "sales_orders")
KEYS = st.sampled_from([*NAMES, "*", "o*", "*s", "sales.*", "sales.orders", "*_orders"])
SETTINGS = st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=2)


@given(st.lists(st.tuples(KEYS, SETTINGS)), st.sampled_from(NAMES))
def test_globs_apply_in_the_order_of_the_file_and_the_exact_name_last(entries, name):
    names = (name, "sales.orders") if name == "sales_orders" else (name,)
    exact = [settings for key, settings in entries if key in names]
    globs = [settings for key, settings in entries if key not in names and any(matches(key, one) for one in names)]
    wanted = {"a": 0, "b": 0}
    for settings in [*globs, *exact]:
        wanted |= settings
    per_table = PerTable(Three, [Entry(key, settings) for key, settings in entries])
    if any(sum(setting in one for one in exact) > 1 for setting in "ab"):
        with pytest.raises(UsageError, match="is set twice"):
            per_table.of(name, "".join(names[1:]))
    else:
        found = per_table.of(name, "".join(names[1:]))
        assert {"a": found.a, "b": found.b} == wanted


@given(st.permutations([("orders", 1), ("*", 2), ("o*", 3), ("ord*", 4)]))
def test_the_exact_name_wins_wherever_it_stands(entries):
    assert resolved({key: {"a": value} for key, value in entries}).a == 1
    rest = [value for _, value in entries if value > 1]
    assert resolved({key: {"a": value} for key, value in entries if value > 1}).a == rest[-1]


def test_a_name_with_a_star_is_a_name_too():
    tables = {"a*": {"a": 1}, "ab": {"a": 2}, "*": {"a": 3}}
    assert [resolved(tables, name).a for name in ("a*", "ab", "ac")] == [1, 2, 3]


@pytest.mark.parametrize("key", ["sales.orders", "sales_orders", "sales.*", "sales_*", "*.orders"])
def test_a_table_of_another_schema_is_called_by_either_name(key):
    assert resolved({key: {"a": 7}}, "sales_orders", "sales.orders").a == 7
    assert resolved({key: {"a": 7}}, "orders").a == 0


def test_mappings_are_merged_by_their_keys():
    tables = {"*": {"c": {"x": 1, "y": 1}}, "orders": {"c": {"y": 2}}}
    assert resolved(tables).c == {"x": 1, "y": 2}
    hidden = {"*": PostgreSQLTable(mask={"email": "hash"}), "people": {"mask": {"phone": "null"}}}
    per_table = PerTable[PostgreSQLTable]
    (settings,) = _validated(per_table, hidden).resolve({"people": ""}, where="x").values()
    assert settings.mask == {"email": "hash", "phone": "null"}


def _validated(kind, value):
    class Model(BaseModel):
        tables: kind

    return Model(tables=value).tables


def test_null_takes_back_what_a_glob_gives():
    tables = {"*": {"incremental_key": "at"}, "orders": {"incremental_key": None}}
    assert _validated(PerTable[SQLiteTable], tables).of("orders").incremental_key is None
    assert _validated(PerTable[SQLiteTable], tables).of("items").incremental_key == "at"


def test_what_means_nothing_for_a_table_is_left_out_under_a_glob_only():
    tables = {"*": {"lag": "5m", "timezone": "UTC"}, "keyed": {"incremental_key": "at"}, "named": {"lag": "1h"}}
    settings = _validated(PerTable[SQLiteTable], tables).resolve(
        dict.fromkeys(("keyed", "named", "other"), ""), where="x"
    )
    lags = {name: one.lag for name, one in settings.items()}
    assert lags == {"keyed": timedelta(minutes=5), "named": timedelta(hours=1), "other": timedelta(0)}
    assert [one.timezone for one in settings.values()] == ["UTC", None, None]


def test_a_setting_of_one_table_under_both_of_its_names_is_an_error():
    tables = {"sales.orders": {"a": 1}, "sales_orders": {"a": 1, "b": 1}}
    with pytest.raises(UsageError) as caught:
        resolved(tables, "sales_orders", "sales.orders")
    assert caught.value.message == "`a` of one table is set twice: under 'sales.orders' and under 'sales_orders'"
    assert resolved({"sales.orders": {"a": 1}, "sales_orders": {"b": 2}}, "sales_orders", "sales.orders").b == 2


def test_keys_that_mean_no_table_are_told_all_at_once():
    places = {key: Problem("", f"s.yml:{row}:5", f"    {key}:") for row, key in enumerate(("ordrs", "x*", "items"), 3)}
    per_table = PerTable(Three, [Entry(key, {}, place) for key, place in places.items()])
    with pytest.raises(UsageError) as caught:
        per_table.check({"orders": "", "items": ""}, where="the shop")
    assert [(one.where, one.message, one.hint) for one in caught.value.problems] == [
        ("s.yml:3:5", "the shop has no table 'ordrs'", "did you mean 'orders'?"),
        ("s.yml:4:5", "the shop has no table that matches 'x*'", "the tables are orders, items"),
    ]
    assert caught.value.message == "the shop lacks tables that the spec has settings of: ordrs, x*; nothing was touched"


def test_one_without_a_place_is_the_error_itself():
    with pytest.raises(UsageError, match=r"^the shop has no table 'ordrs'$") as caught:
        Holder(tables={"ordrs": {}}).tables.check({"shop_orders": "shop.orders"}, where="the shop")
    assert caught.value.hint == "did you mean 'shop.orders'?"
    with pytest.raises(UsageError) as caught:
        Holder(tables={"x": {}}).tables.check({}, where="the shop")
    assert caught.value.hint == "the source has no tables"


def test_entries_are_checked_one_by_one():
    with pytest.raises(ValidationError) as caught:
        Holder(tables={"orders": {"a": "x"}, "": {}, "items": {"d": 1}})
    assert {detail["loc"] for detail in caught.value.errors()} == {
        ("tables", "orders", "a"),
        ("tables", "", "[key]"),
        ("tables", "items", "d"),
    }
    with pytest.raises(ValidationError):
        Holder(tables=PerTable(Three, [Entry("orders", {"a": "x"})]))
    assert Holder().tables.entries == ()
    assert Holder(tables={"orders": Three(a=1)}).model_dump() == {"tables": {"orders": {"a": 1}}}


def test_what_does_not_fit_together_is_an_error_of_the_table():
    class Either(BaseModel):
        a: int = 0
        b: int = 0

        @model_validator(mode="after")
        def _one(self):
            if self.a and self.b:
                raise ValueError("either a or b")
            return self

    with pytest.raises(UsageError, match=r"table 'orders': its settings do not fit: Value error, either a or b"):
        PerTable(Either, [Entry("*", {"a": 1}), Entry("orders", {"b": 1})]).of("orders")


def test_what_is_a_glob_for_one_table_and_the_name_of_another_means_each_in_its_way():
    """Settings are made once for all tables of which the same is said, and of these not the same is."""
    tables = Holder(tables={"o*": {"a": 1}, "*": {"a": 2}}).tables
    assert [tables.of(name, "").a for name in ("orders", "o*", "items", "orders")] == [2, 1, 2, 2]
