"""A project moves its cursors to another backend."""

import itertools
import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.redis import DURABLE, RedisServer, valkey_program
from services.s3 import S3
from strandline.engine.lease import Lease
from strandline.plugins import load_plugin
from strandline.state import RUN_TASK, StateKey

RUN = StateKey("shop", RUN_TASK, "copy")


@pytest.fixture
def settings(postgresql, mysql):
    with RedisServer(valkey_program(), *DURABLE) as server, S3() as s3:
        yield {
            "local": {"path": "kept"},
            "sqlite": {"path": "kept.db"},
            "postgresql": {"connection_string": postgresql},
            "mysql": {"connection_string": mysql},
            "redis": {"url": server.url},
            "objects": {"url": "s3://bucket/states", "options": s3.options},
        }


def spec(cli, name, settings):
    cli.shop(tables={"orders": {"incremental_key": "at"}}, backend=name, backend_spec=settings[name])
    return Path("strandline.yml").rename(f"{name}.yml")


def opened(name, settings):
    cls = load_plugin("state_backend", name)
    return closing(cls(cls.Spec(**settings[name])))


def kept(name, settings):
    with opened(name, settings) as backend:
        return {key: list(backend.history(key)) for key in backend.load("shop")}


def test_cursors_move_from_backend_to_backend_with_their_history(cli, settings):
    cli.sqlite("shop.db", "orders")
    names = ["local", "redis", "objects", "postgresql", "sqlite"]
    first = spec(cli, names[0], settings)
    for number in range(3):
        with closing(sqlite3.connect("shop.db")) as connection, connection:
            connection.execute("INSERT INTO orders (status, at) VALUES ('x', ?)", [f"2026-03-0{number + 1}"])
        assert cli("sync", first).exit_code == 0
    before = kept("local", settings)
    assert len(before) == 2
    for old, new in itertools.pairwise(names):
        done = cli("state", "copy", "shop", f"{old}.yml", "--to", spec(cli, new, settings))
        assert done.exit_code == 0, done.output
        assert kept(new, settings) == before
        assert "there already" in cli("state", "copy", "shop", f"{old}.yml", "--to", f"{new}.yml").stdout
    assert cli("sync", "sqlite.yml").exit_code == 0
    done = cli("state", "copy", "shop", "local.yml", "--to", "sqlite.yml")
    assert done.exit_code == 2
    assert "another state already" in done.stderr


def test_a_chain_of_backends_brings_the_cursors_back_and_no_sync_between_reads_a_row_again(cli, settings, monkeypatch):
    """Into a destination that keeps no states, so that nothing else knows what was read."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "crash" / "doubles")
    settings["home"] = {"path": "home"}

    def named(name):
        source = {
            "name": "shop",
            "path": "files",
            "destinations": ["copy"],
            "spec": {"path": "in/*.csv", "table": "orders"},
        }
        source |= {"backend": "local" if name == "home" else name, "backend_spec": settings[name]}
        plain = {"name": "copy", "path": "plain", "write_mode": "append", "spec": {"path": "plain"}}
        cli.spec(("source", source), ("destination", plain), path=f"{name}.yml")
        return f"{name}.yml"

    def synced(name):
        done = cli("sync", f"{name}.yml", "--summary-location", "summary.jsonl")
        assert done.exit_code == 0, done.output
        ((one,),) = [json.loads(line)["tasks"] for line in Path("summary.jsonl").read_text("utf-8").splitlines()[-1:]]
        return one["rows_read"]

    def lineages(name):
        with opened("local" if name == "home" else name, {"local": settings[name], name: settings[name]}) as backend:
            return {key: list(backend.history(key)) for key in backend.load("shop") if key.task != RUN_TASK}

    Path("in").mkdir()
    names = ["local", "redis", "objects", "postgresql", "mysql", "home"]
    for number, name in enumerate(names):
        named(name)
        if number:
            before = lineages(names[number - 1])
            done = cli("state", "copy", "shop", f"{names[number - 1]}.yml", "--to", f"{name}.yml")
            assert done.exit_code == 0, done.output
            assert lineages(name) == before
            assert synced(name) == 0
            assert [one[0].cursor["shown"] for one in lineages(name).values()] == [
                f"{number} file{'s' * (number > 1)}, {2 * number} rows"
            ]
        Path(f"in/{number}.csv").write_text("id,v\n1,x\n2,y\n", "utf-8")
        os.utime(f"in/{number}.csv", (1_700_000_000, 1_700_000_000))
        assert synced(name) == 2
    ((home,),) = [lineages("home").values()]
    assert len(home) > len(names)


def verdicts(cli):
    found = json.loads(cli("state", "diff", "shop", "--with", "sqlite.yml", "--format", "json").stdout)
    return {one["task"]: one["verdict"] for one in found}


def test_what_two_backends_have_is_compared(cli, settings):
    cli.sqlite("shop.db", "orders", "items")
    cli.shop(tables={"*": {"incremental_key": "at"}}, backend="sqlite", backend_spec=settings["sqlite"])
    Path("strandline.yml").rename("sqlite.yml")
    cli.shop(tables={"*": {"incremental_key": "at"}}, backend="local", backend_spec=settings["local"])
    assert cli("state", "diff", "shop", "--with", "sqlite.yml").exit_code == 2
    assert cli("sync").exit_code == 0
    assert cli("state", "copy", "shop", "--to", "sqlite.yml").exit_code == 0
    assert verdicts(cli) == dict.fromkeys(["orders", "items"], "the same")
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("INSERT INTO orders (status, at) VALUES ('x', '2026-03-01')")
    assert cli("sync", "--select", "orders").exit_code == 0
    assert verdicts(cli) == {"orders": "here is newer", "items": "the same"}
    with closing(sqlite3.connect("kept.db")) as connection, connection:
        connection.execute("DELETE FROM cq_cursors WHERE task = 'items'")
    said = cli("state", "diff", "shop", "--with", "sqlite.yml").stdout
    assert "only here" in said
    assert "2026-03-01" in said
    assert cli("state", "diff", "shop", "orders", "--with", "sqlite.yml", "--from", "1.1").exit_code == 2


def test_an_interrupted_copy_is_gone_on_with(cli, settings):
    cli.sqlite("shop.db", "orders")
    first = spec(cli, "local", settings)
    assert cli("sync", first).exit_code == 0
    spec(cli, "redis", settings)
    before = kept("local", settings)
    with opened("redis", settings) as backend:
        for key, states in before.items():
            backend.save(key, states[-1], expected=None)
    assert cli("state", "copy", "shop", "local.yml", "--to", "redis.yml").exit_code == 0
    assert kept("redis", settings) == before


def test_cursors_are_exported_and_imported(cli, settings):
    cli.sqlite("shop.db", "orders")
    assert cli("sync", spec(cli, "local", settings)).exit_code == 0
    exported = cli("state", "export", "shop", "local.yml").stdout
    Path("cursors.json").write_text(exported, "utf-8")
    done = cli("state", "import", "shop", "cursors.json", spec(cli, "redis", settings))
    assert done.exit_code == 0, done.output
    assert kept("redis", settings) == kept("local", settings)
    body = json.loads(exported)
    body["states"][0][0]["sequence"] += 1
    for number, text in enumerate(["", "[]", "{}", json.dumps(body)]):
        Path(f"wrong{number}.json").write_text(text, "utf-8")
        done = cli("state", "import", "shop", f"wrong{number}.json", "redis.yml")
        assert (done.exit_code, f"wrong{number}.json" in done.stderr) == (3, True), done.output
    assert cli("state", "import", "crm", "cursors.json", "redis.yml").exit_code == 2


def test_nothing_is_copied_while_a_run_goes_on(cli, settings):
    cli.sqlite("shop.db", "orders")
    assert cli("sync", spec(cli, "local", settings)).exit_code == 0
    spec(cli, "redis", settings)
    with opened("local", settings) as backend:
        before, now_us = backend.load("shop")[RUN], int(datetime.now(UTC).timestamp() * 1e6)
        held = before.following(run_id="x", epoch=2, cursor=Lease("x", now_us, now_us, 60.0).cursor)
        backend.save(RUN, held, expected=before.token)
    assert cli("state", "copy", "shop", "local.yml", "--to", "redis.yml").exit_code == 4
    assert kept("redis", settings) == {}


def kept_in(cli, settings):
    cli.spec(
        (
            "source",
            {"name": "shop", "path": "sqlite", "tables": ["*"], "destinations": ["copy"], "spec": {"path": "shop.db"}}
            | {"backend": "destination", "backend_spec": settings},
        ),
        ("destination", {"name": "copy", "path": "files", "write_mode": "append", "spec": {"path": "lake"}}),
        ("destination", {"name": "keeper", "path": "duckdb", "spec": {"path": "keeper.duckdb"}}),
    )


def test_the_states_of_a_source_are_those_in_the_destination_that_its_spec_names(cli):
    cli.sqlite("shop.db", "orders")
    kept_in(cli, {"destination": "keeper"})
    assert cli("sync").exit_code == 0
    assert "shop/orders" in cli("state", "list").stdout
    Path("keeper.duckdb").unlink()
    assert "shop/orders" not in cli("state", "list").stdout


def test_cursors_are_not_copied_beside_the_rows_of_a_destination(cli):
    """Its own states are of its own rows, and nobody else's."""
    cli.sqlite("shop.db", "orders")
    kept_in(cli, {})
    assert cli("sync").exit_code == 0
    Path("cursors.json").write_text(cli("state", "export", "shop").stdout, "utf-8")
    before = cli("state", "history", "shop", "orders", "--format", "json").stdout
    done = cli("state", "import", "shop", "cursors.json")
    assert (done.exit_code, "beside" in done.stderr) == (2, True), done.output
    assert cli("state", "history", "shop", "orders", "--format", "json").stdout == before
