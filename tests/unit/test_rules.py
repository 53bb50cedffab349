"""What the engine is told about single tables, and what they are called at the destination."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from strandline.errors import Problem, UsageError
from strandline.rules import TableRules, check_rules, fitting, may_share, rules_of, stored_names
from strandline.table import Table
from strandline.table_settings import Entry, PerTable

SCHEMA = pa.schema([("id", pa.int64())])


def table(name, spec_name=""):
    return Table(name, SCHEMA, spec_name=spec_name)


def rules(**tables):
    return PerTable(TableRules, [Entry(key, settings) for key, settings in tables.items()])


def test_defaults_take_over_nothing():
    assert rules_of(rules(), table("orders")) == TableRules(
        name=None, adopt=False, shared=False, allow_cascade=False, backfill=False
    )


def test_they_are_found_by_either_name():
    told = PerTable(TableRules, [Entry("sales.*", {"adopt": True}), Entry("sales_orders", {"name": "o"})])
    assert rules_of(told, table("sales_orders", "sales.orders")) == TableRules(adopt=True, name="o")


def test_every_key_has_to_mean_a_table():
    check_rules(rules(orders={}), [table("orders")], source="shop")
    with pytest.raises(UsageError, match=r"^source 'shop' has no table 'ordrs'$"):
        check_rules(rules(ordrs={}), [table("orders")], source="shop")


@pytest.mark.parametrize("name", ["", " ", " a", "a\n", "a\0", "cq_state", "CQ_x", "x" * 201, 3])
def test_an_impossible_name_is_refused(name):
    with pytest.raises(ValidationError):
        TableRules(name=name)


@pytest.mark.parametrize("name", ["a", "größe", "a b", 'a"b', "sales.orders", "*", "x" * 200])
def test_any_other_is_possible(name):
    assert stored_names(rules(orders={"name": name}), [table("orders"), table("items")]) == {
        "orders": name,
        "items": "items",
    }


@pytest.mark.parametrize(
    "told",
    [
        {"*": {"name": "one"}},
        {"orders": {"name": "one"}, "items": {"name": "one"}},
        {"orders": {"name": "items"}},
        {"items": {"name": "orders"}},
        {"orders": {"name": "ITEMS"}},
    ],
)
def test_two_tables_cannot_have_one_name(told):
    with pytest.raises(UsageError, match="tables 'orders' and 'items' would both be") as caught:
        stored_names(rules(**told), [table("orders"), table("items")])
    assert caught.value.hint == "give one of them another `name`"


def test_tables_may_exchange_their_names():
    told = rules(orders={"name": "items"}, items={"name": "orders"})
    assert stored_names(told, [table("orders"), table("items")]) == {"orders": "items", "items": "orders"}


def test_names_that_were_alike_before_are_not_its_business():
    assert stored_names(rules(), [table("a"), table("A")]) == {"a": "a", "A": "A"}


@pytest.mark.parametrize(
    ("template", "name", "spec_name", "stored"),
    [
        ("shop_{table}", "orders", "", "shop_orders"),
        ("{schema}_{table}", "orders", "public.orders", "public_orders"),
        ("{schema}__{table}", "sales_orders", "sales.orders", "sales__orders"),
        ("{table}", "sales_orders", "sales.orders", "orders"),
        ("{table}@{schema}", "a.b_c.d", "a.b.c.d", "c.d@a.b"),
        ("{table}", "b.c", "a.b.c", "b.c"),
    ],
)
def test_a_template_makes_the_name_of_a_table(template, name, spec_name, stored):
    assert TableRules(names=template).stored_name(table(name, spec_name)) == stored
    assert TableRules(names=template, name="mine").stored_name(table(name, spec_name)) == "mine"


def test_a_template_that_does_not_fit_a_table_is_refused():
    with pytest.raises(UsageError, match="table 'orders' has no schema"):
        TableRules(names="{schema}_{table}").stored_name(table("orders"))
    with pytest.raises(UsageError, match=r"table 'state'.*begins the names of Strandline's own"):
        TableRules(names="cq_{table}").stored_name(table("state"))


def test_tables_that_get_one_name_from_a_template_are_named():
    told = PerTable(TableRules, [Entry("*", {"names": "{table}"}, is_default=True)])
    with pytest.raises(UsageError, match=r"tables 'a.orders' and 'b.orders' would both be 'orders' at the destination"):
        stored_names(told, [table("a_orders", "a.orders"), table("b_orders", "b.orders")])


@pytest.mark.parametrize("key", ["sales.orders", "sales_orders", "sales.*", "*"])
def test_who_shares_a_table_is_known_by_the_name_that_a_template_gives(key):
    told = PerTable(
        TableRules, [Entry("*", {"names": "x_{schema}_{table}"}, is_default=True), Entry(key, {"shared": True})]
    )
    assert may_share(told, "x_sales_orders")
    assert not may_share(told, "sales_orders")


def test_columns_that_leave_out_a_key_are_refused_at_their_place():
    place = Problem("", "s.yml:7:3", "orders:")
    told = PerTable(TableRules, [Entry("orders", {"columns": ["*", "-i*"]}, place)])
    keyed = Table("orders", pa.schema([("id", pa.int64()), ("it", pa.int64()), ("a", pa.int64())]), ("id",))
    error = fitting(told, keyed).unreadable
    assert (error.each()[0].where, "'id' ('-i*')" in error.message) == ("s.yml:7:3", True)
    told = PerTable(TableRules, [Entry("orders", {"columns": ["*", "-i*", "id"]}, place)])
    assert fitting(told, keyed) is keyed
