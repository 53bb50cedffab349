"""The state backend ``mysql``, with servers of MariaDB that the tests start and kill."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing

import pymysql
import pytest
from raw_states import RawRow

from services.mariadb import MariaDBServer
from services.proxy import CommitProxy, Loss
from strandline.errors import (
    RetryableError,
    StateConflictError,
    StateError,
    StrandlineError,
    TaskError,
    UnreachableError,
    UsageError,
)
from strandline.plugins import load_plugin
from strandline.probe import Verdict
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state
from strandline.testing.state_parts import PartsCases, PutPart
from strandline.testing.state_raw import Raw

PLUGIN = load_plugin("state_backend", "mysql")


def opened(connection_string: str, **settings) -> StateBackend:
    return PLUGIN(PLUGIN.Spec(connection_string=connection_string, **settings))


def connected(connection_string: str) -> closing[pymysql.Connection]:
    database = connection_string.rpartition("/")[2]
    port = int(connection_string.rpartition("/")[0].rpartition(":")[2])
    return closing(pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True, database=database))


def execute(connection_string: str, *statements: str) -> list[tuple]:
    with connected(connection_string) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def refused(backend: StateBackend, error: type[StrandlineError], match: str) -> StrandlineError:
    with closing(backend), pytest.raises(error, match=match) as found:
        backend.load("shop")
    return found.value


class TestMySQLState(StateBackendConformance, PartsCases):
    @pytest.fixture
    def reopen(self, mysql: str) -> Callable[[], StateBackend]:
        return lambda: opened(mysql)

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        with closing(reopen()) as backend:
            yield backend

    @pytest.fixture
    def raw(self, mysql: str) -> Iterator[Raw]:
        def run(*asked):
            with connection.cursor() as cursor:
                cursor.execute(*asked)
                return cursor.fetchall()

        with connected(mysql) as connection:
            yield RawRow(
                run, "cq_cursors", parameter="%s", refuses=(pymysql.err.DataError, pymysql.err.OperationalError)
            )

    @pytest.fixture
    def parts(self, mysql: str) -> Callable[[StateKey], set[str]]:
        names = "SELECT token FROM cq_cursors_history WHERE number < 0 AND task = '{}'"
        return lambda key: {name for (name,) in execute(mysql, names.format(key.task))}

    @pytest.fixture
    def put_part(self, mysql: str) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            change = (
                "DELETE FROM cq_cursors_history" if text is None else f"UPDATE cq_cursors_history SET state = '{text}'"
            )
            execute(mysql, f"{change} WHERE number < 0 AND token = '{name}' AND task = '{key.task}'")

        return put


def test_what_was_saved_outlives_a_killed_server_and_the_next_save_finds_the_new_one():
    with MariaDBServer() as server, closing(opened(server.uri())) as backend:
        token = None
        for number in range(1, 4):
            token = backend.save(KEY, example_state(number), expected=token)
            server.kill()
            with pytest.raises(UnreachableError, match=str(server.port)):
                backend.save(KEY, example_state(number + 1), expected=token)
            server.start()
        assert [state.sequence for state in backend.history(KEY)] == [3, 2, 1]


RISKS = [
    ("innodb_flush_log_at_trx_commit", ("--innodb-flush-log-at-trx-commit=2",)),
    ("sync_binlog", ("--log-bin", "--server-id=1", "--sync-binlog=0")),
]


@pytest.mark.parametrize(("name", "arguments"), RISKS, ids=[name for name, _ in RISKS])
def test_a_server_that_can_lose_a_cursor_is_refused_unless_it_is_accepted_by_name(name, arguments):
    with MariaDBServer(*arguments) as server:
        with closing(opened(server.uri())) as backend:
            for attempt in (lambda: backend.load("shop"), lambda: backend.save(KEY, example_state(), expected=None)):
                with pytest.raises(UsageError, match=name) as refused:
                    attempt()
            assert f"accept: [{name}]" in refused.value.hint
            assert [one.verdict for one in backend.probes() if one.subject == "durability"] == [Verdict.PROBLEM]
        with closing(opened(server.uri(), accept=[name])) as backend:
            backend.save(KEY, example_state(), expected=None)
            assert dict(backend.load(KEY.source)) == {KEY: backend.history(KEY)[0]}
            assert [one.verdict for one in backend.probes() if one.subject == "durability"] == [Verdict.WARNING]


def test_a_server_that_becomes_read_only_takes_no_state_and_a_connection_to_one_is_refused():
    with MariaDBServer() as server, closing(opened(server.uri(user="etl"))) as backend:
        server.execute("CREATE USER etl", "GRANT ALL ON mysql.* TO etl")
        token = backend.save(KEY, example_state(1), expected=None)
        server.execute("SET GLOBAL read_only = 1")
        with pytest.raises(RetryableError, match="read-only"):
            backend.save(KEY, example_state(2), expected=token)
        refused(opened(server.uri()), UsageError, "read-only")  # root might write even so
        with closing(opened(server.uri())) as other:
            assert Verdict.PROBLEM in [one.verdict for one in other.probes() if one.subject == "writes"]
        server.execute("SET GLOBAL read_only = 0")
        backend.save(KEY, example_state(2), expected=token)


@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
def test_a_table_without_transactions_is_refused(mysql, engine):
    with closing(opened(mysql)) as backend:
        backend.save(KEY, example_state(), expected=None)
    # whose keys are shorter
    execute(mysql, f"CREATE TABLE other ENGINE = {engine} AS SELECT * FROM cq_cursors_history")
    execute(mysql, "DROP TABLE cq_cursors_history", "ALTER TABLE other RENAME TO cq_cursors_history")
    assert "ENGINE = InnoDB" in refused(opened(mysql), UsageError, engine).hint
    with closing(opened(mysql)) as backend, pytest.raises(UsageError, match=engine):
        backend.save(KEY, example_state(), expected=None)


def test_tables_are_of_innodb_whatever_the_server_s_default_is():
    with MariaDBServer("--default-storage-engine=MyISAM") as server, closing(opened(server.uri())) as backend:
        backend.save(KEY, example_state(), expected=None)
        assert len(backend.history(KEY)) == 1


def test_whoever_was_killed_between_the_two_tables_leaves_what_the_next_one_completes(mysql):
    with closing(opened(mysql)) as backend:
        backend.save(KEY, example_state(), expected=None)
    execute(mysql, "DROP TABLE cq_cursors", "DELETE FROM cq_cursors_history")
    with closing(opened(mysql)) as backend:
        assert dict(backend.load("shop")) == {}
        backend.save(KEY, example_state(), expected=None)
        assert len(backend.history(KEY)) == 1


@pytest.mark.parametrize("gone", ["cq_cursors", "cq_cursors_history"])
def test_a_table_that_is_gone_is_not_taken_for_an_empty_one(mysql, gone):
    with closing(opened(mysql)) as backend:
        backend.save(KEY, example_state(), expected=None)
    execute(mysql, f"DROP TABLE {gone}")
    refused(opened(mysql), StateError, gone)


def test_somebody_s_table_of_that_name_is_not_touched(mysql):
    execute(mysql, "CREATE TABLE mine (id int)")
    with closing(opened(mysql, table="mine")) as backend:
        for attempt in (lambda: backend.load("shop"), lambda: backend.save(KEY, example_state(), expected=None)):
            with pytest.raises(UsageError, match="keeps no states"):
                attempt()


def test_a_user_needs_no_more_than_to_read_and_write_the_two_tables(mariadb_server, mysql):
    with closing(opened(mysql)) as backend:
        backend.save(KEY, example_state(1), expected=None)
    name = mysql.rpartition("/")[2]
    tables = [f"{name}.cq_cursors", f"{name}.cq_cursors_history"]
    may = [f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO weak" for table in tables]
    mariadb_server.execute("CREATE USER weak IDENTIFIED BY 'w@/:%'", *may)
    weak = mysql.replace("root@", "weak:w%40%2F%3A%25@")
    try:
        with closing(opened(weak)) as backend:
            backend.save(KEY, example_state(2), expected=backend.load(KEY.source)[KEY].token)
            assert not [probe for probe in backend.probes() if probe.verdict is not Verdict.OK]
        mariadb_server.execute(f"REVOKE UPDATE ON {tables[0]} FROM weak")
        with closing(opened(weak)) as backend:
            with pytest.raises(TaskError, match="denied"):
                list(backend.probes())
            token = backend.load(KEY.source)[KEY].token
            with pytest.raises(TaskError, match="denied") as found:
                backend.save(KEY, example_state(3), expected=token)
            assert "grant" in found.value.hint
            assert backend.load(KEY.source)[KEY].sequence == 2
    finally:
        mariadb_server.execute("DROP USER weak")


def test_a_reply_that_is_lost_is_no_conflict_and_no_silence(mariadb_server, mysql):
    """Whether it was saved, the engine looks itself."""
    with CommitProxy(mariadb_server.port, b"\x03COMMIT") as proxy:
        through = mysql.replace(str(mariadb_server.port), str(proxy.port))
        with closing(opened(through)) as backend:
            token = backend.save(KEY, example_state(1), expected=None)
            for sequence, loss, saved in ((2, Loss.REPLY, 2), (3, Loss.REQUEST, 2)):
                proxy.lose(loss)
                with pytest.raises(StateError):
                    backend.save(KEY, example_state(sequence), expected=token)
                assert proxy.spare()
                stored = backend.load(KEY.source)[KEY]
                assert stored.sequence == saved
                token = stored.token


def test_a_commit_that_arrives_late_is_waited_for(mariadb_server, mysql):
    """Whoever looks meanwhile, and is told that nothing was saved, would be wrong a moment later."""
    with CommitProxy(mariadb_server.port, b"\x03COMMIT") as proxy:
        through = mysql.replace(str(mariadb_server.port), str(proxy.port))
        with closing(opened(through, timeout=3)) as backend:
            token = backend.save(KEY, example_state(1), expected=None)
            proxy.lose(Loss.LATE)
            with pytest.raises(StateError):
                backend.save(KEY, example_state(2), expected=token)
            seen = backend.load(KEY.source)[KEY]
        proxy.deliver()
    with closing(opened(mysql)) as backend:
        assert backend.load(KEY.source)[KEY] == seen
        backend.save(KEY, example_state(3), expected=seen.token)
        assert [one.sequence for one in backend.history(KEY)] == [3, 1]


def test_with_tls_the_server_s_certificate_is_checked(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    with MariaDBServer(f"--ssl-cert={certificate}", f"--ssl-key={key}", "--require-secure-transport=ON") as server:
        named = server.uri().replace("127.0.0.1", "localhost")
        with closing(opened(f"{named}?ssl_ca={certificate}")) as backend:
            backend.save(KEY, example_state(), expected=None)
            assert len(backend.history(KEY)) == 1
        refused(opened(f"{server.uri()}?ssl_ca={certificate}"), UnreachableError, "127.0.0.1")
        refused(opened(f"{named}?ssl=verify"), UnreachableError, "certificate")
        refused(opened(f"{named}?ssl=off"), UnreachableError, "refuses the connection")
        refused(opened(f"{named}?ssl_ca=/nowhere.pem"), UsageError, "No such file")


def test_a_password_is_in_no_error():
    with closing(opened("mysql://u:s3cret-word@127.0.0.1:1/x")) as backend, pytest.raises(UnreachableError) as error:
        backend.load("shop")
    assert "s3cret-word" not in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://u:s3cret-word@host/db",
        "mysql://u:s3cret-word@host",
        "mysql://u:s3cret-word@host:port/db",
        "mysql://u:s3cret-word/rest@host/db",
        "mysql://u:s3cret-word@host/db?ssl=maybe",
        "mysql://u:s3cret-word@host/db?unknown=1",
        "mysql://host/db",
    ],
)
def test_a_wrong_connection_string_is_named_and_nothing_of_it_is_shown(wrong):
    with pytest.raises(UsageError, match="connection_string") as error:
        opened(wrong)
    assert "s3cret" not in f"{error.value} {error.value.hint}"


def test_a_name_that_is_too_long_is_refused_and_not_cut(mysql):
    with closing(opened(mysql)) as backend:
        with pytest.raises(TaskError, match="too long"):
            backend.save(StateKey("shop", "x" * 1001, "warehouse"), example_state(), expected=None)
        assert dict(backend.load("shop")) == {}


def test_a_conflict_leaves_the_connection_as_it_was(mysql):
    with closing(opened(mysql)) as backend:
        token = backend.save(KEY, example_state(1), expected=None)
        with pytest.raises(StateConflictError):
            backend.save(KEY, example_state(9), expected="another")
        backend.save(KEY, example_state(2), expected=token)
        assert [state.sequence for state in backend.history(KEY)] == [2, 1]
