"""``table_settings`` in a spec: for every source, with every mistake at its place, and what comes out of it."""

import contextlib
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import third_party

from strandline import logs, spec
from strandline.cli.schema import spec_schema
from strandline.connectors.sqlite.source import SQLiteTable
from strandline.errors import UsageError
from strandline.rules import TableRules
from strandline.spec import SourceSpec

STORE = """
---
kind: destination
spec: {name: w, path: duckdb, spec: {path: w.duckdb}}
"""
OWN = {
    "sqlite": "{path: shop.db}",
    "postgresql": "{connection_string: 'dbname=shop'}",
    "files": "{path: data}",
    "test": "{}",
    "memory": "{}",
    "acme": "{url: x}",
}
"""The least that each source needs. ``acme`` takes settings of tables by name, and no globs."""


@pytest.fixture(autouse=True)
def _installed(tmp_path, monkeypatch):
    third_party.install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("acme_strandline")]:
        del sys.modules[name]


def load(block, path="sqlite", own="", **environment):
    """The source of a spec with these lines below ``table_settings``, the first of which is line 8."""
    head = f"kind: source\nspec:\n  name: shop\n  path: {path}\n  destinations: [w]\n  spec: {own or OWN[path]}\n"
    Path("s.yml").write_text(f"{head}  table_settings:\n{block}{STORE}")
    return spec.load(["s.yml"], environment=environment).sources[0]


def problems(*arguments, **more):
    with pytest.raises(UsageError) as caught:
        load(*arguments, **more)
    return [(one.where.removeprefix("s.yml:"), one.message, one.hint) for one in caught.value.problems]


@pytest.mark.parametrize("path", OWN)
def test_every_source_takes_what_is_the_engines(path):
    rules = "    orders: {name: o, adopt: true, shared: true}\n    '*': {backfill: true, allow_cascade: true}\n"
    source = load(rules, path)
    assert source.rules.of("orders") == TableRules(name="o", adopt=True, shared=True, backfill=True, allow_cascade=True)
    assert source.rules.of("items") == TableRules(backfill=True, allow_cascade=True)
    assert source.own_settings.entries == ()
    source.open()


@pytest.mark.parametrize("path", ["sqlite", "postgresql", "files", "acme"])
def test_a_source_gets_what_is_its_own(path):
    source = load("    orders: {incremental_key: at, adopt: true}\n", path)
    tables = source.settings.tables
    settings = tables["orders"] if path == "acme" else tables.of("orders")
    assert settings.incremental_key == "at"
    assert source.rules.of("orders") == TableRules(adopt=True)
    assert source.own_settings.written("orders") == {"incremental_key": "at"}


@pytest.mark.parametrize("path", ["test", "memory"])
def test_a_source_without_settings_of_tables_refuses_them_in_words(path):
    assert problems("    orders: {lag: 5m, adop: true}\n    '*':\n      nonsense: 1\n", path) == [
        (
            "8:14",
            f"source {path} takes no `lag` in table_settings",
            "it takes name, names, write_mode, columns, adopt, shared, allow_cascade, types, latest_view, backfill",
        ),
        ("8:23", f"source {path} takes no `adop` in table_settings", "did you mean 'adopt'?"),
        (
            "10:7",
            f"source {path} takes no `nonsense` in table_settings",
            "it takes name, names, write_mode, columns, adopt, shared, allow_cascade, types, latest_view, backfill",
        ),
    ]


def test_one_that_takes_names_only_says_so_of_globs():
    assert problems("    '*': {incremental_key: at, adopt: true}\n    a: {start: 1}\n", "acme") == [
        (
            "8:11",
            "source acme takes `incremental_key` by the name of a table, not by a glob",
            "write it under the name of each table",
        )
    ]


def test_everything_that_is_wrong_is_said_at_once():
    block = """\
    "*": {lagg: 5m, deletes: swep, where: 3}
    orders:
      name: " x"
      adopt: maybe
      settle: cap
    items: [x]
    "": {adopt: true}
"""
    assert problems(block) == [
        ("8:11", "unknown field 'lagg'", "did you mean 'lag'?"),
        ("8:30", "`spec.table_settings.*.deletes`: should be 'sweep' or 'ignore'", "did you mean 'sweep'?"),
        ("8:43", "`spec.table_settings.*.where`: should be a valid string", 'put it in quotes: "3"'),
        (
            "10:13",
            "`spec.table_settings.orders.name`: ' x' cannot be the name of a table: it has spaces at its ends, or control characters",
            "",
        ),
        ("11:14", "`spec.table_settings.orders.adopt`: should be a valid boolean, unable to interpret input", ""),
        (
            "12:7",
            "unknown field 'settle'",
            "the fields are adopt, allow_cascade, backfill, columns, deletes, incremental_key, lag, latest_view, mode, name, names, nulls, primary_key, query, shared, start, timezone, types, where, write_mode",
        ),
        ("13:12", "`spec.table_settings.items`: should be a valid dictionary or instance of SQLiteTableSettings", ""),
        ("14:5", "`table_settings`: the name of a table, or a glob, is missing", ""),
    ]


@pytest.mark.parametrize("block", ["    [a]\n", "    text\n"])
def test_the_block_is_a_mapping(block):
    assert problems(block) == [("8:5", "`spec.table_settings`: should be a valid dictionary", "")]


def test_it_may_be_empty_and_so_may_a_table():
    assert load("").own_settings.entries == ()
    source = load("    orders:\n    items: {}\n")
    assert [entry.key for entry in source.rules.entries] == ["orders", "items"]
    assert source.settings.tables.entries == ()


class TestBothSpellings:
    OWN = "{path: shop.db, tables: {'*': {lag: 1m, incremental_key: at}, orders: {lag: 2m}, items: {nulls: fail}}}"

    def test_they_are_one_list_and_names_come_last(self):
        source = load(
            "    '*': {where: x}\n    'o*': {lag: 3m}\n    'i*': {lag: 4m}\n    items: {where: y}\n",
            own=self.OWN.replace("'*'", "'**'"),
        )
        orders, items, people = (source.settings.tables.of(name) for name in ("orders", "items", "people"))
        assert (orders.lag, orders.where, orders.incremental_key) == (timedelta(minutes=2), "x", "at")
        assert (items.lag, items.where, items.nulls) == (timedelta(minutes=4), "y", "fail")
        assert (people.lag, people.where) == (timedelta(minutes=1), "x")

    def test_the_same_under_the_same_key_is_an_error(self):
        assert problems("    orders: {lag: 3m, where: x}\n    '*': {lag: 1m}\n", own=self.OWN) == [
            ("8:14", "`lag` of 'orders' stands in `spec.tables`, too: s.yml:6:80", "remove one of the two"),
            ("9:11", "`lag` of '*' stands in `spec.tables`, too: s.yml:6:40", "remove one of the two"),
        ]

    def test_what_is_not_known_of_a_table_is_an_error_with_its_place(self):
        source = load("    ordrs: {lag: 3m}\n    'x*': {name: y}\n", own="{path: shop.db, tables: {itms: {lag: 1m}}}")
        with pytest.raises(UsageError) as caught:
            source.settings.tables.check({"orders": "", "items": ""}, where="it")
        assert [(one.where, one.line.strip()[:8]) for one in caught.value.problems] == [
            ("s.yml:6:34", "spec: {p"),
            ("s.yml:8:5", "ordrs: {"),
        ]
        with pytest.raises(UsageError) as caught:
            source.rules.check({"orders": "", "items": ""}, where="it")
        assert [one.where for one in caught.value.problems] == ["s.yml:8:5", "s.yml:9:5"]

    def test_one_that_takes_names_only_gets_each_once(self):
        source = load(
            "    orders: {start: 3}\n    lines: {start: 4}\n",
            "acme",
            "{url: x, tables: {orders: {incremental_key: at}}}",
        )
        tables = source.settings.tables
        assert {name: (one.incremental_key, one.start) for name, one in tables.items()} == {
            "orders": ("at", 3),
            "lines": (None, 4),
        }

    def test_what_is_no_mapping_in_the_plugins_own_is_an_error_still(self):
        assert [found[0] for found in problems("    orders: {lag: 1m}\n", own="{path: x, tables: [1]}")] == ["6:27"]
        of_one = problems("    orders: {lag: 1m}\n", own="{path: x, tables: {orders: 3}}")
        assert [found[0] for found in of_one] == ["6:36"]

    @pytest.mark.parametrize("tables", [{"a": 3}, {"a": None}, [1], {"a": {"lagg": 1}}])
    def test_nor_is_it_left_out_of_a_spec_made_in_python(self, tables):
        one = {"name": "s", "path": "sqlite", "destinations": ["w"], "table_settings": {"a": {"lag": "1m"}}}
        with pytest.raises(UsageError, match="settings of source 's' are wrong: tables"):
            SourceSpec(**one, spec={"path": "x", "tables": tables}).open()

    def test_objects_of_the_model_are_settings(self):
        one = {"name": "s", "path": "sqlite", "destinations": ["w"], "table_settings": {"a": {"lag": "1m"}}}
        made = SourceSpec(**one, spec={"path": "x", "tables": {"a": SQLiteTable(incremental_key="at")}})
        assert made.own_settings.written("a") == {"incremental_key": "at", "lag": "1m"}
        assert made.settings.tables.of("a") == SQLiteTable(incremental_key="at", lag="1m")


class TestVariables:
    def test_they_are_replaced_and_secret(self):
        source = load(
            "    orders: {where: \"k = '${KEY}'\", lag: '${LAG:-5m}', adopt: '${ADOPT}'}\n",
            KEY="canary-7",
            ADOPT="true",
        )
        assert source.settings.tables.of("orders").where == "k = 'canary-7'"
        assert source.own_settings.written("orders")["lag"] == "5m"
        assert source.rules.of("orders").adopt is True
        assert logs.redact("canary-7") == "***"

    def test_a_name_is_said(self):
        source = load("    orders: {name: '${TENANT}_orders'}\n", TENANT="said-tenant-1")
        assert source.rules.of("orders").name == "said-tenant-1_orders"
        assert logs.redact("said-tenant-1") == "said-tenant-1"

    @pytest.mark.parametrize(
        "block", ["    orders: {name: &n '${VALUE}', where: *n}\n", "    ${VALUE}\n", "    orders: '${VALUE}'\n"]
    )
    def test_what_stands_elsewhere_too_is_not(self, block):
        with contextlib.suppress(UsageError):
            load(block, VALUE="canary-8")
        assert logs.redact("canary-8") == "***"

    def test_one_that_is_not_set_is_an_error_with_its_place(self):
        assert problems("    orders: {name: '${TENANT}', lag: '${LAG}'}\n")[0][:2] == (
            "8:20",
            "the environment variable TENANT is not set",
        )

    def test_fields_that_a_plugin_declares_secret_are_masked(self):
        load("    orders: {opener: [canary-9]}\n", "acme")
        assert logs.redact("canary-9") == "***"


def test_the_schema_has_the_block_of_each_plugin():
    schema = spec_schema()
    found = {}
    for one in schema["$defs"]["SourceSpec"]["allOf"]:
        block = one["then"]["properties"].get("table_settings")
        if block is not None:
            name = block["additionalProperties"]["anyOf"][0]["$ref"].rpartition("/")[2]
            found[one["if"]["properties"]["path"]["enum"][0]] = set(schema["$defs"][name]["properties"])
    engine = set(TableRules.model_fields)
    assert found["test"] == found["memory"] == engine
    assert found["files"] == engine | {"primary_key", "incremental_key", "types", "records"}
    assert found["acme"] == engine | {"incremental_key", "start", "opener"}
    assert found["sqlite"] >= engine | {"lag", "types"}
    assert found["postgresql"] >= engine | {"settle", "mask", "margin", "out_of_range"}


def with_defaults(lines, path="sqlite", modes=""):
    """The source of a spec with these lines below ``spec``, the first of which is line 7."""
    head = f"kind: source\nspec:\n  name: shop\n  path: {path}\n  destinations: [w]\n  spec: {OWN[path]}\n"
    Path("s.yml").write_text(f"{head}{lines}{STORE}{modes}")
    return spec.load(["s.yml"], environment={}).sources[0]


def wrong_defaults(*arguments):
    with pytest.raises(UsageError) as caught:
        with_defaults(*arguments)
    return [(one.where.removeprefix("s.yml:"), one.message, one.hint) for one in caught.value.problems]


class TestDefaults:
    def test_they_hold_for_every_table_and_come_first(self):
        source = with_defaults(
            "  defaults: {incremental_key: at, lag: 1m, adopt: true, columns: ['*', '-secret']}\n"
            "  table_settings: {'o*': {lag: 2m}, orders: {adopt: false, columns: ['-price']}}\n"
        )
        own, rules = source.settings.tables, source.rules
        assert [own.of(name).lag for name in ("orders", "items")] == [timedelta(minutes=2), timedelta(minutes=1)]
        assert own.of("orders").columns == ["*", "-secret", "-price"]
        assert [rules.of(name).adopt for name in ("orders", "items")] == [False, True]

    def test_they_mean_no_table_where_there_is_none(self):
        source = with_defaults("  defaults: {lag: 1m, adopt: true}\n")
        source.settings.tables.check({}, where="shop")
        source.rules.check({}, where="shop")

    def test_they_come_before_what_the_source_says_in_its_own_block(self):
        line = "  defaults: {lag: 1m, incremental_key: at}\n"
        Path("s.yml").write_text(
            "kind: source\nspec:\n  name: shop\n  path: sqlite\n  destinations: [w]\n"
            f"  spec: {{path: shop.db, tables: {{'*': {{lag: 3m}}}}}}\n{line}{STORE}"
        )
        tables = spec.load(["s.yml"], environment={}).sources[0].settings.tables
        assert tables.of("orders").lag == timedelta(minutes=3)
        assert tables.of("orders").incremental_key == "at"

    def test_what_is_wrong_with_them_is_said_at_its_place(self):
        assert wrong_defaults("  defaults: {lagg: 1m, name: all, adopt: maybe}\n") == [
            ("7:14", "unknown field 'lagg'", "did you mean 'lag'?"),
            ("7:24", "`name` cannot be the same for every table", "give every table one by `names` of the source"),
            ("7:42", "`spec.defaults.adopt`: should be a valid boolean, unable to interpret input", ""),
        ]
        assert wrong_defaults("  defaults: {lag: 1m}\n", "test")[0][1] == "source test takes no `lag` in defaults"
        assert wrong_defaults("  defaults: {start: 1}\n", "acme")[0][1].startswith(
            "source acme takes `start` by the name"
        )

    def test_a_secret_in_them_is_not_said(self):
        Path("s.yml").write_text(
            "kind: source\nspec:\n  name: shop\n  path: sqlite\n  destinations: [w]\n  spec: {path: shop.db}\n"
            f"  defaults: {{where: '${{CONDITION}}'}}\n{STORE}"
        )
        spec.load(["s.yml"], environment={"CONDITION": "token = 'hunter22'"})
        assert "hunter22" not in logs.redact("near token = 'hunter22'")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("shop", "'shop' gives every table one name: it has no {table}"),
        ("{table}_{schem}", "'{table}_{schem}' may have {schema}, {table} and {source} in braces, and no other"),
        ("{table", "'{table' may have {schema}, {table} and {source} in braces, and no other"),
    ],
)
def test_a_template_of_names_that_makes_none_is_refused(names, message):
    [(where, said, _)] = wrong_defaults(f"  names: '{names}'\n")
    assert (where, said) == ("7:10", f"`spec.names`: {message}")


def test_a_template_without_quotes_is_a_mapping_and_said_so():
    [(where, said, hint)] = wrong_defaults("  names: {table}\n")
    assert (where, said) == ("7:10", "`spec.names`: should be a valid string")
    assert hint == "put it in quotes, for braces without them are a mapping"


@pytest.mark.parametrize("block", ["defaults", "table_settings"])
def test_a_write_mode_that_a_destination_cannot_is_refused_where_it_stands(block):
    files = "---\nkind: destination\nspec: {name: lake, path: files, spec: {path: lake}}\n"
    said = "{write_mode: overwrite}" if block == "defaults" else "{orders: {write_mode: overwrite}}"
    lines = f"  {block}: {said}\n"
    assert with_defaults(lines, "sqlite", files).name == "shop"  # it writes to `w` only
    head = "kind: source\nspec:\n  name: shop\n  path: sqlite\n  destinations: [w, lake]\n  spec: {path: shop.db}\n"
    Path("s.yml").write_text(f"{head}{lines}{STORE}{files}")
    with pytest.raises(UsageError) as caught:
        spec.load(["s.yml"], environment={})
    [problem] = caught.value.problems
    assert problem.where.startswith("s.yml:7:")
    assert problem.message == "destination 'lake' (files) cannot 'overwrite'"
    assert problem.hint == "its write modes are append"
