"""Behind a transaction pooler a session of the server is the application's before and after it is ours for a moment.

Nothing that the application has left there changes a value, and the application notices nothing of a sync.
"""

from contextlib import ExitStack

import psycopg
import pytest
from postgresql_origin import Origin

from services.pgbouncer import PgBouncer, program
from strandline.plugins import load_plugin
from strandline.probe import Verdict

SIZE = 3
LEFT = (
    "SET extra_float_digits = -10",
    "SET intervalstyle = 'postgres'",
    "SET datestyle = 'German, DMY'",
    "SET timezone = 'Asia/Tokyo'",
    "SET bytea_output = 'escape'",
    "SET search_path = 'elsewhere'",
    "SET row_security = off",
    "SET default_transaction_isolation = 'serializable'",
    "SET statement_timeout = '20s'",
    "SET idle_in_transaction_session_timeout = '20s'",
    "SET application_name = 'the application'",
)
NAMES = [one.split()[1] for one in LEFT]
VALUES = (
    "CREATE TABLE t (id int PRIMARY KEY, f float8[], i interval[], b bytea[], z timestamptz, tz timestamptz[], d date[], r regclass)",
    (
        "INSERT INTO t SELECT g, array[g / 3.0], array[interval '1 mon -2 days' * g], array['\\x00ff41'::bytea], "
        "'2024-06-01 12:00+00', array['2024-06-01 12:00+00'::timestamptz], array['2024-02-03'::date], 't' "
        "FROM generate_series(1, 40) AS n(g)"
    ),
)


@pytest.fixture
def bouncer(postgresql_server):
    if program() is None:
        pytest.skip("LOUD: PgBouncer is not installed; on Debian: apt-get install pgbouncer")
    with PgBouncer(postgresql_server, size=SIZE) as started:
        yield started


@pytest.fixture
def database(postgresql):
    return psycopg.conninfo.conninfo_to_dict(postgresql)["dbname"]


@pytest.fixture
def shop(postgresql, bouncer, database):
    """What is executed goes to the server itself, and what is synced comes through the pooler."""

    class Pooled(Origin):
        def source(self):
            self.uri, direct = bouncer.uri(database), self.uri
            try:
                return super().source()
            finally:
                self.uri = direct

    return Pooled(postgresql)


def every_session(bouncer, database, *statements):
    """What the application does in each session of the server; the rows of the last statement."""
    with ExitStack() as stack:
        found = []
        connections = [stack.enter_context(bouncer.connect(database)) for _ in range(SIZE)]
        for connection in connections:
            connection.execute("BEGIN")
            connection.execute("SELECT 1")
        for connection in connections:
            for statement in statements:
                cursor = connection.execute(statement)
            found.append(cursor.fetchall() if cursor.description else None)
        for connection in connections:
            connection.execute("COMMIT")
    return found


def told(bouncer, database):
    asked = ", ".join(f"current_setting('{name}')" for name in NAMES)
    return every_session(bouncer, database, f"SELECT {asked}")


@pytest.mark.parametrize("settings", [{}, {"incremental_key": "id"}, {"mode": "full"}], ids=["xid", "key", "full"])
def test_styles_that_an_application_has_left_change_no_value(shop, bouncer, database, settings):
    shop.tables = {"t": settings}
    shop.execute(*VALUES)
    every_session(bouncer, database, *LEFT)
    shop.sync()
    first = shop.rows("id", "f", "i", "b", "z", "tz", "d", "r")[0]
    assert first[1:4] == ("[0.3333333333333333]", '["P1M-2D"]', '["\\\\x00ff41"]')
    assert str(first[4]) == "2024-06-01 12:00:00+00:00"
    assert first[5:] == ('["2024-06-01T12:00:00+00:00"]', '["2024-02-03"]', "t")
    assert len(shop.ids()) == 40


def test_names_that_an_application_wants_quoted_stop_a_sync_and_say_so(shop, bouncer, database):
    """The driver reads its types by name, and would take numbers for bytes."""
    shop.execute(*VALUES)
    every_session(bouncer, database, "SET quote_all_identifiers = on")
    report = shop.sync(code=5)
    assert "quote_all_identifiers" in report.error.message
    assert "quote_all_identifiers = off" in report.error.hint
    every_session(bouncer, database, "SET quote_all_identifiers = off")
    shop.sync()
    assert len(shop.ids()) == 40


def test_the_application_finds_its_sessions_as_it_left_them(shop, bouncer, database):
    shop.tables = {"t": {}, "u": {"incremental_key": "id"}}
    shop.execute(*VALUES, "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (1)")
    before = told(bouncer, database)
    shop.sync()
    shop.sync()
    assert told(bouncer, database) == before
    assert every_session(bouncer, database, "UPDATE t SET id = id WHERE id < 0 RETURNING id") == [[]] * SIZE


def test_a_role_that_an_application_has_left_hides_no_rows(shop, bouncer, database, postgresql_server):
    role = f"tenant_{database}"
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, owner text)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    shop.execute(
        f"CREATE ROLE {role}",
        f"GRANT SELECT ON t TO {role}",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON t USING (owner = 'x')",
    )
    try:
        every_session(bouncer, database, f"SET ROLE {role}")
        shop.sync()
        assert shop.ids() == [1, 2]
    finally:
        shop.execute(f"DROP OWNED BY {role}")
        postgresql_server.execute(f"DROP ROLE {role}")


def test_tables_that_are_read_in_parallel_do_not_meet_each_others_answers(shop):
    """Each has more rows than another one, and other values; a statement that is prepared apart from its execution meets others'."""
    names = [f"t{n}" for n in range(1, 9)]
    for n, name in enumerate(names, 1):
        shop.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, v text)",
            f"INSERT INTO {name} SELECT i, '{name}' FROM generate_series(1, {n * 10}) AS n(i)",
        )
    for _ in range(3):
        shop.sync(concurrency=8)
        for n, name in enumerate(names, 1):
            assert shop.rows("id", "v", table=name) == [(i, name) for i in range(1, n * 10 + 1)]
            shop.execute(f"UPDATE {name} SET id = id")


@pytest.mark.parametrize(
    "settings", [{}, {"incremental_key": "at"}, {"incremental_key": "id"}], ids=["xid", "cap", "wait"]
)
def test_a_row_that_commits_late_is_not_lost_behind_a_pooler(shop, bouncer, database, settings):
    shop.tables = {"t": settings}
    shop.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT now(), v text)",
        "INSERT INTO t (v) VALUES ('first')",
    )
    shop.sync()
    with bouncer.connect(database) as late:
        late.execute("BEGIN")
        late.execute("INSERT INTO t (v) VALUES ('late')")
        shop.execute("INSERT INTO t (v) VALUES ('soon')")
        shop.sync()
        late.execute("COMMIT")
    shop.sync()
    assert [v for (v,) in shop.rows("v")] == ["first", "late", "soon"]


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("kind", ["source", "destination"])
def test_doctor_names_a_pooler_and_what_it_hands_out(postgresql_server, database, kind, mode):
    cls = load_plugin(kind, "postgresql")
    with PgBouncer(postgresql_server, mode=mode) as started:
        place = cls(cls.Spec(connection_string=started.uri(database)))
        (said,) = [probe for probe in place.probes() if probe.subject == "pooler"]
        place.close()
    keeps_sessions = kind == "destination" and mode == "session"
    assert said.verdict == (Verdict.OK if keeps_sessions else Verdict.WARNING)
    assert ("by the transaction" in said.found) == (mode == "transaction")
    assert bool(said.fix) != keeps_sessions


@pytest.mark.parametrize("kind", ["source", "destination"])
def test_doctor_names_no_pooler_where_there_is_none(postgresql, kind):
    cls = load_plugin(kind, "postgresql")
    place = cls(cls.Spec(connection_string=postgresql))
    assert not [probe for probe in place.probes() if probe.subject == "pooler"]
    place.close()
