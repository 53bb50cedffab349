"""The operator in the real Airflow, by `dag.test()`: SQLite and Python functions into DuckDB."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from airflow.models.asset import AssetEvent
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.sdk import DAG, Asset, AssetAlias
from airflow.utils.session import create_session

from conftest import HOME
from strandline_provider.operators.sync import StrandlineSyncOperator, shards

SECRET = "s3cret-of-the-shop"

SPEC = """\
kind: source
spec:
  name: shop
  path: sqlite
  destinations: [warehouse]
  backend: destination
  spec: {path: "${SHOP:-shop.db}"}
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
    yield [{"id": 1}]

@sl.table(primary_key="id")
def bad():
    if Path("broken").exists():
        raise RuntimeError("401 for " + os.environ["TOKEN"])
    yield [{"id": 1}]

@sl.table(primary_key="id")
def slow(cursor):
    for n in range(100 if Path("endless").exists() else 1):
        yield [{"id": n}]
        yield sl.checkpoint({"n": n})
        Path("begun").touch()
        time.sleep(0.2 if Path("endless").exists() else 0)
"""

FUNCTIONS = """\
kind: source
spec: {name: ours, registry: python, path: ours, destinations: [warehouse], backend: destination}
---
kind: destination
spec: {name: warehouse, path: duckdb, spec: {path: warehouse.duckdb, threads: "${TOKEN_COUNT:-1}"}}
---
kind: source
spec: {name: other, path: sqlite, destinations: [warehouse], names: "other_{table}", spec: {path: "${TOKEN}.db"}}
"""


@pytest.fixture
def shop(tmp_path):
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
    (shop / "ours.py").write_text(TABLES)
    (shop / "strandline.yml").write_text(FUNCTIONS.replace(', threads: "${TOKEN_COUNT:-1}"', ""))
    (shop / f"{SECRET}.db").write_bytes((shop / "shop.db").read_bytes())
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield shop
    sys.modules.pop("ours", None)


class Ran:
    """What became of a run of a DAG, by its tasks."""

    def __init__(self, run):
        with create_session() as session:
            ours = {"dag_id": run.dag_id, "run_id": run.run_id}
            self.tasks = {(one.task_id, one.map_index): one for one in session.query(TaskInstance).filter_by(**ours)}
            events = session.query(AssetEvent).filter_by(source_dag_id=run.dag_id, source_run_id=run.run_id)
            self.events = {(one.asset.name, one.source_map_index): one.extra for one in events}
            self.xcoms = [one.value for one in session.query(XComModel).filter_by(**ours)]
        self.states = {f"{name}{'' if index < 0 else index}": one.state for (name, index), one in self.tasks.items()}


@pytest.fixture
def ran(request):
    """Run a DAG that is in no file, once."""
    name = request.node.name.replace("[", "-").replace("]", "")
    (HOME / "dags" / "dag_of_the_test.py").write_text(
        "from airflow.sdk import DAG\nfrom airflow.providers.standard.operators.empty import EmptyOperator\n"
        f"with DAG({name!r}, schedule=None):\n    EmptyOperator(task_id='sync')\n"
    )

    def run(mapped=None, **settings):
        with DAG(name, schedule=None) as dag:
            if mapped is not None:
                StrandlineSyncOperator.partial(task_id="sync", **settings).expand(**mapped)
            else:
                StrandlineSyncOperator(task_id="sync", **settings)
        return Ran(dag.test())

    return run


def rows(directory, table):
    with duckdb.connect(str(directory / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.sql(f'SELECT count(*) FROM "{table}"').fetchall()[0][0]


def test_a_sync_is_told_as_an_event_of_each_table(shop, ran):
    first = ran(spec=str(shop / "strandline.yml"))
    assert first.states == {"sync": "success"}
    assert {name for name, _ in first.events} == {
        "strandline://warehouse/shop/customers",
        "strandline://warehouse/shop/all_orders",
    }
    told = first.events["strandline://warehouse/shop/all_orders", -1]
    assert (told["rows_read"], told["rows_written"], told["cursor_from"]) == (2, 2, "–")
    assert "2026-01-02" in told["cursor_to"]
    assert "committed together" in told["delivery"]
    second = ran(spec=str(shop / "strandline.yml")).events["strandline://warehouse/shop/all_orders", -1]
    assert (second["rows_read"], second["cursor_from"]) == (1, told["cursor_to"])
    assert "all_orders" not in str(first.xcoms)
    assert '"name": "orders"' in str(first.xcoms) or "'name': 'orders'" in str(first.xcoms)
    assert rows(shop, "all_orders") == 2
    assert Path.cwd() != shop


def test_shards_are_mapped(shop, ran):
    done = ran(spec=str(shop / "strandline.yml"), wait_lock="5m", mapped={"shard": shards(2)})
    assert shards(2) == ["0/2", "1/2"]
    assert done.states == {"sync0": "success", "sync1": "success"}
    assert {name.rpartition("/")[2] for name, _ in done.events} == {"customers", "all_orders"}
    assert {extra["shard"] for extra in done.events.values()} <= {"0/2", "1/2"}
    assert rows(shop, "customers") == 1


def test_outlets_are_told_by_their_names_and_uris_are_what_is_said(shop, ran):
    own = Asset(name="orders", uri="duckdb://warehouse/all_orders")
    (HOME / "dags" / "own.py").write_text(
        "from airflow.sdk import DAG, Asset\nfrom airflow.providers.standard.operators.empty import EmptyOperator\n"
        "with DAG('own', schedule=[Asset(name='orders', uri='duckdb://warehouse/all_orders')]):\n    EmptyOperator(task_id='a')\n"
    )
    done = ran(
        spec=str(shop / "strandline.yml"), outlets=[own, AssetAlias("shop")], asset_uri="duckdb://{destination}/{table}"
    )
    (HOME / "dags" / "own.py").unlink()
    assert {name for name, _ in done.events} == {"orders", "duckdb://warehouse/customers"}
    assert done.events["orders", -1]["rows_read"] == 2


def test_fields_are_templates(shop, ran):
    done = ran(
        spec=f"{shop}/{{{{ 'strand' }}}}line.yml",
        select=["{{ 'cust' }}omers"],
        env={"SHOP": "{{ 'shop' }}.db"},
        cwd=f"{shop}/{{{{ '' }}}}",
        asset_uri="",
    )
    assert done.states == {"sync": "success"}
    assert done.events == {}
    assert rows(shop, "customers") == 1
    with pytest.raises(duckdb.CatalogException):
        rows(shop, "all_orders")
    assert "SHOP" not in os.environ


def test_a_connection_is_a_variable_and_no_secret_is_shown(shop, ran, monkeypatch, capfd):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"sqlite://user:{SECRET}@/none")
    done = ran(spec=str(shop / "strandline.yml"), connections={"SHOP": "shop"}, retries=1, retry_delay=0)
    assert done.states == {"sync": "failed"}
    shown = "".join(capfd.readouterr())
    assert "***" in shown
    assert SECRET not in shown
    assert "SHOP" not in os.environ


def test_a_table_that_fails_fails_the_task_with_the_summary(functions, ran, capfd):
    (functions / "broken").touch()
    done = ran(spec=str(functions / "strandline.yml"), sources="ours", select=["good", "bad"], env={"TOKEN": SECRET})
    assert done.states == {"sync": "failed"}
    assert done.events == {}
    assert rows(functions, "good") == 1
    shown = "".join(capfd.readouterr()) + logs()
    assert "401 for ***" in shown
    assert "1 of 2 tasks completed" in shown
    assert SECRET not in shown + str(done.xcoms)
    (functions / "broken").unlink()
    again = ran(spec=str(functions / "strandline.yml"), sources="ours", select=["good", "bad"], env={"TOKEN": SECRET})
    assert again.states == {"sync": "success"}
    assert SECRET not in "".join(capfd.readouterr()) + logs() + str(again.xcoms) + str(again.events)


def logs():
    return "".join(path.read_text("utf-8") for path in (HOME / "logs").rglob("*.log") if path.is_file())


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"select": "nothing"}, "failed"),
        ({"cwd": "/nowhere"}, "failed"),
        ({}, "up_for_retry"),
        ({"skip_if_locked": True}, "skipped"),
    ],
    ids=["spec", "directory", "lock", "skipped"],
)
def test_only_what_may_pass_is_tried_again(shop, ran, settings, state, monkeypatch):
    seen = []
    from airflow.sdk.execution_time import task_runner

    run = task_runner.run

    def spied(ti, *arguments, **named):
        result = run(ti, *arguments, **named)
        seen.append(str(result[0].value if hasattr(result[0], "value") else result[0]))
        if seen[-1] == "up_for_retry":
            holder.kill()
        return result

    monkeypatch.setattr(task_runner, "run", spied)
    monkeypatch.setattr("airflow.sdk.definitions.dag.run", spied, raising=False)
    holder = hold(shop)
    try:
        done = ran(spec=str(shop / "strandline.yml"), retries=1, retry_delay=0, **settings)
    finally:
        holder.kill()
        holder.wait()
    assert done.states["sync"] in {state, "success"}
    tried = done.tasks["sync", -1].try_number
    assert tried == (2 if state == "up_for_retry" else 1)


def hold(directory):
    """A process that has the DuckDB file open."""
    code = "import duckdb, time; c = duckdb.connect('warehouse.duckdb'); print('open', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=directory, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "open"
    return process


def test_what_kills_a_task_ends_its_sync_after_a_commit(functions):
    (functions / "endless").touch()
    script = (
        "import signal, sys\n"
        "from strandline_provider.operators.sync import StrandlineSyncOperator\n"
        "one = StrandlineSyncOperator(task_id='sync', spec=sys.argv[1], sources='ours', select='slow', env={'TOKEN': sys.argv[2]})\n"
        "signal.signal(signal.SIGTERM, lambda *_: one.on_kill())\n"  # as Airflow's runner of tasks does
        "from airflow.sdk.bases.operator import ExecutorSafeguard\n"
        "ExecutorSafeguard.test_mode = True\n"
        "one.execute({})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, functions / "strandline.yml", SECRET],
        cwd=functions,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (functions / "begun").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=120)
    assert "it was stopped" in shown
    assert SECRET not in shown
    (line,) = (functions / ".cq" / "runs" / "runs.jsonl").read_text().splitlines()
    assert json.loads(line)["stopped_by"] == "SIGTERM"


def test_airflow_lists_the_provider():
    done = subprocess.run(
        ["airflow", "providers", "get", "airflow-provider-strandline"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "0.1.0" in done.stdout


def test_the_operator_is_imported_without_what_it_needs_to_sync():
    code = (
        "import sys; import strandline_provider.operators.sync; "
        "print({'strandline.api', 'pyarrow', 'duckdb'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
