"""What `strandline doctor` finds on real PostgreSQL servers, and that what it says to do fixes it."""

import contextlib
import logging

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from services.postgresql import PostgreSQLServer, programs
from strandline import logs
from strandline.cli import main
from strandline.connectors.postgresql import probes as postgresql_probes
from strandline.connectors.postgresql import source_probes
from strandline.plugins import load_plugin
from strandline.probe import Verdict

ORDERS = (
    "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
    "CREATE INDEX ON orders (at)",
    "INSERT INTO orders (id) VALUES (1)",
)


@pytest.fixture(scope="module")
def durable():
    """A server that keeps what it commits."""
    if programs() is None:
        pytest.skip("LOUD: no PostgreSQL server is installed; on Debian: apt-get install postgresql")
    server = PostgreSQLServer(durable=True)
    try:
        yield server.create()
    finally:
        server.remove()


@pytest.fixture
def limited(postgresql, postgresql_server):
    """The connection string of a role that was granted nothing; the role is dropped with the database's objects."""
    database = psycopg.conninfo.conninfo_to_dict(postgresql)["dbname"]
    role = f"r_{database}"
    execute(postgresql, f'CREATE ROLE "{role}" LOGIN', f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
    execute(
        postgresql, f'GRANT CONNECT ON DATABASE "{database}" TO "{role}"', "REVOKE ALL ON SCHEMA public FROM PUBLIC"
    )
    yield make_conninfo(postgresql, user=role)
    execute(postgresql, f'REASSIGN OWNED BY "{role}" TO postgres', f'DROP OWNED BY "{role}"')
    postgresql_server.execute(f'DROP ROLE "{role}"')


def execute(uri, *statements):
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def destination(uri, **settings):
    cls = load_plugin("destination", "postgresql")
    return bad(cls(cls.Spec(connection_string=uri, **settings)))


def source(uri, *, primary=None, **orders):
    cls = load_plugin("source", "postgresql")
    tables = {"orders": orders} if orders else {}
    return bad(cls(cls.Spec(connection_string=uri, primary_connection_string=primary, tables=tables)))


def bad(opened):
    """What is not ok, by subject."""
    with contextlib.closing(opened):
        probes = list(opened.probes())
    assert all(probe.fix for probe in probes if probe.verdict is not Verdict.OK)
    return {probe.subject: probe for probe in probes if probe.verdict is not Verdict.OK}


def is_empty(uri):
    with psycopg.connect(uri) as connection:
        return connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname <> ALL ('{pg_catalog,information_schema}')"
        ).fetchone() == (0,)


class TestDestination:
    def test_a_durable_server_has_nothing_wrong_and_is_left_as_it_was(self, durable):
        uri = durable.create_database("sound")
        assert destination(uri) == {}
        assert destination(uri, schema="new") == {}
        assert is_empty(uri)

    def test_a_server_that_may_lose_commits(self, postgresql):
        found = {one.found.split(":")[0]: one.verdict for one in destination_probes(postgresql, "public")}
        assert found["fsync = off"] is Verdict.PROBLEM
        assert found["full_page_writes = off"] is Verdict.WARNING

    @pytest.mark.parametrize("schema", ["public", "new"])
    def test_missing_rights_are_granted_by_what_it_says(self, postgresql, limited, schema):
        rights = [one for one in destination_probes(limited, schema) if one.subject == "rights"]
        assert [one.verdict for one in rights] == [Verdict.PROBLEM, Verdict.PROBLEM]
        execute(postgresql, *(one.fix for one in rights))
        assert "rights" not in destination(limited, schema=schema)
        assert is_empty(postgresql)

    def test_states_that_belong_to_another_role(self, postgresql, limited):
        execute(postgresql, "GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC", "CREATE TABLE cq_state (a int)")
        found = [one.found for one in destination_probes(limited, "public")]
        assert "table cq_state, which keeps the states, belongs to role postgres" in found

    def test_a_role_whose_transactions_are_read_only(self, postgresql):
        uri = make_conninfo(postgresql, options="-c default_transaction_read_only=on")
        assert destination(uri)["writes"].verdict is Verdict.PROBLEM

    def test_commits_that_are_not_waited_for_are_overruled(self, durable):
        uri = make_conninfo(durable.create_database("lazy"), options="-c synchronous_commit=off")
        cls = load_plugin("destination", "postgresql")
        (said,) = [one for one in cls(cls.Spec(connection_string=uri)).probes() if one.subject == "durability"]
        assert said.verdict is Verdict.OK
        assert "synchronous_commit = off is overruled" in said.found

    def test_few_connections_left(self, postgresql, monkeypatch):
        monkeypatch.setattr(postgresql_probes, "_FREE_FEW", 1_000)
        assert destination(postgresql)["connections"].verdict is Verdict.WARNING


def destination_probes(uri, schema):
    cls = load_plugin("destination", "postgresql")
    return list(cls(cls.Spec(connection_string=uri, schema=schema)).probes())


class TestSource:
    def test_a_sound_server(self, durable):
        uri = durable.create_database("origin")
        execute(uri, *ORDERS)
        assert source(uri) == {}
        assert source(uri, incremental_key="at") == {}

    def test_a_role_that_may_not_see_others(self, postgresql, limited):
        execute(postgresql, *ORDERS, "GRANT USAGE ON SCHEMA public TO PUBLIC", "GRANT SELECT ON orders TO PUBLIC")
        assert "sight" not in source(limited)
        (horizon,) = [one.found for one in source_probe_list(limited) if one.subject == "horizon"]
        assert "is not shown to this role" in horizon
        probe = source(limited, incremental_key="at")["sight"]
        assert probe.verdict is Verdict.WARNING
        execute(postgresql, probe.fix)
        assert "sight" not in source(limited, incremental_key="at")

    def test_sessions_that_do_not_say_when_they_began(self, postgresql):
        execute(postgresql, *ORDERS)
        uri = make_conninfo(postgresql, options="-c track_activities=off")
        assert "track_activities = off" in source(uri, incremental_key="at")["sight"].found

    def test_a_prepared_transaction_is_named_and_its_mend_ends_it(self, postgresql):
        execute(postgresql, *ORDERS)
        database = psycopg.conninfo.conninfo_to_dict(postgresql)["dbname"]
        gid = f"it's {database}"
        quoted = gid.replace("'", "''")
        execute(postgresql, "BEGIN", "UPDATE orders SET at = now()", f"PREPARE TRANSACTION '{quoted}'")
        probe = source(postgresql)["horizon"]
        assert gid in probe.found
        execute(postgresql, probe.fix.rpartition(", or ")[2])
        assert not [one for one in source_probe_list(postgresql) if gid in one.found]

    def test_a_transaction_that_is_left_open_is_named_and_its_mend_ends_it(self, postgresql, monkeypatch):
        monkeypatch.setattr(source_probes, "_LONG_S", 0)
        execute(postgresql, *ORDERS)
        uri = make_conninfo(postgresql, application_name="forgotten")
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(uri) as idle:
            idle.execute("SELECT 1")
            found = {probe.found: probe.fix for probe in source_probe_list(postgresql) if probe.subject == "horizon"}
            (said,) = [one for one in found if "forgotten" in one]
            assert f"pid {idle.info.backend_pid} (forgotten, role postgres, idle in transaction)" in said
            execute(postgresql, found[said].split("; ")[1].removeprefix("or "))
            with pytest.raises(psycopg.OperationalError):
                idle.execute("SELECT 1")

    def test_a_key_without_an_index_that_may_be_null_on_a_big_table(self, postgresql):
        execute(
            postgresql,
            "CREATE TABLE orders (id int PRIMARY KEY, at timestamp(0))",
            "INSERT INTO orders SELECT i, now() FROM generate_series(1, 100000) AS n (i)",
            "ANALYZE orders",
        )
        found = source(postgresql, incremental_key="at", timezone="UTC")
        assert set(found) >= {"index", "nulls", "precision"}
        assert "about 100,000 rows" in found["index"].found
        execute(postgresql, found["index"].fix, found["nulls"].fix.split("; ")[0])
        assert {"index", "nulls"} & set(source(postgresql, incremental_key="at", timezone="UTC")) == set()

    def test_fewer_connections_than_it_may_open(self, postgresql):
        execute(postgresql, *ORDERS)
        cls = load_plugin("source", "postgresql")
        found = bad(cls(cls.Spec(connection_string=postgresql, connections=1_000)))
        assert "`connections` is 1000" in found["connections"].found


def source_probe_list(uri):
    cls = load_plugin("source", "postgresql")
    return list(cls(cls.Spec(connection_string=uri)).probes())


def test_a_standby_takes_no_writes_and_shows_no_transactions(durable):
    execute(durable.uri(), "CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, at timestamptz NOT NULL)")
    standby = durable.standby()
    try:
        assert destination(standby.uri())["writes"].verdict is Verdict.PROBLEM
        by_xid = source(standby.uri())["standby"]
        assert (by_xid.verdict, "hot_standby_feedback = off" in by_xid.found) == (Verdict.WARNING, True)
        cls = load_plugin("source", "postgresql")
        by_key = cls(cls.Spec(connection_string=standby.uri(), tables={"orders": {"incremental_key": "at"}}))
        problems = [one for one in by_key.probes() if one.verdict is Verdict.PROBLEM]
        assert ["primary_connection_string" in one.fix for one in problems] == [True]
        with_primary = source(standby.uri(), primary=durable.uri(), incremental_key="at")["standby"]
        assert with_primary.verdict is Verdict.WARNING
    finally:
        standby.remove()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run ``strandline`` inside this process in an empty directory, and leave it as it was."""
    monkeypatch.chdir(tmp_path)
    root, ours = logging.getLogger(), logging.getLogger("strandline")
    kept = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    monkeypatch.setattr(logs, "_known", logs._Known())
    yield lambda *arguments, **env: CliRunner(env=env).invoke(main, list(arguments), prog_name="strandline")
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = kept
    logging.captureWarnings(capture=False)


def test_a_server_that_does_not_answer_is_said_without_its_password(run, tmp_path):
    (tmp_path / "strandline.yml").write_text("""
kind: source
spec: {name: shop, path: postgresql, destinations: [copy], spec: {connection_string: "${SHOP_URL}"}}
---
kind: destination
spec: {name: copy, path: postgresql, spec: {connection_string: "${SHOP_URL}", schema: copy}}
""")
    done = run("doctor", SHOP_URL="postgresql://me:canary-canary@127.0.0.1:1/shop")
    assert done.exit_code == 1
    assert done.stdout.count("  problem  use: ") == 2
    assert "canary" not in done.output
    assert "Traceback" not in done.output
