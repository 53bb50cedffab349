"""`strandline init`: the spec that it writes works as it is, proposes no key that loses rows, and holds no password."""

import io
import json
import logging
import os
import pty
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import obstore
import psycopg
import pyarrow.parquet as pq
import pytest
import requests
from click.testing import CliRunner
from obstore.store import S3Store
from psycopg.conninfo import conninfo_to_dict

from services.s3 import S3
from strandline import logs
from strandline.cli import main
from strandline.spec import load

NOW = "strftime('%Y-%m-%d %H:%M:%S', 'now', '-1 hour')"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(work, monkeypatch):
    """Run ``strandline`` inside this process, and leave it as it was."""
    root, ours = logging.getLogger(), logging.getLogger("strandline")
    kept = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    monkeypatch.setattr(logs, "_known", logs._Known())
    yield lambda *arguments, **env: CliRunner(env=env).invoke(main, list(map(str, arguments)), prog_name="strandline")
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = kept
    logging.captureWarnings(capture=False)


@pytest.fixture
def drafted(run):
    """Init: the text of the spec."""

    def drafted(source, destination="warehouse.duckdb", **environment):
        done = run("init", "--from", source, "--to", destination, **environment)
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        return Path("strandline.yml").read_text("utf-8")

    return drafted


@pytest.fixture
def synced(run, drafted):
    """Init, then sync: the text of the spec."""

    def synced(source, destination="warehouse.duckdb", **environment):
        text = drafted(source, destination, **environment)
        assert run("sync", **environment).exit_code == 0
        assert run("sync", **environment).exit_code == 0
        return text

    return synced


def shop(*statements, path="shop.db"):
    with closing(sqlite3.connect(path)) as file, file:
        for statement in statements:
            file.execute(statement)
    return path


def proposed():
    """The settings of tables in the spec that was written."""
    (source,) = load(["strandline.yml"]).sources
    return {name: settings for name, settings in source.table_settings.items() if settings}


def uncommented(text):
    """What is written as a comment, ready to be used, becomes a setting."""
    lines = text.splitlines()
    begin = next(at for at, line in enumerate(lines) if line == "  table_settings:")
    return "\n".join(
        line.replace("# ", "", 1) if at > begin and line.lstrip().startswith("# ") else line
        for at, line in enumerate(lines)
    )


def stored(table, path="warehouse.duckdb"):
    with duckdb.connect(path) as file:
        return file.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]


ORDERS = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, created_at TEXT, updated_at TEXT NOT NULL)",
    "CREATE INDEX orders_updated ON orders (updated_at)",
    f"INSERT INTO orders (created_at, updated_at) VALUES ('2026-01-01 00:00:00', {NOW}), ({NOW}, {NOW})",
)


class TestSQLite:
    def test_it_works_as_it_is(self, synced):
        text = synced(shop(*ORDERS, "CREATE TABLE log (line TEXT)", "INSERT INTO log VALUES ('a'), ('a')"))
        assert text.splitlines()[0] == "# yaml-language-server: $schema=.cq/schema.json"
        assert (stored("orders"), stored("log")) == (2, 2)
        assert json.loads(Path(".cq/schema.json").read_text())["title"] == "Strandline spec"

    def test_a_column_that_changes_have_set_is_the_key_and_deletes_are_swept(self, drafted):
        drafted(shop(*ORDERS))
        assert proposed() == {"orders": {"incremental_key": "updated_at", "lag": "1m", "deletes": "sweep"}}

    def test_a_change_and_a_delete_arrive_with_the_next_sync(self, run, synced):
        synced(shop(*ORDERS))
        shop("DELETE FROM orders WHERE id = 1", f"INSERT INTO orders VALUES (9, {NOW}, datetime('now'))")
        shop("UPDATE orders SET updated_at = datetime('now') WHERE id = 2")
        assert run("sync").exit_code == 0
        with duckdb.connect("warehouse.duckdb") as file:
            assert file.execute("SELECT id FROM orders ORDER BY id").fetchall() == [(2,), (9,)]

    def test_a_trigger_that_sets_it_is_proof(self, synced):
        synced(
            shop(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, modified INTEGER DEFAULT (strftime('%s', 'now')))",
                "CREATE INDEX i ON t (modified)",
                "CREATE TRIGGER g AFTER UPDATE ON t BEGIN UPDATE t SET modified = strftime('%s', 'now') WHERE id = NEW.id; END",
                "INSERT INTO t (id) VALUES (1)",
            )
        )
        assert proposed() == {"t": {"incremental_key": "modified", "deletes": "sweep"}}

    @pytest.mark.parametrize(
        ("columns", "row", "why"),
        [
            ("id INTEGER PRIMARY KEY, updated_at TEXT", "1, NULL", "no values yet"),
            ("id INTEGER PRIMARY KEY, updated_at TEXT", f"1, {NOW}), (2, NULL", "NULL in some rows"),
            ("id INTEGER PRIMARY KEY, updated_at TEXT", "1, '2999-01-01'", "no times up to now"),
            ("id INTEGER PRIMARY KEY, updated_at TEXT", "1, 'soon'", "no times up to now"),
            ("id INTEGER PRIMARY KEY, updated INTEGER", "1, 1", "no times up to now"),
            ("id INTEGER, updated_at TEXT", f"1, {NOW}", "no primary key"),
            (f"id INTEGER PRIMARY KEY, updated_at TEXT DEFAULT ({NOW})", f"1, {NOW}", "nothing shows that changes do"),
            ("id INTEGER PRIMARY KEY, updated_at TEXT, created_at TEXT", f"1, {NOW}, {NOW}", "later than created_at"),
            (
                "id INTEGER PRIMARY KEY, updated_at TEXT, created_at TEXT",
                f"1, {NOW}, date({NOW})",
                "later than created_at",
            ),
            (
                "id INTEGER PRIMARY KEY, mtime INTEGER, ctime INTEGER",
                "1, 1750000000999, 1750000000000",
                "later than ctime",
            ),
        ],
    )
    def test_a_column_that_may_miss_changes_is_only_a_comment(self, drafted, columns, row, why):
        key = columns.split(", ")[1].split()[0]
        text = drafted(
            shop(f"CREATE TABLE t ({columns})", f"CREATE INDEX i ON t ({key})", f"INSERT INTO t VALUES ({row})")
        )
        assert proposed() == {}
        if why != "no primary key":
            assert re.search(f"#   incremental_key: {key} +# would read less, but ", text)
        assert why in text

    def test_times_in_milliseconds_that_were_changed_later(self, synced):
        shop("CREATE TABLE t (id INTEGER PRIMARY KEY, mtime INTEGER, ctime INTEGER)", "CREATE INDEX i ON t (mtime)")
        synced(shop("INSERT INTO t VALUES (1, 1750000099000, 1750000000000)"))
        assert proposed()["t"]["incremental_key"] == "mtime"

    def test_an_id_that_only_grows_is_no_proof_that_rows_are_never_changed(self, drafted):
        text = drafted(
            shop("CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, v)", "INSERT INTO log (v) VALUES (1)")
        )
        assert proposed() == {}
        assert re.search(
            "#   incremental_key: id +# would read only new rows; right only where rows are never changed", text
        )

    def test_without_an_index_a_key_is_proposed_and_what_an_index_saves(self, run, synced):
        earlier = "UPDATE orders SET updated_at = '2026-02-02 00:00:00' WHERE id = 1"
        text = synced(shop(*ORDERS, "DROP INDEX orders_updated", earlier))
        assert proposed()["orders"]["incremental_key"] == "updated_at"
        assert 'CREATE INDEX "orders_updated_at" ON "orders" ("updated_at")' in text
        shop("UPDATE orders SET updated_at = datetime('now') WHERE id = 2")
        assert "1 task completed: 1 row read" in run("sync").stdout

    def test_a_key_with_an_index_comes_before_one_without(self, drafted):
        drafted(
            shop(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, changed TEXT, updated_at TEXT)",
                "CREATE INDEX i ON t (updated_at)",
                f"INSERT INTO t VALUES (1, {NOW}, {NOW})",
            )
        )
        assert proposed()["t"]["incremental_key"] == "updated_at"

    def test_what_is_a_comment_is_ready_to_be_used(self, run):
        shop(
            *ORDERS,
            "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
            "CREATE TABLE loose (id INTEGER PRIMARY KEY, price DECIMAL(10, 2), updated_at TEXT)",
            "CREATE TABLE log (line TEXT)",
            'CREATE TABLE "it\'s: a #" (k TEXT PRIMARY KEY)',
            "CREATE VIEW seen AS SELECT id, updated_at FROM orders",
            "INSERT INTO events (v) VALUES (1)",
            f"INSERT INTO loose VALUES (1, 1.5, {NOW}), (2, 1.005, NULL)",
        )
        assert run("init", "--from", "shop.db", "--to", "warehouse.duckdb").exit_code == 0
        text = Path("strandline.yml").read_text("utf-8")
        assert proposed().keys() == {"orders"}
        Path("strandline.yml").write_text(uncommented(text), "utf-8")
        assert proposed() == {
            "orders": proposed()["orders"],
            "events": {"incremental_key": "id"},
            "loose": {"incremental_key": "updated_at", "types": {"price": "double"}},
            "seen": {"primary_key": ["id"]},
        }
        assert run("sync").exit_code == run("sync").exit_code == 0

    def test_a_table_too_large_to_be_looked_at_is_read_in_full(self, drafted):
        text = drafted(shop(*ORDERS, "DROP INDEX orders_updated", f"INSERT INTO orders VALUES (3000000, {NOW}, {NOW})"))
        assert proposed() == {}
        assert "too large to be looked at" in text

    @pytest.mark.parametrize(
        "name", ["updatedAt", "last_modified", "MODIFIED_ON", "change_date", "last_update", "row_updated_at_utc"]
    )
    def test_many_names_say_when_a_row_was_changed(self, drafted, name):
        drafted(shop(*(one.replace("updated_at", name) for one in ORDERS)))
        assert proposed()["orders"]["incremental_key"] == name

    @pytest.mark.parametrize("name", ["created_at", "updated_by", "id", "due_at", "changes", "version"])
    def test_other_columns_are_no_candidates(self, drafted, name):
        first = "id INTEGER PRIMARY KEY" if name != "id" else "k INTEGER PRIMARY KEY"
        text = drafted(
            shop(
                f"CREATE TABLE log ({first}, {name} TEXT)",
                f"CREATE INDEX i ON log ({name})",
                f"INSERT INTO log VALUES (1, {NOW})",
            )
        )
        assert "incremental_key" not in text

    def test_a_trigger_that_sets_it_for_some_rows_is_no_proof(self, drafted):
        drafted(
            shop(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, s INT, updated_at TEXT DEFAULT CURRENT_TIMESTAMP)",
                "CREATE INDEX i ON t (updated_at)",
                "CREATE TRIGGER g AFTER UPDATE OF s ON t BEGIN UPDATE t SET updated_at = 1 WHERE id = NEW.id; END",
                f"INSERT INTO t VALUES (1, 1, {NOW})",
            )
        )
        assert proposed() == {}

    def test_names_that_yaml_would_take_for_something_else(self, synced):
        names = ["yes", "1", "a: b #c", "it's", '"q"', "{x}", "- é", "null", "*", "a\tb", "tab\nle"]
        statements = [
            part.replace("orders", '"' + name.replace('"', '""') + '"').replace('"_updated', f'_{number}"', 1)
            for number, name in enumerate(names)
            for part in (
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, updated_at TEXT NOT NULL)",
                f"CREATE INDEX i{number} ON orders (updated_at)",
                f"INSERT INTO orders VALUES (1, {NOW})",
            )
        ]
        synced(shop(*statements))
        assert sorted(proposed()) == sorted(names)

    def test_what_it_prints(self, run):
        shop(*ORDERS, "CREATE TABLE log (line TEXT)")
        done = run("init", "--from", "shop.db", "--to", "out.duckdb", "--name", "web")
        assert done.stdout == (
            "wrote strandline.yml: web (sqlite) → out (duckdb), overwrite-delete-stale\n"
            "\n"
            "  TABLE   ROWS  KEY         CLASS\n"
            "  log        0  -           full read\n"
            "  orders     2  updated_at  settled (single writer)\n"
            "\n"
            "next: strandline plan shows what a sync would do; strandline sync does it\n"
        )

    def test_a_spec_elsewhere_finds_its_files(self, run, work):
        shop(*ORDERS)
        (work / "below").mkdir()
        done = run("init", "--from", "shop.db", "--to", "out.duckdb", "--output", "below/my spec.yml")
        assert "next: strandline plan 'below/my spec.yml'" in done.stdout
        assert run("sync", "below/my spec.yml").exit_code == 0
        assert stored("orders", "out.duckdb") == 2


class TestPlaces:
    @pytest.mark.parametrize(
        ("source", "destination"),
        [
            ("shop.db", "copy.sqlite"),
            ("sqlite:///shop.db", "duckdb:///copy.duckdb"),
            ("sqlite:///{work}/shop.db", "sqlite:///{work}/copy.db"),
            ("sqlite:////{work}/shop.db", "duckdb:////{work}/copy.duckdb"),
        ],
    )
    def test_databases_in_files(self, synced, work, source, destination):
        shop(*ORDERS)
        synced(source.format(work=str(work).lstrip("/")), destination.format(work=str(work).lstrip("/")))
        assert len(list(work.glob("copy.*"))) == 1

    def test_a_database_is_known_by_its_content(self, synced):
        synced(shop(*ORDERS, path="data.bin"))

    @pytest.mark.parametrize("source", ["files:///data", "data", "data/", "data/*.csv", "data/a.csv"])
    def test_files(self, synced, work, source):
        (work / "data").mkdir()
        (work / "data" / "a.csv").write_text("id,name\n1,x\n2,y\n")
        text = synced(source)
        assert stored("a") == 2
        assert "write_mode: append" in text

    def test_a_directory_of_many_formats_from_init_to_a_second_sync(self, run, synced, work):
        (work / "data").mkdir()
        for name, text in {
            "orders.csv": "id,price,updated_at\n1,1.5,2026-01-01\n2,2.5,2026-01-02\n",
            "items.tsv": "id\tname\n1\ta\n",
            "parts.psv": "id|name\n1|a\n",
            "preise.csv": "id;preis\n1;1,5\n",
            "events.jsonl": '{"id": 1}\n',
            "doc.json": '[{"id": 1}]',
            "README.txt": "read me",
        }.items():
            (work / "data" / name).write_text(text)
        done = run("init", "--from", "data", "--to", "warehouse.duckdb")
        assert done.exit_code == 0
        assert done.stderr.count("README.txt") == 1
        assert "note: README.txt: of no format that is known" in done.stdout
        text = (work / "strandline.yml").read_text()
        assert all(f"CSV with {what} between values" in text for what in ("a comma", "a semicolon", "a tab", "a bar"))
        assert run("sync").exit_code == 0
        (work / "data" / "more").mkdir()
        (work / "data" / "more" / "1.csv").write_text("id\n7\n")
        assert "1 row read" in run("sync").stdout
        (work / "strandline.yml").write_text(uncommented(text))
        orders = {"primary_key": ["id"], "incremental_key": "updated_at", "types": {"price": "decimal(18, 4)"}}
        assert proposed()["orders"] == orders
        assert run("plan", "--full-refresh", "*").exit_code == 0

    @pytest.mark.parametrize("destination", ["lake/", "files:///lake", "file://{work}/lake"])
    def test_files_are_written_into_a_directory(self, synced, work, destination):
        shop(*ORDERS)
        assert "path: files" in synced("shop.db", destination.format(work=work))
        assert list((work / "lake" / "orders").glob("*.parquet"))

    @pytest.mark.parametrize("destination", ["out.parquet", "lake/*.csv", "files:///out.jsonl.gz"])
    def test_a_destination_that_names_files_is_a_usage_error(self, run, work, destination):
        shop(*ORDERS)
        done = run("init", "--from", "shop.db", "--to", destination)
        assert done.exit_code == 2
        assert "directory" in done.stderr
        assert [path.name for path in work.iterdir()] == ["shop.db"]

    def test_generated_rows(self, synced):
        synced("test://")

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("mysql://me@h/x", "mysql://"),
            ("x.txt", "x.txt"),
            ("warehouse.duckdb", "warehouse.duckdb"),
            ("a${b}.db", "begins a variable"),
        ],
    )
    def test_what_cannot_be_read_is_a_usage_error(self, run, work, source, said):
        done = run("init", "--from", source, "--to", "copy.sqlite")
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr
        assert "hint: " in done.stderr
        assert list(work.iterdir()) == []

    def test_a_source_that_is_not_there_writes_nothing(self, run, work):
        assert run("init", "--from", "none.db", "--to", "copy.sqlite").exit_code == 5
        assert list(work.iterdir()) == []

    def test_a_source_without_tables_writes_nothing(self, run, work):
        shop("PRAGMA user_version = 1")
        done = run("init", "--from", "shop.db", "--to", "copy.sqlite")
        assert done.exit_code == 2
        assert "has no tables" in done.stderr
        assert [path.name for path in work.iterdir()] == ["shop.db"]


class TestWriting:
    def test_a_file_that_is_there_stays_unless_forced(self, run, work):
        shop(*ORDERS)
        (work / "strandline.yml").write_text("mine")
        done = run("init", "--from", "shop.db", "--to", "a.duckdb")
        assert (done.exit_code, (work / "strandline.yml").read_text()) == (2, "mine")
        assert "--force" in done.stderr
        done = run("init", "--from", "shop.db", "--to", "a.duckdb", "--force")
        assert (done.exit_code, "kept what was there as strandline.yml.1\n" in done.stdout) == (0, True)
        assert run("validate-config").exit_code == 0
        assert sorted(path.name for path in work.iterdir()) == [".cq", "shop.db", "strandline.yml", "strandline.yml.1"]
        assert run("init", "--from", "shop.db", "--to", "a.duckdb", "--force").exit_code == 0
        assert (work / "strandline.yml.1").read_text() == "mine"
        assert (work / "strandline.yml.2").read_text() == (work / "strandline.yml").read_text()

    @pytest.mark.parametrize(
        "command", ["sync", "plan", "tables", "migrate", "doctor", "validate-config", "test-connection"]
    )
    def test_where_there_is_no_spec_init_is_named(self, run, command):
        done = run(command)
        assert done.exit_code == 2
        assert "there is no strandline.yml here" in done.stderr
        assert "`strandline init` writes one" in done.stderr

    def test_without_a_terminal_it_does_not_ask(self, run):
        done = run("init", "--from", "shop.db")
        assert done.exit_code == 2
        assert "--to is missing" in done.stderr
        assert "hint: for example: strandline init --from " in done.stderr

    def test_on_a_terminal_it_asks_again_until_it_understands(self, work):
        shop(*ORDERS)
        terminal, inner = pty.openpty()
        command = [sys.executable, "-m", "strandline", "init"]
        with subprocess.Popen(
            command, stdin=inner, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            os.close(inner)
            os.write(terminal, b"what\nshop.db\n\n")
            out, err = process.communicate(timeout=60)
        os.close(terminal)
        assert process.returncode == 0, err
        assert "no source plugin is known for 'what'" in err
        assert "shop (sqlite) → warehouse (duckdb)" in out


class TestPostgreSQL:
    @pytest.fixture
    def origin(self, postgresql):
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY, updated_at timestamptz)")
            connection.execute("INSERT INTO orders SELECT i, now() FROM generate_series(1, 3) AS n (i)")
            connection.execute("CREATE TABLE log (line text)")
            connection.execute("CREATE VIEW seen AS SELECT * FROM orders")
        return postgresql

    def test_every_table_with_a_key_is_read_by_xid_without_a_word(self, run, synced, origin):
        text = synced(origin)
        assert proposed() == {}
        assert re.search("# orders: +# 3 rows, settled \\(xid\\)", text)
        assert re.search("# log: +# 0 rows, full read", text)
        assert (stored("orders"), stored("log"), stored("seen")) == (3, 0, 3)

    def test_into_postgresql(self, synced, origin, postgresql_server):
        name = f"{conninfo_to_dict(origin)['dbname']}_copy"
        copy = postgresql_server.create_database(name)
        try:
            synced(origin, copy)
        finally:
            postgresql_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def test_all_schemas_that_have_tables_are_read(self, run, synced, postgresql):
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA sales")
            connection.execute("CREATE TABLE sales.orders (id int PRIMARY KEY)")
            synced(postgresql)
            (source,) = load(["strandline.yml"]).sources
            assert source.spec["schemas"] == ["sales"]
            connection.execute("CREATE TABLE here (id int PRIMARY KEY, amount numeric)")
            connection.execute("CREATE VIEW sales.seen AS SELECT id, now() AS updated_at FROM sales.orders")
            run("init", "--force", "--from", postgresql, "--to", "b.duckdb")
            (source,) = load(["strandline.yml"]).sources
            assert source.spec["schemas"] == ["public", "sales"]
            assert run("sync").exit_code == run("sync").exit_code == 0
            assert (stored("here", "b.duckdb"), stored("sales_orders", "b.duckdb")) == (0, 0)
            text = uncommented(Path("strandline.yml").read_text())
            Path("strandline.yml").write_text(text)
            assert proposed() == {
                "here": {"types": {"amount": "decimal(38, 4)"}},
                "sales.seen": {"primary_key": ["id"], "incremental_key": "updated_at"},
            }
            assert run("plan", "--full-refresh", "*").exit_code == 0

    def test_what_strandline_writes_there_is_not_read(self, run, drafted, postgresql):
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
            connection.execute("CREATE SCHEMA copy")
            connection.execute("CREATE TABLE copy.cq_tables (t text)")
        drafted(postgresql)
        (source,) = load(["strandline.yml"]).sources
        assert "schemas" not in source.spec
        assert "schema copy is written by Strandline" in Path("strandline.yml").read_text()

    def test_a_password_is_neither_written_nor_said(self, run, work, origin):
        uri = origin.replace("postgres@", "postgres:canary-canary@")
        done = run("init", "--from", uri, "--to", "w.duckdb", "--name", "web-shop")
        assert done.exit_code == 0
        text = (work / "strandline.yml").read_text()
        assert "canary" not in text + done.output
        assert "connection_string: ${WEB_SHOP_URL}" in text
        assert "export WEB_SHOP_URL='postgresql://postgres:***@127.0.0.1" in done.stdout
        assert run("sync").exit_code == 2
        assert run("sync", WEB_SHOP_URL=uri).exit_code == 0

    def test_a_variable_that_has_the_uri_already_is_used(self, run, origin):
        uri = origin.replace("postgres@", "postgres:canary-canary@")
        done = run("init", "--from", uri, "--to", "w.duckdb", DATABASE_URL=uri)
        assert "export" not in done.stdout
        assert run("sync", DATABASE_URL=uri).exit_code == 0

    def test_two_passwords_have_two_variables(self, run, work, origin):
        uri = origin.replace("postgres@", "postgres:canary-canary@")
        other = f"{uri}?application_name=x"
        done = run("init", "--from", uri, "--to", other, "--name", conninfo_to_dict(origin)["dbname"])
        assert done.exit_code == 0
        assert done.stdout.count("export ") == 2
        variables = re.findall(r"connection_string: (\S+)", (work / "strandline.yml").read_text())
        assert len(set(variables)) == 2

    @pytest.mark.parametrize(
        "uri", ["mysql://me:canary-canary@host/x", "me:canary-canary@host", "postgres://me:canary-canary@[::x/y"]
    )
    def test_a_uri_that_is_not_understood_is_said_without_its_password(self, run, uri):
        done = run("init", "--from", uri, "--to", "w.duckdb")
        assert done.exit_code == 2
        assert "canary" not in done.output

    def test_a_server_that_does_not_answer_is_said_without_its_password(self, run, work):
        done = run("init", "--from", "postgresql://me:canary-canary@127.0.0.1:1/x", "--to", "w.duckdb")
        assert done.exit_code == 5
        assert "canary" not in done.output
        assert list(work.iterdir()) == []


def test_objects_of_a_store_are_proposed_as_files_are(synced, proposed_objects):
    environment, url = proposed_objects
    text = synced(f"{url}/**/*.csv", **environment)
    assert "path: files" in text
    assert "s3cret-word" not in text
    (source,) = load(["strandline.yml"]).sources
    assert source.spec["path"] == f"{url}/**/*.csv"
    assert "primary_key: [id]" in text
    with duckdb.connect("warehouse.duckdb") as warehouse:
        assert warehouse.sql("SELECT id FROM orders ORDER BY id").fetchall() == [(1,), (2,)]


def test_tables_are_written_into_objects_of_a_store(synced, run, proposed_objects):
    environment, url = proposed_objects
    text = synced(f"{url}/**/*.csv", url.replace("shop", "lake"), **environment)
    assert "s3cret-word" not in text
    words = {name.removeprefix("AWS_").lower(): value for name, value in environment.items()}
    store = S3Store("bucket", client_options={"allow_http": True}, **words)
    (name,) = [one["path"] for some in obstore.list(store, prefix="lake/orders") for one in some]
    rows = pq.read_table(io.BytesIO(obstore.get(store, name).bytes()))
    assert rows["id"].to_pylist() == [1, 2]
    Path("strandline.yml").write_text(text.replace("write_mode: append", "write_mode: overwrite"))
    planned = run("plan", **environment)
    assert planned.exit_code == 2
    assert "files cannot 'overwrite'" in planned.output


@pytest.fixture
def proposed_objects():
    """An environment with credentials, and a URL."""
    with S3() as s3:
        requests.put(f"{s3.endpoint}/bucket/shop/orders/1.csv", data=b"id,v\n1,a\n2,b\n", timeout=10)
        words = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "s3cret-word", "AWS_REGION": "us-east-1"}
        yield words | {"AWS_ENDPOINT_URL": s3.endpoint}, "s3://bucket/shop"
