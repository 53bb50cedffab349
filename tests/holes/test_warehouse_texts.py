"""A project of a version that stored decimals of SQLite as doubles, and times as texts: it goes on so until a full refresh.

``fixtures/warehouse-texts.tar.xz`` is a directory after two syncs by such a version: `shop.db` with declared types, `in` with
JSON lines, a spec, local states, and three warehouses: DuckDB (overwrite), SQLite (overwrite-delete-stale) and files (append).
"""

import json
import os
import sqlite3
import tarfile
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

ARCHIVE = Path(__file__).with_name("fixtures") / "warehouse-texts.tar.xz"


@pytest.fixture
def project(tmp_path, command):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return command


def shop(*statements):
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def log(name, *rows):
    path = Path("in") / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    os.utime(path, (1_700_000_000, 1_700_000_000))


def stored(name, sql):
    if name == "lite":
        with closing(sqlite3.connect("lite.sqlite")) as connection:
            return connection.execute(sql).fetchall()
    with closing(duckdb.connect("duck.duckdb" if name == "duck" else ":memory:")) as connection:
        if name == "lake":
            for folder in Path("lake").glob("[!.]*"):
                files = f"read_parquet('{folder}/*.parquet', union_by_name = true)"
                connection.execute(f'CREATE VIEW "{folder.name}" AS SELECT * FROM {files}')
        return connection.execute(sql).fetchall()


T = [
    (1, 1.5, "2024-01-01T10:00:00", "2024-01-01", '{"a":  1}'),
    (2, 0.25, "2024-01-01 10:00:00.50", "2024-02-29", "[1, 2]"),
    (3, 9.99, "2024-03-01 00:00", "2024-03-01", '{"b": null}'),
]
K = [(1, "2024-01-01 10:00:00", 10.0), (2, "2024-01-02 10:00:00", 20.5), (3, "2024-01-03 10:00:00", 0.1)]
ADDED = (
    "INSERT INTO t VALUES (3, 9.99, '2024-03-01 00:00', '2024-03-01', 1, '{\"b\": null}', 'c')",
    "INSERT INTO k VALUES (3, '2024-01-03 10:00:00', 0.1)",
)


@pytest.mark.parametrize("name", ["duck", "lite", "lake"])
def test_columns_of_sqlite_go_on_as_they_were_stored(project, name):
    shop(*ADDED)
    for _ in range(2):
        project("sync")
    found = stored(name, 'SELECT DISTINCT id, price, "at", day, doc FROM t ORDER BY id')
    assert found == T
    assert stored(name, "SELECT id, updated_at, price FROM k ORDER BY id") == K
    bare = sorted(stored(name, 'SELECT "at", price FROM bare'), key=repr)
    once = [("2024-01-01 10:00:00", 1.0), ("2024-01-01 10:00:00", 1.0), (None, 2.5)]
    assert bare == sorted(once * (4 if name == "lake" else 1), key=repr)  # which appends what is read in full


LOG = [
    (1, "2024-01-01T10:00:00Z", "2024-01-01", "a"),
    (2, "2024-01-01T12:00:00.5+02:00", "2024-02-29", "b"),
    (3, "2024-01-01T10:00:00+00:00", "2024-03-01", "c"),
]


@pytest.mark.parametrize("name", ["duck", "lite", "lake"])
def test_times_of_json_go_on_as_texts(project, name):
    log("log-2.jsonl", {"id": 3, "at": "2024-01-01T10:00:00+00:00", "day": "2024-03-01", "v": "c"})
    for _ in range(2):
        project("sync")
    assert stored(name, 'SELECT id, "at", day, v FROM log ORDER BY id') == LOG
    # what comes into such a column may be anything, as before
    log("log-3.jsonl", {"id": 4, "at": "2024-01-01T10:00:00Z", "day": "soon"})
    project("sync")
    assert stored(name, 'SELECT "at", day FROM log WHERE id = 4') == [("2024-01-01T10:00:00Z", "soon")]


def test_times_of_json_are_times_after_a_full_refresh(project):
    log("log-2.jsonl", {"id": 3, "at": "2024-01-01T10:00:00+00:00", "day": "2024-03-01", "v": "c"})
    spec = Path("strandline.yml").read_text().replace("[duck, lite, lake]", "[duck]")
    kept = [part for part in spec.split("---") if "name: lake" not in part and "name: lite" not in part]
    Path("strandline.yml").write_text("---".join(kept))
    project("sync", "--full-refresh=log")
    log("log-3.jsonl", {"id": 4, "at": "2024-01-01T10:00:00Z", "day": "2024-04-01"})
    project("sync")
    moments = [36_000_000_000, 36_000_500_000, 36_000_000_000, 36_000_000_000]
    days = [date.fromisoformat(day) for _, _, day, _ in LOG] + [date(2024, 4, 1)]
    found = stored("duck", 'SELECT epoch_us("at") - 1704067200000000, day FROM log ORDER BY id')
    assert found == list(zip(moments, days, strict=True))


def test_a_full_refresh_gives_the_types_of_now(project):
    shop(*ADDED)
    spec = Path("strandline.yml").read_text().replace("[duck, lite, lake]", "[duck, lite]")
    Path("strandline.yml").write_text("---".join(part for part in spec.split("---") if "name: lake" not in part))
    assert "change_column" in project("plan", "-v", "--full-refresh", "t").text
    project("sync", *(f"--full-refresh={name}" for name in ("t", "k", "bare")))
    moments = [datetime(2024, 1, 1, 10), datetime(2024, 1, 1, 10, 0, 0, 500_000), datetime(2024, 3, 1)]  # noqa: DTZ001 -- it has no zone
    assert stored("duck", 'SELECT price, "at", day, doc FROM t ORDER BY id') == [
        (Decimal(f"{row[1]:.2f}"), moment, date.fromisoformat(row[3]), row[4])
        for row, moment in zip(T, moments, strict=True)
    ]
    assert stored("duck", "SELECT typeof(doc), typeof(price) FROM t LIMIT 1") == [("JSON", "DECIMAL(12,2)")]
    # a key stays what it is, since a cursor depends on it
    assert stored("duck", "SELECT updated_at, price FROM k ORDER BY id") == [
        (at, Decimal(f"{price:.2f}")) for _, at, price in K
    ]
    shop("INSERT INTO t VALUES (4, 1, '2024-04-01', '2024-04-01', 1, 'null', 'd')")
    project("sync")
    assert stored("duck", 'SELECT price, "at", day, doc FROM t WHERE id = 4') == [
        (Decimal("1.00"), datetime(2024, 4, 1), date(2024, 4, 1), "null")  # noqa: DTZ001 -- it has no zone
    ]
    assert stored("duck", "SELECT count(*) FROM bare") == [(3,)]
    assert [row[0] for row in stored("lite", "SELECT id FROM t ORDER BY id")] == [1, 2, 3, 4]


def test_the_plan_says_that_nothing_changes(project):
    said = project("plan", "-v").text
    assert "change_column" not in said
    assert "widen" not in said
