"""The state backend ``postgresql``."""

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from raw_states import RawRow

from services.pgbouncer import PgBouncer, program
from strandline.errors import StrandlineError, UsageError
from strandline.plugins import load_plugin
from strandline.probe import Verdict
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state
from strandline.testing.state_parts import PartsCases, PutPart
from strandline.testing.state_raw import Raw

PLUGIN = load_plugin("state_backend", "postgresql")


def opened(connection_string: str, **settings) -> StateBackend:
    return PLUGIN(PLUGIN.Spec(connection_string=connection_string, **settings))


def execute(connection_string: str, *statements: str) -> None:
    with psycopg.connect(connection_string, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def executed(connection_string: str, statement: str) -> list[tuple]:
    with closing(psycopg.connect(connection_string, autocommit=True)) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


class TestPostgreSQLBackend(StateBackendConformance, PartsCases):
    @pytest.fixture
    def reopen(self, postgresql: str) -> Callable[[], StateBackend]:
        return lambda: opened(postgresql, schema="cursors")

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        with closing(reopen()) as backend:
            yield backend

    @pytest.fixture
    def raw(self, postgresql: str) -> Iterator[Raw]:
        def run(*asked):
            cursor = connection.execute(*asked)
            return cursor.fetchall() if cursor.description else []

        with closing(psycopg.connect(postgresql, autocommit=True)) as connection:
            yield RawRow(run, "cursors.cq_cursors", parameter="%s", refuses=(psycopg.DataError,))

    @pytest.fixture
    def parts(self, postgresql: str) -> Callable[[StateKey], set[str]]:
        names = "SELECT token FROM cursors.cq_cursors_history WHERE number < 0 AND task = '{}'"
        return lambda key: {name for (name,) in executed(postgresql, names.format(key.task))}

    @pytest.fixture
    def put_part(self, postgresql: str) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            change = (
                "DELETE FROM cursors.cq_cursors_history"
                if text is None
                else f"UPDATE cursors.cq_cursors_history SET state = '{text}'"
            )
            executed(postgresql, f"{change} WHERE number < 0 AND token = '{name}' AND task = '{key.task}'")

        return put


@pytest.fixture
def pooled(postgresql_server, postgresql):
    if program() is None:
        pytest.skip("LOUD: PgBouncer is not installed; on Debian: apt-get install pgbouncer")
    with PgBouncer(postgresql_server, size=2) as started:
        yield started.uri(psycopg.conninfo.conninfo_to_dict(postgresql)["dbname"])


def test_states_are_kept_through_a_pooler_that_hands_out_sessions_by_the_transaction(pooled, postgresql):
    token = None
    for number in range(1, 30):
        with closing(opened(pooled)) as backend:
            token = backend.save(KEY, example_state(number), expected=token)
    with closing(opened(postgresql)) as direct:
        assert [state.sequence for state in direct.history(KEY)] == list(range(29, 9, -1))
        assert [probe.verdict for probe in direct.probes() if probe.subject == "pooler"] == []
    with closing(opened(pooled)) as backend:
        (said,) = [probe for probe in backend.probes() if probe.subject == "pooler"]
        assert said.verdict is Verdict.OK


def test_what_was_saved_is_durable_though_the_role_does_not_wait_for_commits(postgresql):
    execute(postgresql, "ALTER ROLE CURRENT_USER SET synchronous_commit = off")
    seen = []
    try:
        with closing(opened(postgresql)) as backend:
            sound = backend._server._commit

            def commit(session, **more):
                seen.append(session.connection.execute("SHOW synchronous_commit").fetchone())
                sound(session, **more)

            backend._server._commit = commit
            backend.save(KEY, example_state(), expected=None)
    finally:
        execute(postgresql, "ALTER ROLE CURRENT_USER RESET synchronous_commit")
    assert seen == [("on",)]


@pytest.fixture
def weak(postgresql):
    """A role that may do what the documentation says a role needs, once the tables are there."""
    with closing(opened(postgresql)) as backend:
        backend.save(KEY, example_state(1), expected=None)
    execute(
        postgresql,
        "CREATE ROLE weak LOGIN PASSWORD 'weak'",
        "GRANT USAGE ON SCHEMA public TO weak",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON cq_cursors, cq_cursors_history TO weak",
    )
    yield psycopg.conninfo.make_conninfo(postgresql, user="weak", password="weak")
    execute(postgresql, "DROP OWNED BY weak", "DROP ROLE weak")


def test_a_role_needs_no_more_than_to_read_and_write_the_two_tables(weak, postgresql):
    with closing(opened(weak)) as backend:
        backend.save(KEY, example_state(2), expected=backend.load(KEY.source)[KEY].token)
        found = {probe.subject for probe in backend.probes() if probe.verdict is Verdict.PROBLEM}
        assert found <= {"durability"}  # of the tests' server
    execute(postgresql, "REVOKE UPDATE ON cq_cursors FROM weak")
    with closing(opened(weak)) as backend:
        with pytest.raises(StrandlineError, match="permission denied"):
            list(backend.probes())
        token = backend.load(KEY.source)[KEY].token
        with pytest.raises(StrandlineError, match="permission denied"):
            backend.save(KEY, example_state(3), expected=token)
        assert backend.load(KEY.source)[KEY].sequence == 2


def test_somebody_s_table_of_that_name_is_not_touched(postgresql):
    execute(postgresql, "CREATE TABLE mine (id int)")
    with closing(opened(postgresql, table="mine")) as backend:
        for attempt in (lambda: backend.load("shop"), lambda: backend.save(KEY, example_state(), expected=None)):
            with pytest.raises(UsageError, match="keeps no states"):
                attempt()


def test_a_password_is_in_no_error():
    with closing(opened("postgresql://u:s3cret-word@127.0.0.1:1/x?connect_timeout=2")) as backend:
        with pytest.raises(StrandlineError) as error:
            backend.load("shop")
        assert "s3cret-word" not in f"{error.value} {error.value.hint}"
