"""Connections to an SQLite file are used again: nothing of a session stays in them, and each has the right file open."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sqlite.database import Database
from strandline.connectors.sqlite.destination import SQLiteDestination
from strandline.testing.destination_fixtures import orders
from strandline.testing.windows import Lineage

CREATE = Statement("CREATE TABLE one (id INTEGER)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(str(path), busy_timeout_s=1)
    with database.session(create=True) as session:
        session.run(CREATE)
    yield database
    database.close()


def count(database: Database, query: str) -> Any:
    with database.session() as session:
        return session.fetch(Statement(query))[0][0]


def test_an_idle_run_opens_no_connection_for_each_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [orders(f"orders_{number}") for number in range(20)]
    opened, real = list[str](), sqlite3.connect

    def connect(file: str, **options: Any) -> sqlite3.Connection:
        opened.append(file)
        return real(file, **options)

    with closing(SQLiteDestination(SQLiteDestination.Spec(path=str(path)))) as destination:
        lineage = Lineage(destination)
        for table in tables:
            lineage.migrate(table)
        destination.close()
        monkeypatch.setattr(sqlite3, "connect", connect)
        for table in tables:
            lineage.migrate(table, apply=False)
            lineage.migrate(table)
            lineage.write(lineage.insert(table, id=[1], name=["a"], note=["x"]))
    assert len(opened) <= 4


def test_nothing_of_a_session_stays(database: Database) -> None:
    with database.session(cascades=True) as session:
        session.scratch(Statement("SELECT 1 AS a"))
        session.connection.execute("BEGIN")
        session.run(Statement("INSERT INTO one VALUES (1)"))
    assert count(database, "SELECT count(*) FROM temp.sqlite_master") == 0
    assert count(database, "PRAGMA foreign_keys") == 0
    assert count(database, "SELECT count(*) FROM one") == 0


def test_a_session_whose_rows_are_still_being_read_keeps_no_other_from_its_own(database: Database) -> None:
    with database.writing() as session:
        session.run(Statement("INSERT INTO one VALUES (1), (2)"))
    with database.session() as session:
        stage = session.scratch(Statement("SELECT * FROM one"))
        reading = session.connection.execute(f"SELECT id FROM {stage}")
        assert reading.fetchone() == (1,)
    with database.session() as other:
        assert other.scratch(Statement("SELECT 3 AS id")) == stage
        assert other.fetch(Statement(f"SELECT id FROM {stage}")) == [(3,)]


def test_a_file_that_was_replaced_is_not_written_to(database: Database, path: Path) -> None:
    assert count(database, "SELECT count(*) FROM one") == 0
    path.rename(path.with_name("before.sqlite"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE two (id INTEGER)")
    assert count(database, "SELECT count(*) FROM two") == 0


def test_a_session_that_outlives_a_close_leaves_nothing_open(database: Database, path: Path) -> None:
    with database.session() as session:
        database.close()
        connection = session.connection
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
    assert [other.name for other in path.parent.iterdir()] == [path.name]
