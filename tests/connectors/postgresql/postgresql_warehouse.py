"""A PostgreSQL database that a destination writes to, as its user and its other clients see it."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from strandline.connectors.postgresql.destination import PostgreSQLDestination
from strandline.message import Insert
from strandline.testing.destination_fixtures import orders
from strandline.testing.windows import Lineage

WAIT_S = 60

Sql = Callable[..., list[tuple[Any, ...]]]


@contextmanager
def as_user(postgresql: str) -> Iterator[Sql]:
    """SQL on a connection of the user's own."""
    with closing(psycopg.connect(postgresql, autocommit=True)) as connection:

        def run(text: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(text.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@contextmanager
def warehouse(postgresql: str) -> Iterator[Lineage]:
    """A lineage into the database, with the settings that are usual."""
    with closing(PostgreSQLDestination(PostgreSQLDestination.Spec(connection_string=postgresql))) as destination:
        yield Lineage(destination)


def row(lineage: Lineage, *ids: int, name: str = "a") -> Insert:
    return lineage.insert(orders(), id=list(ids), name=[name] * len(ids), note=["x"] * len(ids))


def ids_of(sql: Sql, table: str = "orders") -> list[int]:
    return [one for (one,) in sql(f'SELECT id FROM "{table}" ORDER BY id')]


def wait_for(sql: Sql, condition: str) -> int:
    """The process of the one connection of Strandline that is in this condition, once there is one."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = sql(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            f"AND datname = current_database() AND {condition}"
        )
        if found:
            return int(found[0][0])
        time.sleep(0.01)
    raise AssertionError(f"no connection is {condition}")


def open_transactions(sql: Sql) -> int:
    ((count,),) = sql(
        "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database() AND state <> 'idle'"
    )
    return int(count)


BLOCKED = "wait_event_type = 'Lock'"


@contextmanager
def held(postgresql: str, statement: str) -> Iterator[psycopg.Connection]:
    """A transaction of somebody else, which holds what ``statement`` has locked."""
    with closing(psycopg.connect(postgresql)) as connection:
        connection.execute(statement.encode())
        yield connection
        connection.rollback()
