"""What was there before a sync, and is not Strandline's, is there after it, as it was."""

import json

import pytest
from places import DATABASES, SOURCES, between

WAYS = [("sync",), ("migrate",), ("sync", "--full-refresh", "*")]


def source(origin, name="shop", into=("warehouse",), **settings):
    return {"kind": "source", "spec": {"name": name, "destinations": list(into), **origin.spec, **settings}}


def warehouse(store, name="warehouse", mode="append", **settings):
    spec = {**store.spec["spec"], **settings}
    return {"kind": "destination", "spec": {"name": name, "write_mode": mode, **store.spec, "spec": spec}}


@pytest.fixture
def strandline(bench, command):
    """Write a spec of these documents, and give a command; expects an exit code."""

    def run(documents, *arguments, code=0):
        (bench.directory / "strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))
        return command(*arguments, code=code)

    return run


def shop(bench):
    bench.origin.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, 'shop')")


@between("sqlite")
def test_hole_s_rows_of_somebodys_table_are_not_overwritten(bench, strandline):
    shop(bench)
    bench.origin.execute("CREATE TABLE u (id INTEGER PRIMARY KEY)", "CREATE TABLE w (id INTEGER PRIMARY KEY)")
    if "files" in bench.pair:
        folder = bench.directory / "warehouse.files" / "t"
        folder.mkdir(parents=True)
        (folder / "theirs.parquet").write_bytes(b"theirs")
        bench.origin.execute("DROP TABLE u")
    else:
        for table in ("t", "u"):
            bench.store.execute(
                f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v TEXT, extra TEXT)",
                f"INSERT INTO {table} VALUES (1, 'theirs', 'precious')",
            )
    spec = [source(bench.origin), warehouse(bench.store, mode=bench.mode)]
    for way in (("plan",), *WAYS):
        said = strandline(spec, *way, code=2).text
        assert "'t'" in said
        assert "drop" not in said.lower()
        if "files" not in bench.pair:
            assert "'u'" in said, "every such table is listed, not the first only"
    if "files" in bench.pair:
        assert [path.read_bytes() for path in folder.iterdir()] == [b"theirs"]
    else:
        assert bench.store.tables() >= {"t", "u"}
        assert not bench.store.tables() & {"w", "cq_state", "cq_tables"}, "nothing was touched"
        for table in ("t", "u"):
            assert bench.store.rows("*", table) == [(1, "theirs", "precious")]
            assert bench.store.columns(table) == ["extra", "id", "v"]


@between("sqlite", DATABASES, "overwrite")
def test_hole_s_a_table_is_taken_over_only_by_who_says_so(bench, strandline):
    shop(bench)
    bench.store.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (2, 'theirs')")
    spec = [source(bench.origin), warehouse(bench.store, mode="overwrite")]
    strandline(spec, "sync", code=2)
    adopts = [source(bench.origin, table_settings={"t": {"adopt": True}}), spec[1]]
    strandline(adopts, "sync")
    assert bench.store.rows() == [(1, "shop"), (2, "theirs")]
    strandline(spec, "sync")
    assert bench.store.rows() == [(1, "shop"), (2, "theirs")]


@between("sqlite", DATABASES, "overwrite")
def test_hole_s_somebodys_own_cq_state_is_left_alone(bench, strandline):
    shop(bench)
    bench.store.execute("CREATE TABLE cq_state (id INTEGER, v TEXT)", "INSERT INTO cq_state VALUES (1, 'theirs')")
    spec = [source(bench.origin), warehouse(bench.store, mode="overwrite")]
    for way in (("plan",), *WAYS):
        said = strandline(spec, *way, code=2).text
        assert "cq_state" in said
        assert "schema" in said
        assert "drop" not in said.lower()
    assert bench.store.rows("*", "cq_state") == [(1, "theirs")]
    assert "t" not in bench.store.tables()


@pytest.mark.parametrize("bench", [(one, one, "overwrite") for one in SOURCES], ids="-".join, indirect=True)
def test_hole_t_a_source_is_not_altered_by_a_sync_into_itself(bench, strandline):
    bench.store.spec = bench.origin.spec
    shop(bench)
    spec = [source(bench.origin), warehouse(bench.store, mode="overwrite")]
    for way in (("plan",), *WAYS):
        assert "same database" in strandline(spec, *way, code=2).text
    bench.origin.execute("INSERT INTO t VALUES (2, 'another')")  # as before, without a column more


@between("sqlite", DATABASES, "overwrite")
def test_hole_u_two_sources_do_not_overwrite_each_others_rows(bench, strandline):
    shop(bench)
    two = [source(bench.origin, "one"), source(bench.origin, "two"), warehouse(bench.store, mode="overwrite")]
    for way in (("plan",), *WAYS):
        assert "`shared: true`" in strandline(two, *way, code=2).text
    strandline([two[0], two[2]], "sync")
    assert "one" in strandline([two[1], two[2], two[0]], "sync", code=2).text
    assert bench.store.rows("id, _cq_source_name") == [(1, "one")]


@between("sqlite", DATABASES, "append")
def test_hole_s_two_destinations_that_are_one_do_not_have_rows_twice(bench, strandline):
    shop(bench)
    spec = [
        source(bench.origin, into=("one", "two")),
        warehouse(bench.store, "one"),
        warehouse(bench.store, "two"),
    ]
    for way in (("plan",), *WAYS):
        assert "`schema`" in strandline(spec, *way, code=2).text
    spec[2] = warehouse(bench.store, "two", schema="apart")
    strandline(spec, "sync")
    assert bench.store.rows() == [(1, "shop")]


def precious(bench, table="t"):
    """A table of that name that somebody has made, with a row."""
    bench.store.execute(
        f"CREATE TABLE {table} (id BIGINT PRIMARY KEY, v TEXT, extra TEXT)",
        f"INSERT INTO {table} VALUES (1, 'theirs', 'precious')",
    )


def untouched(bench, table="t"):
    assert bench.store.rows("*", table) == [(1, "theirs", "precious")]
    assert bench.store.columns(table) == ["extra", "id", "v"]


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("migrate_mode", ["safe", "forced"])
@between("sqlite", DATABASES, "overwrite")
def test_hole_s_a_table_that_somebody_made_in_the_place_of_ours_is_theirs(bench, strandline, rows, migrate_mode):
    bench.origin.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    if rows:
        bench.origin.execute("INSERT INTO t VALUES (7, 'shop')")
    spec = [source(bench.origin), warehouse(bench.store, mode=bench.mode)]
    spec[1]["spec"]["migrate_mode"] = migrate_mode
    strandline(spec, "sync")
    bench.store.execute("DROP TABLE t")
    precious(bench)
    bench.origin.execute("INSERT INTO t VALUES (1, 'shop')")
    for way in (("plan",), *WAYS):
        assert "'t'" in strandline(spec, *way, code=2).text
    strandline(spec, "state", "reset", "--yes", "shop", "t")
    for way in WAYS:
        strandline(spec, *way, code=2)
    untouched(bench)


@between("sqlite", DATABASES, "overwrite")
def test_hole_s_a_table_is_theirs_though_its_columns_are_as_ours(bench, strandline):
    shop(bench)
    spec = [source(bench.origin), warehouse(bench.store, mode="overwrite")]
    strandline(spec, "sync")
    bench.store.create_again()
    bench.store.execute("UPDATE t SET _cq_source_name = 'theirs', v = 'precious'")
    for way in WAYS:
        strandline(spec, *way, code=2)
    assert bench.store.rows() == [(1, "precious")]


@between("sqlite", DATABASES, "overwrite")
def test_hole_s_a_table_of_the_sources_name_is_not_the_stored_one(bench, strandline):
    shop(bench)
    stored = warehouse(bench.store, mode="overwrite")
    strandline([source(bench.origin, table_settings={"t": {"name": "mine"}}), stored], "sync")
    precious(bench)
    for way in (("plan",), *WAYS):
        strandline([source(bench.origin), stored], *way, code=2)
    untouched(bench)
