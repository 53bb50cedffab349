"""A table in which nothing has happened is not read. What it takes to know that: every way in which something may have happened."""

import re
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest
from postgresql_origin import PARTITIONED, T2, TABLE, Origin, fill

from strandline.connectors.postgresql.unchanged import COUNTED, IDLE, UNWRITTEN
from strandline.destination import Scope
from strandline.errors import TaskError
from strandline.fold.rows import value_of
from strandline.reading import Reading
from strandline.state import StateKey

ELSEWHERE = "INSERT INTO other VALUES (1, 'v') ON CONFLICT (id) DO UPDATE SET v = 'w'"
"""Something happens on the server, though not in the table, so that only a look at the table can tell."""
OTHER = TABLE.replace("TABLE t", "TABLE other")


@pytest.fixture
def mirror(postgresql):
    shop = Origin(postgresql, "overwrite-delete-stale")
    shop.execute(OTHER)
    return shop


def known(shop, table="t"):
    """What the source says of a table: by which evidence it need not be read; empty: it has to be."""
    state = shop.backend.load("shop")[StateKey("shop", table, "d")]
    reading = Reading(
        state.cursor, datetime.now(UTC), mirror=shop.mode == "overwrite-delete-stale", absorbs=shop.mode != "append"
    )
    with closing(shop.source()) as source:
        (task,) = source.tasks([one for one in source.tables() if one.name == table])
        return source.idle([(task, reading)]).get(table, "")


def settle(shop, *statements):
    """Two syncs: the first reads everything, and the second compares all keys."""
    shop.execute(*statements)
    for _ in range(2):
        shop.sync()


def changed(shop):
    """It is read, and what comes of it is what the source has."""
    assert known(shop) == ""
    shop.sync(share_max=1.0)
    with psycopg.connect(shop.uri) as connection:
        assert shop.ids() == sorted(row[0] for row in connection.execute("SELECT id FROM t"))


def test_a_table_is_unchanged_though_the_server_is_busy(mirror):
    settle(mirror, TABLE, fill(1, 9))
    mirror.execute(ELSEWHERE)
    assert known(mirror) == COUNTED
    report = mirror.report()
    assert (report.windows, report.rows_read, report.cursor_to) == (0, 0, report.cursor_from)
    assert report.status == "completed"
    assert mirror.ids() == list(range(1, 10))


def test_a_table_is_unchanged_since_the_server_was_idle(mirror):
    settle(mirror, TABLE, fill(1, 9))
    assert any(known(mirror) == IDLE or mirror.sync() is None for _ in range(20))  # an autovacuum is something, too


def test_a_first_load_is_followed_by_a_comparison_of_all_keys(mirror):
    mirror.execute(TABLE, fill(1, 9))
    mirror.sync()
    assert known(mirror) == ""


def test_without_a_mirror_a_row_that_is_gone_is_no_change(postgresql):
    shop = Origin(postgresql, "overwrite")
    settle(shop, TABLE, OTHER, fill(1, 9), ELSEWHERE)
    shop.execute("DELETE FROM t WHERE id = 3")
    assert known(shop) == UNWRITTEN
    shop.execute("UPDATE t SET v = 'x' WHERE id = 4")
    assert known(shop) == ""


CHANGES = {
    "inserted": [fill(10, 10)],
    "updated": ["UPDATE t SET v = 'x' WHERE id = 3"],
    "deleted": ["DELETE FROM t WHERE id = 3"],
    "exchanged": ["DELETE FROM t WHERE id = 3", fill(10, 10)],
    "same_again": ["DELETE FROM t WHERE id = 3", fill(3, 3)],
    "truncated": ["TRUNCATE t"],
    "filled_again": ["TRUNCATE t", fill(1, 9)],
    "made_again": ["DROP TABLE t", TABLE, fill(1, 9)],
    "made_again_and_empty": ["DROP TABLE t", TABLE],
    "another_of_its_name": ["ALTER TABLE t RENAME TO was", TABLE, fill(11, 19)],
    "another_type": ["ALTER TABLE t ALTER v TYPE varchar(9)"],
    "another_column": ["ALTER TABLE t DROP v, ADD v text"],
    "detached": ["ALTER TABLE t DETACH PARTITION t_2"],
    "attached": ["ALTER TABLE t ATTACH PARTITION t_3 FOR VALUES FROM (200) TO (300)"],
    "analyzed": ["ANALYZE t"],
    "rewritten": ["VACUUM FULL t"],
}
PARTS = [
    *PARTITIONED,
    T2,
    fill(1, 3),
    fill(101, 103),
    "CREATE TABLE t3 (id int PRIMARY KEY, v text)",
    fill(250, 251, table="t3"),
]


def test_whatever_happens_to_a_table_is_noticed_and_nothing_else_is(mirror):
    for name in CHANGES:
        made = PARTS if name.endswith("tached") else [TABLE, fill(1, 9)]
        mirror.execute(*(_of(re.sub(r"\bt([123])\b", r"t_\1", one), name) for one in made))
    mirror.sync()
    mirror.sync()
    mirror.execute(ELSEWHERE)
    assert {known(mirror, name) for name in CHANGES} == {COUNTED}
    for name, statements in CHANGES.items():
        mirror.execute(*(_of(one, name) for one in statements))
    assert {name for name in CHANGES if known(mirror, name)} == {"analyzed", "rewritten"}
    mirror.sync(share_max=1.0)
    for name in CHANGES:
        with mirror.connect() as connection:
            assert mirror.ids(name) == sorted(row[0] for row in connection.execute(f"SELECT id FROM {name}"))


def _of(statement, table):
    """The same of a table of another name, and of its partitions."""
    return re.sub(r"\b(t|was|t_[123])\b", lambda found: table + found[0].removeprefix("t"), statement)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("write", [fill(10, 10), "DELETE FROM t WHERE id = 3"])
def test_who_wrote_before_and_commits_after_is_noticed(mirror, write, end):
    mirror.execute(TABLE, fill(1, 9))
    mirror.sync()
    with psycopg.connect(mirror.uri) as writer:
        writer.execute(write)
        mirror.execute(ELSEWHERE)
        mirror.sync()
        assert known(mirror) == COUNTED
        mirror.execute(ELSEWHERE)
        getattr(writer, end)()
        assert known(mirror) == (COUNTED if end == "rollback" else "")
    mirror.sync()
    assert 3 in mirror.ids() or (end, write[0]) == ("commit", "D")
    assert (10 in mirror.ids()) is ((end, write[0]) == ("commit", "I"))


def test_a_row_that_came_during_the_comparison_is_compared_once_more(mirror):
    """The cursor is older than the comparison: what has come in between looks new, until it was read."""
    mirror.execute(TABLE, fill(1, 9))
    mirror.sync()
    source = mirror.source()
    read = source.read

    def late(task, reading):
        for message in read(task, reading):
            if type(message).__name__ == "Present" and task.id == "t":
                mirror.execute("DELETE FROM t WHERE id = 1", fill(10, 10))
            yield message

    source.read = late
    mirror.sync(source=source)
    changed(mirror)


def test_rows_that_are_hidden_from_the_role_are_noticed(mirror):
    settle(mirror, TABLE, fill(1, 9))
    secured = "ALTER TABLE t ENABLE ROW LEVEL SECURITY"
    mirror.execute("DROP ROLE IF EXISTS keeper", "CREATE ROLE keeper LOGIN", "GRANT SELECT ON t TO keeper", secured)
    assert known(mirror) == COUNTED  # for its owner nothing has changed
    owner, mirror.uri = mirror.uri, mirror.uri.replace("postgres@", "keeper@")
    assert known(mirror) == ""
    mirror.execute("DROP OWNED BY keeper", "DROP ROLE keeper", uri=owner)


def test_labels_of_a_type_are_noticed(mirror):
    settle(
        mirror,
        "CREATE TYPE mood AS ENUM ('sad')",
        "CREATE TABLE t (id int PRIMARY KEY, v mood)",
        fill(1, 3, "'sad'::mood"),
    )
    mirror.execute(ELSEWHERE)
    assert known(mirror) == COUNTED
    mirror.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'glad'")
    assert known(mirror) == ""


def test_a_crash_that_empties_a_table_without_a_log_is_noticed(mirror):
    settle(mirror, TABLE.replace("TABLE", "UNLOGGED TABLE"), fill(1, 9))
    assert known(mirror) == COUNTED  # though nothing has happened: a crash is no transaction


def test_a_table_that_somebody_has_locked_is_left_to_its_task(mirror):
    settle(mirror, TABLE, fill(1, 9))
    with psycopg.connect(mirror.uri) as other:
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        assert known(mirror) == ""
    assert known(mirror) in {COUNTED, IDLE}


@pytest.mark.parametrize("settings", [{"where": "id > 1"}, {"incremental_key": "id"}, {"mode": "full"}])
def test_what_a_look_cannot_tell_is_read(mirror, settings):
    mirror.tables = {"t": settings}
    mirror.execute(TABLE, fill(1, 9))
    mirror.sync()
    mirror.sync()
    state = mirror.backend.load("shop")[StateKey("shop", "t", "d")]
    if state.cursor is not None:
        assert known(mirror) == ""


def test_what_is_appended_is_read(postgresql):
    shop = Origin(postgresql, "append")
    settle(shop, TABLE, fill(1, 9))
    assert known(shop) == ""


def test_a_cursor_of_another_server_or_of_nothing_is_for_its_task(mirror):
    settle(mirror, TABLE, fill(1, 9))
    key = StateKey("shop", "t", "d")
    cursor = mirror.backend.load("shop")[key].cursor
    for other in (
        {"strange": 1},
        {**cursor, "identity": {**cursor["identity"], "system": "1"}},
        {**cursor, "xmin": str(int(cursor["xmin"]) + 10**6)},
    ):
        reading = Reading(other, datetime.now(UTC), mirror=True)
        with closing(mirror.source()) as source:
            (task,) = source.tasks([one for one in source.tables() if one.name == "t"])
            assert source.idle([(task, reading)]) == {}


def test_a_row_that_a_sweep_found_missing_is_looked_for_until_it_is_there(mirror):
    """Whoever is killed before it is read leaves a cursor behind that says: all keys were compared."""
    settle(mirror, TABLE, fill(1, 9))
    mirror.store._store.data.tables["t"].remove(Scope("shop", None, 0), of=lambda _key, row: value_of(row, "id") == 3)
    mirror.execute(fill(10, 10))
    source = mirror.source()

    def killed(*_):
        raise TaskError("killed")

    source.read_keys = killed
    mirror.sync(source=source, code=1)
    assert 3 not in mirror.ids()
    mirror.execute(ELSEWHERE)
    mirror.sync()
    assert mirror.ids() == list(range(1, 11))
