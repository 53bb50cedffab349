"""What is PostgreSQL's own: connections that break, commits of which nothing is heard, runs that race, its catalog."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from postgresql_warehouse import BLOCKED, WAIT_S, Sql, as_user, held, ids_of, open_transactions, row, wait_for

from services.postgresql import PostgreSQLServer
from services.proxy import CommitProxy, Loss
from strandline.connectors.postgresql.destination import PostgreSQLDestination
from strandline.destination import MigrateMode, WriteMode
from strandline.errors import (
    RetryableError,
    StateConflictError,
    StateError,
    TaskError,
    UnreachableError,
    UsageError,
)
from strandline.message import Checkpoint, Complete, Swap
from strandline.table import SOURCE_NAME, SYNC_TIME
from strandline.testing.destination_fixtures import orders, same
from strandline.testing.windows import Lineage


@pytest.fixture
def open_one(postgresql: str) -> Iterator[Callable[..., PostgreSQLDestination]]:
    opened: list[PostgreSQLDestination] = []

    def make(**spec: Any) -> PostgreSQLDestination:
        opened.append(PostgreSQLDestination(PostgreSQLDestination.Spec(**({"connection_string": postgresql} | spec))))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def lineage(open_one: Callable[..., PostgreSQLDestination]) -> Lineage:
    return Lineage(open_one())


@pytest.fixture
def sql(postgresql: str) -> Iterator[Sql]:
    with as_user(postgresql) as run:
        yield run


class TestConnections:
    def test_a_connection_that_was_ended_is_replaced(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        ended = sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )
        assert ended == [(True,)] * len(ended) != []
        lineage.write(row(lineage, 2))
        assert ids_of(sql) == [1, 2]

    def test_a_connection_that_ends_inside_a_transaction_leaves_nothing_of_it(
        self, lineage: Lineage, postgresql: str, sql: Sql
    ) -> None:
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        before = lineage.stored()
        with ThreadPoolExecutor(1) as pool:
            with held(postgresql, "LOCK TABLE orders"):
                writing = pool.submit(lineage.write, row(lineage, 2))
                sql("SELECT pg_terminate_backend(%s, 10000)", wait_for(sql, BLOCKED))
            with pytest.raises(RetryableError, match="connection was lost"):
                writing.result(WAIT_S)
        assert ids_of(sql) == [1]
        assert lineage.stored() == before
        lineage.write(row(lineage, 2))
        assert ids_of(sql) == [1, 2]

    def test_a_server_that_stops_is_out_of_reach_and_comes_back(self) -> None:
        server = PostgreSQLServer(durable=True)
        destination = None
        try:
            uri = server.create().create_database("warehouse")
            destination = PostgreSQLDestination(PostgreSQLDestination.Spec(connection_string=uri))
            lineage = Lineage(destination)
            lineage.migrate(orders())
            for number, end in enumerate((server.stop, server.crash)):
                lineage.write(row(lineage, number))
                end()
                with pytest.raises(UnreachableError, match=f"127.0.0.1:{server.port}/warehouse cannot be reached"):
                    lineage.write(row(lineage, 9))
                with pytest.raises(UnreachableError):
                    lineage.stored()
                server.start()
                assert lineage.stored() == lineage.state
            lineage.write(row(lineage, 2))
            same(lineage, orders(), row(lineage, 0, 1, 2).batch)
        finally:
            if destination is not None:
                destination.close()
            server.remove()

    def test_a_lock_that_is_held_too_long_can_be_tried_again(
        self, open_one: Callable[..., PostgreSQLDestination], postgresql: str, sql: Sql
    ) -> None:
        patient = Lineage(open_one())
        patient.migrate(orders())
        lineage = replace(patient, destination=open_one(lock_timeout=0.05))
        with held(postgresql, "LOCK TABLE orders"), pytest.raises(RetryableError, match="lock timeout") as raised:
            lineage.write(row(lineage, 1))
        assert "lock_timeout" in raised.value.hint
        assert open_transactions(sql) == 0
        patient.write(row(patient, 1))

    def test_a_statement_that_takes_too_long_can_be_tried_again(
        self, open_one: Callable[..., PostgreSQLDestination], sql: Sql
    ) -> None:
        patient = Lineage(open_one())
        patient.migrate(orders())
        lineage = replace(patient, destination=open_one(statement_timeout=0.5))
        sql(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(60); RETURN NEW; END$$"
        )
        sql("CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow()")
        with pytest.raises(RetryableError, match="statement timeout") as raised:
            lineage.write(row(lineage, 1))
        assert "statement_timeout" in raised.value.hint
        assert (ids_of(sql), patient.stored(), open_transactions(sql)) == ([], None, 0)

    def test_a_server_that_hangs_does_not_make_a_sync_hang(
        self, open_one: Callable[..., PostgreSQLDestination], postgresql: str, sql: Sql
    ) -> None:
        patient = Lineage(open_one())
        patient.migrate(orders())
        lineage = replace(patient, destination=open_one(statement_timeout=2))
        with ThreadPoolExecutor(1) as pool, held(postgresql, "LOCK TABLE cq_state"):
            writing = pool.submit(lineage.write, row(lineage, 1))
            hung = wait_for(sql, BLOCKED)
            os.kill(hung, signal.SIGSTOP)
            try:
                with pytest.raises(RetryableError, match="does not answer"):
                    writing.result(WAIT_S)
            finally:
                os.kill(hung, signal.SIGCONT)
        patient.write(row(patient, 1))
        assert ids_of(sql) == [1]

    def test_nothing_stays_open_after_a_window_that_failed(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        with pytest.raises(TaskError):
            lineage.write(row(lineage, 1, name="a\0b"))
        assert open_transactions(sql) == 0

    def test_a_database_that_takes_no_writes_changes_nothing(
        self, lineage: Lineage, open_one: Callable[..., PostgreSQLDestination], postgresql: str
    ) -> None:
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        reading = open_one(connection_string=f"{postgresql}?options=-cdefault_transaction_read_only%3Don")
        standby = replace(lineage, destination=reading)
        with pytest.raises(RetryableError, match="read-only") as raised:
            standby.write(row(standby, 2))
        assert "standby" in raised.value.hint
        assert standby.stored() == lineage.state
        same(standby, orders(), row(lineage, 1).batch)

    def test_what_is_acknowledged_is_durable_whatever_the_role_prefers(
        self, open_one: Callable[..., PostgreSQLDestination], postgresql: str, sql: Sql
    ) -> None:
        wanted = {"off": "on", "remote_apply": "remote_apply"}
        for number, (preferred, used) in enumerate(wanted.items()):
            url = f"{postgresql}?options=-csynchronous_commit%3D{preferred}"
            lineage = Lineage(open_one(connection_string=url), task=preferred)
            lineage.migrate(orders(preferred))
            sql(f"ALTER TABLE {preferred} ADD used text DEFAULT current_setting('synchronous_commit')")
            columns = {"id": [number], "name": ["a"]}
            lineage.mode = WriteMode.APPEND
            lineage.write(lineage.insert(orders(preferred), columns))
            assert sql(f"SELECT used FROM {preferred}") == [(used,)]


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "what"),
        [
            ("host=127.0.0.1 sEcreTpAssword", "neither a URL"),
            ("postgresql://user:sEcreTpAssword@[::1/x", "neither a URL"),
            ("host=127.0.0.1 password=sEcreTpAssword port=1 connect_timeout=1", "port 1 failed"),
        ],
    )
    def test_a_connection_string_is_never_quoted(self, wrong: str, what: str) -> None:
        destination = PostgreSQLDestination(PostgreSQLDestination.Spec(connection_string=wrong))
        with pytest.raises((UsageError, UnreachableError), match=what) as raised:
            destination.states.load("shop")
        with pytest.raises((UsageError, UnreachableError)) as read:
            list(destination.read(orders()))
        for error in (raised.value, read.value):
            chain: BaseException | None = error
            while chain is not None:
                assert "sEcreT" not in str(chain)
                chain = chain.__cause__

    def test_a_database_that_does_not_exist_is_out_of_reach(self, postgresql_server: PostgreSQLServer) -> None:
        url = postgresql_server.uri("nowhere")
        destination = PostgreSQLDestination(PostgreSQLDestination.Spec(connection_string=url))
        with pytest.raises(UnreachableError, match=r'refuses the connection.*"nowhere" does not exist'):
            destination.states.load("shop")

    def test_a_missing_driver_says_how_to_install_it(self) -> None:
        code = """
import sys
sys.modules["psycopg"] = None
from strandline.connectors.postgresql.destination import PostgreSQLDestination
from strandline.errors import UsageError
try:
    PostgreSQLDestination(PostgreSQLDestination.Spec(connection_string="host=127.0.0.1")).states.load("shop")
except UsageError as error:
    print(error.hint)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "pip install 'strandline[postgresql]'\n"

    def test_schemas_have_tables_and_states_of_their_own(
        self, open_one: Callable[..., PostgreSQLDestination], sql: Sql
    ) -> None:
        for schema, ids in (("public", [1]), ('my "own" %s', [1, 2])):
            lineage = Lineage(open_one(schema=schema))
            lineage.migrate(orders())
            assert lineage.stored() is None
            lineage.write(row(lineage, *ids))
            same(lineage, orders(), row(lineage, *ids).batch)
        assert sql('SELECT count(*) FROM "my ""own"" %s".orders') == [(2,)]

    def test_a_role_without_a_right_is_told_so(
        self, lineage: Lineage, open_one: Callable[..., PostgreSQLDestination], postgresql: str, sql: Sql
    ) -> None:
        lineage.migrate(orders())
        role = f"reader_{time.time_ns()}"
        sql(f"CREATE ROLE {role} LOGIN")
        try:
            weak = Lineage(open_one(connection_string=postgresql.replace("postgres@", f"{role}@")))
            with pytest.raises(TaskError, match="permission denied") as raised:
                weak.migrate(orders())
            assert "grant" in raised.value.hint
        finally:
            weak.destination.close()
            sql(f"DROP ROLE {role}")


class TestCommits:
    """The reply to a COMMIT is lost: nothing is assumed, and what is read back is the truth."""

    @pytest.fixture
    def proxy(self, postgresql_server: PostgreSQLServer) -> Iterator[CommitProxy]:
        with CommitProxy(postgresql_server.port) as proxy:
            yield proxy

    @pytest.fixture
    def through(
        self,
        proxy: CommitProxy,
        postgresql_server: PostgreSQLServer,
        postgresql: str,
        open_one: Callable[..., PostgreSQLDestination],
    ) -> Lineage:
        url = (
            postgresql.replace(f":{postgresql_server.port}/", f":{proxy.port}/") + "?sslmode=disable&gssencmode=disable"
        )
        lineage = Lineage(open_one(connection_string=url))
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        return lineage

    @pytest.mark.parametrize(("loss", "stored"), [(Loss.REPLY, [1, 2]), (Loss.REQUEST, [1])])
    def test_a_lost_commit_is_resolved_by_reading_back(
        self, through: Lineage, proxy: CommitProxy, sql: Sql, loss: Loss, stored: list[int]
    ) -> None:
        before, window = through.state, through.window([row(through, 2), Checkpoint({"window": 2})])
        proxy.lose(loss)
        with pytest.raises(StateError, match="not known whether a commit happened"):
            through.write_window(window)
        found = through.stored()
        assert found == (window.state if stored == [1, 2] else before)
        assert ids_of(sql) == stored
        through.state = found
        through.write(row(through, 2))
        assert ids_of(sql) == [1, 2]

    def test_a_commit_that_arrives_late_is_waited_for(self, through: Lineage, proxy: CommitProxy, sql: Sql) -> None:
        window = through.window([row(through, 2), Checkpoint({"window": 2})])
        proxy.lose(Loss.LATE)
        with pytest.raises(StateError):
            through.write_window(window)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(through.stored)
            wait_for(sql, "wait_event = 'advisory'")
            assert not reading.done()
            proxy.deliver()
            assert reading.result(WAIT_S) == window.state
        assert ids_of(sql) == [1, 2]

    @pytest.mark.parametrize("loss", [Loss.REPLY, Loss.REQUEST])
    def test_what_can_be_done_twice_is_tried_again(self, through: Lineage, proxy: CommitProxy, loss: Loss) -> None:
        proxy.lose(loss)
        with pytest.raises(RetryableError):
            through.migrate(orders("others"))
        through.migrate(orders("others"))
        assert through.migrate(orders("others")).changes == ()

    @pytest.mark.parametrize("loss", Loss)
    def test_staging_is_tried_again(self, through: Lineage, proxy: CommitProxy, sql: Sql, loss: Loss) -> None:
        through.destination.staged_bytes_max = 1
        before, window = through.state, through.window([row(through, 2), row(through, 3), Checkpoint({"window": 2})])
        proxy.lose(loss)
        with pytest.raises(RetryableError, match="not known whether a commit happened"):
            through.write_window(window)
        proxy.deliver()
        assert through.stored() == before
        through.write(row(through, 2), row(through, 3))
        assert ids_of(sql) == [1, 2, 3]

    def test_a_commit_that_the_server_takes_for_a_rollback_is_none(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        database = lineage.destination._database

        def fail_unnoticed() -> None:
            with database.session() as session, database.transaction(session):
                session.connection.execute(b"INSERT INTO orders (id) VALUES (1)")
                with suppress(psycopg.Error):
                    session.connection.execute(b"SELECT 1 / 0")

        with pytest.raises(RetryableError, match="with ROLLBACK; nothing was written"):
            fail_unnoticed()
        assert ids_of(sql) == []

    def test_a_save_of_which_nothing_is_heard_is_unknown(self, through: Lineage, proxy: CommitProxy) -> None:
        assert through.state is not None
        following = through.state.following(run_id="by hand", epoch=1)
        proxy.lose(Loss.REPLY)
        with pytest.raises(StateError):
            through.states.save(through.key, following, expected=through.state.token)
        assert through.stored() == following


class TestRaces:
    def test_a_run_that_takes_over_waits_for_the_window_that_is_written(
        self, lineage: Lineage, open_one: Callable[..., PostgreSQLDestination], postgresql: str, sql: Sql
    ) -> None:
        lineage.take_over()
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        later = replace(lineage, destination=open_one())
        with ThreadPoolExecutor(2) as pool:
            with held(postgresql, "LOCK TABLE orders"):
                writing = pool.submit(lineage.write, row(lineage, 2))
                wait_for(sql, f"{BLOCKED} AND wait_event = 'relation'")
                taking = pool.submit(later.take_over)
                wait_for(sql, f"{BLOCKED} AND wait_event = 'advisory'")
            writing.result(WAIT_S)
            taking.result(WAIT_S)
        with pytest.raises(StateConflictError, match="another run has taken over"):
            lineage.write(row(lineage, 3))
        later.state = later.stored()
        assert later.state == lineage.state
        later.write(row(later, 4))
        assert ids_of(sql) == [1, 2, 4]

    def test_a_sign_of_life_does_not_wait_for_the_window_that_is_written(
        self, lineage: Lineage, postgresql: str, sql: Sql
    ) -> None:
        lineage.take_over()
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        key = lineage.fence.key
        before = lineage.states.load(key.source)[key]
        alive = before.following(run_id=before.run_id, epoch=before.epoch, cursor={"seen": "now"})
        with ThreadPoolExecutor(2) as pool:
            with held(postgresql, "LOCK TABLE orders"):
                writing = pool.submit(lineage.write, row(lineage, 2))
                wait_for(sql, f"{BLOCKED} AND wait_event = 'relation'")
                pool.submit(lineage.states.save, key, alive, expected=before.token).result(WAIT_S)
                assert not writing.done()
            writing.result(WAIT_S)
        assert ids_of(sql) == [1, 2]

    def test_of_two_runs_each_row_has_its_state(self, open_one: Callable[..., PostgreSQLDestination], sql: Sql) -> None:
        """Whatever the interleaving, the rows are those of the windows that say they were written."""
        first = Lineage(open_one(), WriteMode.APPEND)
        first.migrate(orders())
        written: list[int] = []

        def run(number: int) -> None:
            one = Lineage(open_one(), WriteMode.APPEND, tables=dict(first.tables))
            for at in range(number * 100, number * 100 + 10):
                try:
                    one.take_over()
                    one.state = one.stored()
                    one.write(row(one, at))
                except StateConflictError:
                    continue
                written.append(at)

        threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ids_of(sql) == sorted(written)
        assert written

    def test_two_sources_that_store_one_key_store_it_once(
        self, lineage: Lineage, open_one: Callable[..., PostgreSQLDestination], postgresql: str, sql: Sql
    ) -> None:
        lineage.migrate(orders())
        lineage.write(row(lineage, 1), Complete("orders"))
        other = Lineage(open_one(), source="other shop", tables=dict(lineage.tables))
        other.next_pass()
        sql("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM 1 FROM gate; RETURN NEW; END$$")
        sql("CREATE TABLE gate ()")
        sql("CREATE TRIGGER wait AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION wait()")
        with ThreadPoolExecutor(2) as pool:
            with held(postgresql, "LOCK TABLE gate"):
                one = pool.submit(lineage.write, row(lineage, 2))
                wait_for(sql, f"{BLOCKED} AND wait_event = 'relation'")
                two = pool.submit(other.write, row(other, 2, name="b"))
                wait_for(sql, f"{BLOCKED} AND wait_event = 'transactionid'")
            one.result(WAIT_S)
            two.result(WAIT_S)
        assert sql("SELECT id, name FROM orders ORDER BY id") == [(1, "a"), (2, "b")]


class TestCatalog:
    def test_the_mark_is_the_table_s_identity(self, lineage: Lineage, sql: Sql) -> None:
        made = lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        sql("COMMENT ON TABLE orders IS 'all orders'")
        asked = lineage.migrate(orders(), apply=False)
        assert ([change.kind for change in asked.changes], asked.also) == (["adopt"], made.also)
        lineage.migrate(orders())
        assert lineage.migrate(orders()).changes == ()
        ((comment,),) = sql("SELECT obj_description('orders'::regclass)::jsonb->>'comment'")
        assert comment == "all orders"
        sql("TRUNCATE orders")
        emptied = lineage.migrate(orders())
        assert (emptied.also, emptied.empty) == (made.also, True)
        sql("CREATE TABLE copy (LIKE orders INCLUDING ALL)")
        sql("DROP TABLE orders")
        sql("ALTER TABLE copy RENAME TO orders")
        again = lineage.migrate(orders())
        assert again.mark
        assert not {again.mark, again.also} & {made.mark, made.also, emptied.mark}

    def test_a_comment_that_is_lost_stops_no_sync(self, lineage: Lineage, sql: Sql) -> None:
        table = orders(took=pa.duration("ms"), at=pa.timestamp("ns"))
        lineage.migrate(table)
        sql("COMMENT ON TABLE orders IS NULL")
        assert [change.kind for change in lineage.migrate(table).changes] == ["adopt"]
        with pytest.raises(TaskError, match=r"took.*duration\[ms\].*duration\[s\]"):
            lineage.migrate(orders(took=pa.duration("s"), at=pa.timestamp("ns")))

    def test_a_table_of_the_user_s_is_taken_over_with_its_rows(self, lineage: Lineage, sql: Sql) -> None:
        sql("CREATE TABLE orders (id int PRIMARY KEY, name varchar(10), note varchar)")
        sql("INSERT INTO orders VALUES (7, 'mine', 'x')")
        found = lineage.migrate(orders())
        assert [(change.kind, change.column) for change in found.changes] == [
            ("add_column", SYNC_TIME),
            ("add_column", SOURCE_NAME),
            ("widen_column", "id"),
            ("widen_column", "name"),
            ("adopt", ""),
        ]
        assert found.changes[2].ddl == ('ALTER TABLE "public"."orders" ALTER COLUMN "id" TYPE bigint',)
        lineage.write(row(lineage, 8))
        lineage.write(row(lineage, 7, name="a longer name than before"))
        assert sql("SELECT id, name, note FROM orders ORDER BY id") == [
            (7, "a longer name than before", "x"),
            (8, "a", "x"),
        ]
        assert sql("SELECT count(*) FROM pg_index WHERE indrelid = 'orders'::regclass") == [(1,)]

    def test_keys_that_were_there_twice_stop_no_sync(self, lineage: Lineage, sql: Sql) -> None:
        sql("CREATE TABLE orders (id bigint, name text, note text)")
        sql("INSERT INTO orders VALUES (7, 'mine', 'x'), (7, 'too', 'x'), (8, 'mine', 'x')")
        lineage.migrate(orders())
        lineage.write(row(lineage, 9, 9))
        assert ids_of(sql) == [7, 7, 8, 9]
        lineage.write(row(lineage, 7))
        assert ids_of(sql) == [7, 8, 9]

    def test_rows_can_be_appended_to_what_was_overwritten(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        lineage.mode = WriteMode.APPEND
        lineage.write(row(lineage, 1, 1))
        assert ids_of(sql) == [1, 1, 1]
        lineage.mode = WriteMode.OVERWRITE
        lineage.write(row(lineage, 2))
        assert ids_of(sql) == [1, 1, 1, 2]

    def test_a_refresh_that_appends_replaces_what_was_overwritten(self, lineage: Lineage, sql: Sql) -> None:
        hidden = orders("_cq_refresh_1")
        lineage.migrate(orders(), hidden)
        lineage.write(row(lineage, 1))
        lineage.mode = WriteMode.APPEND
        lineage.write(replace(row(lineage, 1, 1), table=hidden.name))
        lineage.write(Swap("orders", hidden.name))
        assert ids_of(sql) == [1, 1]

    def test_names_of_63_bytes_are_used_and_longer_ones_refused(self, lineage: Lineage, sql: Sql) -> None:
        longest = "é" * 31 + "x"
        table = orders(longest, **{longest: pa.string()})
        lineage.migrate(table)
        lineage.write(lineage.insert(table, {longest: ["a"]}, id=[1]))
        assert sql("SELECT tablename FROM pg_tables WHERE tablename LIKE 'é%%'") == [(longest,)]
        for wrong in (orders(longest + "y"), orders("plain", **{longest + "y": pa.string()}), orders("🪣" * 16)):
            for apply in (False, True):
                with pytest.raises(TaskError, match="PostgreSQL keeps 63"):
                    lineage.migrate(wrong, apply=apply)
        same(lineage, table, lineage.batch(table, {longest: ["a"]}, id=[1]))

    def test_names_that_differ_by_case_are_different(self, lineage: Lineage) -> None:
        table = orders("Orders", name=pa.string(), NAME=pa.string())
        for one in (orders(), table):
            lineage.migrate(one)
        lineage.write(row(lineage, 1), lineage.insert(table, id=[1], name=["a"], NAME=["b"]))
        same(lineage, table, lineage.batch(table, id=[1], name=["a"], NAME=["b"]))

    def test_the_names_of_our_own_tables_and_columns_are_refused(self, lineage: Lineage) -> None:
        for wrong in (orders("cq_state"), orders("cq_delivered"), orders(_cq_stage_sequence=pa.int64())):
            with pytest.raises(TaskError, match="Strandline's own"):
                lineage.migrate(wrong)

    def test_what_is_no_table_is_left_alone(self, lineage: Lineage, sql: Sql) -> None:
        for create, what in (("VIEW orders AS SELECT 1 AS id", "a view"), ("SEQUENCE others", "a sequence")):
            sql(f"CREATE {create}")
            for mode in MigrateMode:
                with pytest.raises(TaskError, match=f"is {what}"):
                    lineage.migrate(orders(create.split()[1]), mode=mode)

    def test_a_table_that_something_depends_on_is_not_dropped(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        sql("CREATE VIEW names AS SELECT name FROM orders")
        other = orders(name=pa.binary())
        with pytest.raises(TaskError, match="depend") as raised:
            lineage.migrate(other, mode=MigrateMode.FORCED)
        assert "view" in raised.value.hint
        assert ids_of(sql) == [1]

    def test_states_that_are_gone_in_part_are_not_taken_for_none(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        sql("DROP TABLE cq_state")
        again = replace(lineage)
        again.destination.close()
        with pytest.raises(StateError, match="cq_state is gone"):
            again.stored()
        with pytest.raises(StateError, match="cq_state is gone"):
            again.write(row(lineage, 2))
        assert ids_of(sql) == [1]

    def test_a_table_that_is_dropped_between_windows_fails_and_nothing_is_saved(
        self, lineage: Lineage, sql: Sql
    ) -> None:
        lineage.migrate(orders())
        before = lineage.write(row(lineage, 1)).state
        sql("DROP TABLE orders")
        with pytest.raises(TaskError, match="orders"):
            lineage.write(row(lineage, 2))
        assert lineage.stored() == before

    def test_looking_creates_nothing(self, lineage: Lineage, sql: Sql) -> None:
        found = lineage.migrate(orders(), apply=False)
        assert found.changes[0].ddl[0].startswith('CREATE TABLE "public"."orders"')
        assert lineage.states.load("shop") == {}
        with pytest.raises(TaskError, match="does not exist"):
            lineage.read(orders())
        assert sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []
