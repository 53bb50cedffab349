"""What is known of DuckDB's catalog: read once for all tables, and never older than what was committed."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

from strandline.connectors.duckdb import catalog as duckdb_catalog
from strandline.connectors.duckdb.database import Database
from strandline.connectors.duckdb.destination import DuckDBDestination
from strandline.connectors.sql.dialect import Statement
from strandline.destination import Fence, MigrateMode
from strandline.testing.destination_fixtures import orders
from strandline.testing.windows import Lineage

FENCE = Fence("shop", "warehouse", 1, "run-1")
CREATE, DROP = Statement('CREATE TABLE "main"."x" (i BIGINT)'), Statement('DROP TABLE "main"."x"')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def destination(path: Path) -> Iterator[DuckDBDestination]:
    destination = DuckDBDestination(DuckDBDestination.Spec(path=str(path)))
    yield destination
    destination.close()


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(str(path), "main", {})
    yield database
    database.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The tables that DuckDB is asked for, or ``None`` for all."""
    asked: list[str | None] = []
    real = duckdb_catalog._read

    def read(fetch: Callable[..., Any], schema: str, name: str | None = None) -> Any:
        asked.append(name)
        return real(fetch, schema, name)

    monkeypatch.setattr(duckdb_catalog, "_read", read)
    return asked


def columns(database: Database, table: str) -> list[str]:
    with database.session() as session:
        return list(session.columns(table))


def theirs(destination: DuckDBDestination) -> tuple[str, ...]:
    found = destination.migrate(orders(), mode=MigrateMode.SAFE, fence=FENCE, apply=False)
    return found.theirs


def test_an_idle_run_reads_the_catalog_once_however_many_tables_there_are(
    destination: DuckDBDestination, reads: list[str | None]
) -> None:
    tables = [orders(f"orders_{number}") for number in range(20)]
    lineage = Lineage(destination)
    for idle in (False, True):
        for table in tables:
            lineage.migrate(table, apply=False)
            lineage.migrate(table)
            lineage.write(lineage.insert(table, id=[1], name=["a"], note=["x"]))
        if idle:
            assert reads == [None]
        destination.close()
        reads.clear()


def test_a_new_table_is_read_alone(destination: DuckDBDestination, reads: list[str | None]) -> None:
    lineage = Lineage(destination)
    for _ in range(2):
        lineage.migrate(orders())
    reads.clear()
    lineage.migrate(orders("people"))
    assert lineage.migrate(orders("people")).changes == ()
    assert reads == ["people"]


@pytest.mark.parametrize("stays", [False, True], ids=["came-and-went", "stays"])
def test_what_somebody_else_in_this_process_changes_is_seen(
    destination: DuckDBDestination, path: Path, *, stays: bool
) -> None:
    Lineage(destination).migrate(orders())
    assert theirs(destination) == ()
    connection = duckdb.connect(str(path))
    for number in range(3):
        if not stays:
            connection = duckdb.connect(str(path))
        connection.execute(f"ALTER TABLE orders ADD COLUMN extra_{number} BIGINT")
        if not stays:
            connection.close()
        assert theirs(destination) == tuple(f"extra_{at}" for at in range(number + 1))
    connection.close()


def test_a_change_is_seen_by_its_transaction_at_once_and_by_others_when_it_is_committed(database: Database) -> None:
    assert columns(database, "x") == []
    with database.writing() as session:
        session.run(CREATE)
        assert list(session.columns("x")) == ["i"]
        assert columns(database, "x") == []
    assert columns(database, "X") == []  # another case is another name, until a table is to be made
    assert columns(database, "x") == ["i"]
    with database.writing() as session:
        session.run(DROP)
        assert not session.columns("x")
        assert columns(database, "x") == ["i"]
    assert columns(database, "x") == []


@pytest.mark.parametrize("looks", [False, True])
def test_a_change_that_was_not_committed_was_none(database: Database, *, looks: bool) -> None:
    assert columns(database, "x") == []
    with suppress(ZeroDivisionError), database.writing() as session:
        session.run(CREATE)
        assert not looks or session.columns("x")
        raise ZeroDivisionError
    assert columns(database, "x") == []


def test_a_change_in_words_that_nobody_knows_is_seen(database: Database) -> None:
    with database.writing() as session:
        session.run(CREATE)
    with database.writing() as session:
        session.run(Statement('ALTER TABLE "main"."x" RENAME TO "y"'))
        assert list(session.columns("y")) == ["i"]
        assert not session.columns("x")
    assert (columns(database, "x"), columns(database, "y")) == ([], ["i"])


def test_the_file_is_another_one_when_it_is_opened_again(database: Database, path: Path) -> None:
    with database.writing() as session:
        session.run(CREATE)
    assert columns(database, "x") == ["i"]
    database.close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE x")
    assert columns(database, "x") == []


def test_a_foreign_key_that_comes_and_goes_is_seen(database: Database) -> None:
    def referring() -> list[str]:
        with database.session() as session:
            return [name for name, _ in session.sight.referring("x")]

    with database.writing() as session:
        session.run(Statement('CREATE TABLE "main"."x" (i BIGINT PRIMARY KEY)'))
    assert referring() == []
    with database.writing() as session:
        session.run(Statement('CREATE TABLE "main"."y" (i BIGINT REFERENCES x(i))'))
        assert [name for name, _ in session.sight.referring("x")] == ["y"]
        assert referring() == []
    assert referring() == ["y"]
    with database.writing() as session:
        session.run(Statement('DROP TABLE "main"."y"'))
    assert referring() == []


def test_two_looks_of_one_transaction_see_one_catalog_while_another_one_commits(database: Database) -> None:
    """Otherwise some of our tables are there and some are not, as if somebody had dropped them."""
    with database.writing() as session:
        session.run(CREATE)
    with database.session() as reader:
        reader.cursor.execute("BEGIN TRANSACTION")
        assert not reader.columns("y")
        with database.writing() as session:
            session.run(Statement('CREATE TABLE "main"."y" (i BIGINT)'))
            session.run(Statement('CREATE TABLE "main"."z" (i BIGINT)'))
        assert not reader.columns("z")
    assert columns(database, "z") == ["i"]
