"""How a window comes into PostgreSQL: through memory, or through temporary tables that are gone afterwards."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest
from postgresql_warehouse import Sql, as_user, ids_of, row, warehouse

from strandline.connectors.postgresql.database import Database
from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.destination import WriteMode
from strandline.errors import TaskError, UsageError
from strandline.message import Checkpoint, Delete, WindowMessage
from strandline.testing.destination_fixtures import keys, orders, same
from strandline.testing.windows import Lineage

BIG = pa.decimal256(60, 10)
"""A type that the server has to cast to."""


@pytest.fixture
def lineage(postgresql: str) -> Iterator[Lineage]:
    with warehouse(postgresql) as one:
        yield one


@pytest.fixture
def sql(postgresql: str) -> Iterator[Sql]:
    with as_user(postgresql) as run:
        yield run


class TestStages:
    @pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
    def test_what_does_not_fit_into_memory_goes_through_temporary_tables(
        self, lineage: Lineage, sql: Sql, mode: WriteMode
    ) -> None:
        lineage.destination.staged_bytes_max = 1
        lineage, table = replace(lineage, mode=mode), orders(at=pa.list_(pa.timestamp("us", "UTC")), big=BIG)
        lineage.migrate(table)
        batches = [
            lineage.insert(table, id=[number, 100], at=[[number], None], big=[number, None]) for number in range(5)
        ]
        lineage.write(*batches, Delete(table.name, keys(table, 3)))
        kept = [one.batch.slice(0, 1) for at, one in enumerate(batches) if at != 3 or mode is WriteMode.APPEND]
        last = [one.batch.slice(1) for one in batches] if mode is WriteMode.APPEND else [batches[-1].batch.slice(1)]
        same(lineage, table, *kept, *last)
        assert sql("SELECT relname FROM pg_class WHERE relpersistence = 't'") == []

    def test_a_window_that_fails_leaves_no_temporary_table(self, lineage: Lineage, sql: Sql) -> None:
        lineage.destination.staged_bytes_max = 1
        lineage.migrate(orders())
        bad = lineage.insert(orders(), id=[None], name=["a"], note=["x"])
        with pytest.raises(TaskError, match="null in its primary key"):
            lineage.write(row(lineage, 1), bad)
        assert sql("SELECT relname FROM pg_class WHERE relpersistence = 't'") == []
        lineage.write(row(lineage, 1))
        assert sql("SELECT relname FROM pg_class WHERE relpersistence = 't'") == []
        assert ids_of(sql) == [1]

    def test_a_first_load_in_which_keys_come_again_keeps_the_last(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        for name, ids in (("a", [1, 2]), ("b", [3, 4]), ("c", [4, 5]), ("d", [6, 6]), ("e", [1, 7]), ("f", [8])):
            lineage.write(row(lineage, *ids, name=name))
        expected = {1: "e", 2: "a", 3: "b", 4: "c", 5: "c", 6: "d", 7: "e", 8: "f"}
        assert dict(sql("SELECT id, name FROM orders")) == expected


class Pooler:
    """A transaction pooler with two sessions of the server: ``next_one`` says which of them the next transaction gets."""

    def __init__(self, sessions: list[psycopg.Connection]) -> None:
        self.sessions, self.next_one = sessions, 0


class _KilledError(Exception):
    """What nobody has time to tidy up after."""


@pytest.fixture
def pooler(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pooler]:
    begun = Database._begun
    with ExitStack() as stack:
        pooler = Pooler([stack.enter_context(closing(psycopg.connect(postgresql, autocommit=True))) for _ in range(2)])

        @contextmanager
        def handed_out(self: Database, session: PostgreSQLSession, *, read_only: bool = False) -> Iterator[None]:
            session.__dict__["connection"] = pooler.sessions[pooler.next_one]
            with begun(self, session, read_only=read_only):
                yield

        monkeypatch.setattr(Database, "_begun", handed_out)
        yield pooler


class TestPoolers:
    def test_rows_that_another_client_has_staged_are_never_taken_for_ours(
        self, lineage: Lineage, sql: Sql, pooler: Pooler
    ) -> None:
        lineage.destination.staged_bytes_max = 1
        lineage.migrate(orders())
        lineage.write(row(lineage, 0))
        before = lineage.stored()

        def killed() -> Iterator[WindowMessage]:
            yield row(lineage, 1, 2, name="another client's")
            raise _KilledError

        def torn() -> Iterator[WindowMessage]:
            pooler.next_one = 1
            yield row(lineage, 3, 4)
            pooler.next_one = 0
            yield Checkpoint({"at": 4})

        with pytest.raises(_KilledError):
            lineage.write_window(lineage.window(killed()))
        with pytest.raises(UsageError, match="pooler") as caught:
            lineage.write_window(lineage.window(torn()))
        assert "pool_mode = session" in caught.value.hint
        assert ids_of(sql) == [0]
        assert lineage.stored() == before

    def test_a_window_that_is_staged_in_two_sessions_fails(self, lineage: Lineage, sql: Sql, pooler: Pooler) -> None:
        lineage.destination.staged_bytes_max = 1
        lineage.migrate(orders())

        def torn() -> Iterator[WindowMessage]:
            for at in range(3):
                pooler.next_one = at % 2
                yield row(lineage, at)
            yield Checkpoint({"at": 2})

        with pytest.raises(UsageError, match="pooler"):
            lineage.write_window(lineage.window(torn()))
        assert ids_of(sql) == []

    def test_a_pooler_may_hand_a_window_without_spilled_rows_from_one_session_to_another(
        self, lineage: Lineage, sql: Sql, pooler: Pooler
    ) -> None:
        lineage.migrate(orders())
        for at in range(3):
            pooler.next_one = at % 2
            lineage.write(row(lineage, at))
        assert ids_of(sql) == [0, 1, 2]
