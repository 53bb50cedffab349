"""`types` in table_settings, of a source that takes none itself: the engine stores columns so, exactly or not at all."""

import json
from pathlib import Path

import duckdb
import pytest


@pytest.fixture
def synced(command):
    """Syncs generated rows with `types` of their table; the types that DuckDB has, by column."""

    def run(*arguments, code=0, **types):
        settings = {"rows": 5, "types": ["int32", "float64", "string", "timestamp_us", "decimal128", "bool"]}
        source = {"name": "s", "path": "test", "tables": ["*"], "destinations": ["d"], "spec": settings}
        source["table_settings"] = {"test_*": {"types": types}}
        store = {"name": "d", "path": "duckdb", "write_mode": "overwrite", "spec": {"path": "d.duckdb"}}
        documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": store}]
        Path("strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))
        run.said = command("sync", *arguments, code=code).text
        if not Path("d.duckdb").exists():
            return {}
        with duckdb.connect("d.duckdb") as connection:
            columns = connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'test_1'"
            )
            found = dict(columns.fetchall())
            run.rows = (
                connection.execute("SELECT * EXCLUDE (_cq_sync_time) FROM test_1 ORDER BY id").fetchall()
                if found
                else []
            )
        return found

    return run


def test_the_engine_stores_columns_in_the_types_that_the_spec_names(synced):
    synced()
    plain = synced.rows
    for arguments in (["--full-refresh=test_1"], []):
        found = synced(
            *arguments,
            int32="decimal(12, 2)",
            float64="string",
            timestamp_us="timestamp[us, UTC]",
            decimal128="decimal(38, 12)",
            bool="int8",
        )
    assert (found["int32"], found["float64"], found["bool"]) == ("DECIMAL(12,2)", "VARCHAR", "TINYINT")
    assert (found["timestamp_us"], found["decimal128"]) == ("TIMESTAMP WITH TIME ZONE", "DECIMAL(38,12)")
    assert found["string"] == "VARCHAR"
    assert len(synced.rows) == len(plain) == 5
    names = [name for name in found if name != "_cq_sync_time"]
    for was, now in zip(plain, synced.rows, strict=True):
        before, after = dict(zip(names, was, strict=True)), dict(zip(names, now, strict=True))
        assert after["int32"] == before["int32"]
        assert after["bool"] == before["bool"]
        assert after["decimal128"] == before["decimal128"]
        assert before["float64"] is None or float(after["float64"]) == before["float64"]


@pytest.mark.parametrize(
    "types",
    [
        {"string": "int64"},
        {"float64": "int64"},
        {"timestamp_us": "date32"},
        {"decimal128": "decimal(38, 2)"},
        {"int32": "bool"},
    ],
)
def test_a_value_that_does_not_fit_fails_the_table(synced, types):
    synced(code=1, **types)
    assert f"test_1.{next(iter(types))}: a value" in synced.said
    assert not synced.rows


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ({"id": "string"}, "'id' is a key"),
        ({"nothing": "string"}, "no column 'nothing'"),
        ({"string": "nonsense"}, "nonsense"),
    ],
)
def test_types_that_mean_nothing_are_refused(synced, types, words):
    synced.rows = []
    synced(code=2, **types)
    assert words in synced.said
    assert not synced.rows
