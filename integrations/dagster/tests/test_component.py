"""The component against the real Dagster: SQLite and Python functions into DuckDB."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from dagster_strandline import SpecTable, StrandlineSpecComponent

SECRET = "s3cret-of-the-shop"

SPEC = """\
kind: source
spec:
  name: shop
  path: sqlite
  destinations: [warehouse]
  backend: destination
  spec: {path: shop.db}
  table_settings: {orders: {incremental_key: updated_at, name: all_orders}}
---
kind: destination
spec: {name: warehouse, path: duckdb, spec: {path: warehouse.duckdb}}
"""

TABLES = """\
import os, time
import strandline as sl
from pathlib import Path

@sl.table(primary_key="id")
def good():
    yield [{"id": 1}, {"id": 2}]

@sl.table(primary_key="id")
def bad():
    if Path("broken").exists():
        raise RuntimeError("401 for " + os.environ["TOKEN"])
    yield [{"id": 1}]

@sl.table(parent=good)
def below(row):
    yield [{"n": 1}]

@sl.table(primary_key="id")
def slow(cursor):
    for n in range(100 if Path("endless").exists() else 1):
        yield [{"id": n}]
        yield sl.checkpoint({"n": n})
        Path("begun").touch()
        time.sleep(0.2 if Path("endless").exists() else 0)
"""

OF_TABLES = SPEC.replace("path: sqlite", "registry: python\n  path: ours").replace("spec: {path: shop.db}", "spec: {}")
OF_TABLES = OF_TABLES.replace("  table_settings: {orders: {incremental_key: updated_at, name: all_orders}}\n", "")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A directory that is not the one of the process."""
    monkeypatch.setenv("TOKEN", SECRET)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.executescript("""
            CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT);
            CREATE TABLE orders (id INTEGER PRIMARY KEY, updated_at DATETIME);
            INSERT INTO customers VALUES (1, 'ada@example.com');
            INSERT INTO orders VALUES (1, '2026-01-01 10:00:00'), (2, '2026-01-02 10:00:00');
        """)
    (tmp_path / "strandline.yml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def functions(shop, monkeypatch):
    """The same, of table functions; `secret` in the spec, so that it is known as one."""
    (shop / "ours.py").write_text(TABLES)
    (shop / "strandline.yml").write_text(
        OF_TABLES.replace("name: warehouse, path", "name: warehouse, on_failure: x, path").replace(
            "on_failure: x, ", ""
        )
        + "---\nkind: source\nspec: {name: other, path: sqlite, destinations: [warehouse], spec: {path: '${TOKEN}.db'}}\n"
    )
    (shop / f"{SECRET}.db").write_bytes((shop / "shop.db").read_bytes())
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield shop
    sys.modules.pop("ours", None)


def component(directory, **settings):
    return StrandlineSpecComponent(spec=str(directory / "strandline.yml"), **settings)


def assets(one, directory):
    state = directory / "state"
    one.write_state_to_path(state)
    return list(one.build_defs_from_state(None, state).assets)


def metadata(result, key):
    (found,) = [one for one in result.get_asset_materialization_events() if one.asset_key.to_user_string() == key]
    return {name: value.value for name, value in found.materialization.metadata.items()}


def materialized(result):
    return {one.asset_key.to_user_string() for one in result.get_asset_materialization_events()}


def rows(directory, table):
    with duckdb.connect(str(directory / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.sql(f'SELECT count(*) FROM "{table}"').fetchall()[0][0]


def keys(*names, source="shop"):
    return [dg.AssetKey([source, name]) for name in names]


def test_each_table_is_an_asset_that_says_what_was_done_with_it(shop):
    ours = assets(component(shop), shop)
    result = dg.materialize(ours)
    assert materialized(result) == {"shop/customers", "shop/all_orders"}
    first = metadata(result, "shop/all_orders")
    assert (first["rows_read"], first["rows_written"], first["cursor_before"]) == (2, 2, "–")
    assert "2026-01-02" in first["cursor_after"]
    assert "committed together" in first["delivery"]
    assert first["duration_s"] >= 0
    second = metadata(dg.materialize(ours), "shop/all_orders")
    assert (second["rows_read"], second["cursor_before"]) == (1, first["cursor_after"])
    assert rows(shop, "all_orders") == 2
    assert Path.cwd() != shop
    assert (shop / ".cq" / "runs").exists()


def test_definitions_ask_no_source(shop):
    one = component(shop)
    one.write_state_to_path(shop / "state")
    (shop / "shop.db").unlink()
    (shop / "strandline.yml").unlink()
    (definition,) = one.build_defs_from_state(None, shop / "state").assets
    spec = definition.specs_by_key[dg.AssetKey(["shop", "all_orders"])]
    assert [column.name for column in spec.metadata["dagster/column_schema"].columns] == ["id", "updated_at"]
    assert (spec.metadata["incremental"], spec.metadata["primary_key"]) == ("updated_at", "id")
    assert (spec.group_name, spec.kinds) == ("shop", {"strandline", "duckdb"})
    assert not (shop / "warehouse.duckdb").exists()


def test_without_a_state_there_is_nothing_and_another_version_is_refused(shop):
    assert not component(shop).build_defs_from_state(None, None).assets
    (shop / "state").write_text(json.dumps({"version": 0, "tables": []}))
    with pytest.raises(ValueError, match="refresh-defs-state"):
        component(shop).build_defs_from_state(None, shop / "state")


def test_a_subset_syncs_nothing_else(shop):
    result = dg.materialize(assets(component(shop), shop), selection=keys("customers"))
    assert materialized(result) == {"shop/customers"}
    with duckdb.connect(str(shop / "warehouse.duckdb"), read_only=True) as warehouse:
        assert "all_orders" not in {
            name for (name,) in warehouse.sql("SELECT table_name FROM duckdb_tables()").fetchall()
        }


def test_what_the_component_leaves_out_is_no_asset_and_not_synced(shop):
    result = dg.materialize(assets(component(shop, exclude=["orders"]), shop))
    assert materialized(result) == {"shop/customers"}


def test_a_table_that_fails_fails_only_its_asset(functions):
    (functions / "broken").touch()
    ours = assets(component(functions, select=["good", "bad"]), functions)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(ours[:1], instance=instance, raise_on_error=False)
        assert not result.success
        assert materialized(result) == {"shop/good"}
        (failed,) = [event for event in result.all_events if event.is_step_failure]
        lost = [event for event in result.all_events if event.event_type_value == "ASSET_FAILED_TO_MATERIALIZE"]
        assert {event.asset_key.to_user_string() for event in lost} <= {"shop/bad"}
        records = instance.all_logs(result.run_id)
        everything = f"{failed}{[str(one) for one in records]}{[one.dagster_event for one in records]}"
    assert "401 for ***" in everything
    assert SECRET not in everything
    (functions / "broken").unlink()
    assert materialized(dg.materialize(ours[:1])) == {"shop/good", "shop/bad"}


def test_parents_come_with_their_children(functions):
    ours = assets(component(functions), functions)
    spec = ours[0].specs_by_key[dg.AssetKey(["shop", "below"])]
    assert [dep.asset_key for dep in spec.deps] == keys("good")
    result = dg.materialize(ours, selection=keys("below"))
    assert materialized(result) == {"shop/below", "shop/good"}
    assert metadata(result, "shop/below")["rows_read"] == 2
    assert metadata(result, "shop/below")["written_and_deleted_with"] == "good"


@pytest.mark.parametrize(
    ("names", "left"), [((), {"shop/customers"}), (("customers", "all_orders"), {"shop/customers"})]
)
def test_a_table_that_is_gone_fails_alone(shop, names, left):
    with closing(sqlite3.connect(shop / "shop.db")) as db:
        db.execute("CREATE TABLE more (id INTEGER PRIMARY KEY)")
    (shop / "strandline.yml").write_text(SPEC.replace("orders: {incremental_key: updated_at, name: all_orders}", ""))
    ours = assets(component(shop), shop)
    with closing(sqlite3.connect(shop / "shop.db")) as db:
        db.execute("DROP TABLE orders")
    selection = keys("customers", "orders") if names else None
    result = dg.materialize(ours, selection=selection, raise_on_error=False)
    assert not result.success
    assert materialized(result) - {"shop/more"} == left
    assert "no table orders any more" in str([event for event in result.all_events if event.is_step_failure])


def test_a_table_that_is_new_is_synced_and_told(shop, capfd):
    ours = assets(component(shop), shop)
    with closing(sqlite3.connect(shop / "shop.db")) as db:
        db.execute("CREATE TABLE more (id INTEGER PRIMARY KEY)")
    result = dg.materialize(ours)
    assert result.success
    assert "more is new, and no asset yet" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "tried", "said"),
    [
        (SPEC.replace("incremental_key: updated_at", "incremental_key: updated"), 1, "updated"),
        (SPEC.replace("path: shop.db", "path: none/shop.db"), 2, "shop.db"),
    ],
)
def test_only_what_may_pass_is_tried_again(shop, text, tried, said):
    ours = assets(component(shop, retries=1, retry_delay_s=0), shop)
    (shop / "strandline.yml").write_text(text)
    if tried == 2:  # another run that holds the source
        (shop / "strandline.yml").write_text(SPEC)
        holder = _hold(shop)
    result = dg.materialize(ours, raise_on_error=False)
    assert not result.success
    starts = [event for event in result.all_events if event.event_type_value in {"STEP_START", "STEP_RESTARTED"}]
    if tried == 2:
        holder.kill()
        holder.wait()
        said = "warehouse"
    assert len(starts) == tried
    assert said in str([event for event in result.all_events if event.is_step_failure])


def _hold(directory):
    """A process that has the DuckDB file open, as a run of something else."""
    code = "import duckdb, time; c = duckdb.connect('warehouse.duckdb'); print('open', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=directory, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "open"
    return process


def test_names_of_tables_make_keys_that_dagster_takes(shop):
    with closing(sqlite3.connect(shop / "shop.db")) as db:
        db.executescript(
            'CREATE TABLE "größe 1" (id INTEGER PRIMARY KEY); CREATE TABLE "order-items" (id INTEGER PRIMARY KEY);'
        )
    result = dg.materialize(assets(component(shop), shop))
    names = {key.partition("/")[2] for key in materialized(result)}
    assert "order-items" in names
    assert len(names) == 4


def test_a_subclass_and_a_translation_say_what_an_asset_is(shop):
    class Ours(StrandlineSpecComponent):
        def get_asset_spec(self, table: SpecTable) -> dg.AssetSpec:
            return super().get_asset_spec(table).replace_attributes(owners=["team:shop"])

    one = Ours(
        spec=str(shop / "strandline.yml"),
        translation=lambda spec, table: spec.replace_attributes(key=["raw", table.stored]),
    )
    (definition,) = assets(one, shop)
    assert set(definition.specs_by_key) == set(keys("customers", "all_orders", source="raw"))
    assert all(spec.owners == ["team:shop"] for spec in definition.specs)
    assert materialized(dg.materialize([definition])) == {"raw/customers", "raw/all_orders"}


def test_a_project_of_dg_is_scaffolded_checked_and_listed(shop, tmp_path_factory):
    project = tmp_path_factory.mktemp("project")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "proj"\nversion = "0.1.0"\n[tool.dg]\ndirectory_type = "project"\n'
        '[tool.dg.project]\nroot_module = "proj"\n'
    )
    package = project / "src" / "proj"
    (package / "defs").mkdir(parents=True)
    for path in (package / "__init__.py", package / "defs" / "__init__.py"):
        path.touch()
    (package / "definitions.py").write_text(
        "from pathlib import Path\nfrom dagster import definitions, load_from_defs_folder\n\n@definitions\ndef defs():\n"
        "    return load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )

    def dg_(*arguments):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        settings = {
            "PATH": path,
            "PYTHONPATH": "src",
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "COLUMNS": "200",
            "HOME": str(project),
        }
        done = subprocess.run(
            ["dg", *arguments], cwd=project, env=os.environ | settings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    dg_("scaffold", "defs", "dagster_strandline.StrandlineSpecComponent", "shop")
    place = package / "defs" / "shop"
    assert "kind: source" in (place / "strandline.yml").read_text()
    for name in ("shop.db", "strandline.yml"):
        (place / name).write_bytes((shop / name).read_bytes())
    (place / "defs.yaml").write_text(
        "type: dagster_strandline.StrandlineSpecComponent\nattributes:\n  spec: strandline.yml\n  retries: 2\n"
        '  translation:\n    key: "raw/{{ table.stored }}"\n    tags: {table: "{{ table.name }}"}\n'
    )
    dg_("utils", "refresh-defs-state")
    dg_("check", "yaml")
    dg_("check", "defs")
    listed = json.loads(dg_("list", "defs", "--json"))
    assert {one["asset_key"] for one in listed["assets"]} == {"raw/customers", "raw/all_orders"}


def test_a_run_that_is_terminated_ends_after_a_commit(functions):
    """As Dagster's launcher ends the process of a run: by an exception in its main thread."""
    (functions / "endless").touch()
    script = (
        "import sys, dagster as dg\n"
        "from pathlib import Path\n"
        "from dagster._utils.interrupts import capture_interrupts\n"
        "from dagster_strandline import StrandlineSpecComponent\n"
        "one = StrandlineSpecComponent(spec=sys.argv[1], select=['slow'])\n"
        "one.write_state_to_path(Path('state'))\n"
        "assets = one.build_defs_from_state(None, Path('state')).assets\n"
        "with capture_interrupts():\n"
        "    result = dg.materialize([a for a in assets if a.node_def.name.endswith('shop')], raise_on_error=False)\n"
        "print('success', result.success)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, functions / "strandline.yml"], cwd=functions, stderr=subprocess.PIPE, text=True
    )
    while not (functions / "begun").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    (line,) = (functions / ".cq" / "runs" / "runs.jsonl").read_text().splitlines()
    assert json.loads(line)["stopped_by"] == "SIGTERM"
