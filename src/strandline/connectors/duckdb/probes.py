"""Whether a DuckDB file can be written to, tried in a transaction that is rolled back."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from strandline.connectors.duckdb.database import Database
from strandline.connectors.duckdb.dialect import DuckDBDialect
from strandline.connectors.sql.file_probes import beside, probe_file
from strandline.probe import Probe, Verdict

__all__ = ["probe_destination"]


def probe_destination(path: str, schema: str, settings: Mapping[str, str]) -> Iterator[Probe]:
    """Probes of the file at ``path``, or where it will be."""
    if path == ":memory:":
        yield Probe("file", Verdict.WARNING, "a database in memory ends with each sync", "name a file in `path`")
        return
    yield from probe_file(Path(path), "DuckDB")
    with beside(Path(path)) as tried:
        database = Database(str(tried), schema, settings)
        try:
            yield _written(database, schema)
        finally:
            database.close()


def _written(database: Database, schema: str) -> Probe:
    sql = DuckDBDialect()
    table = sql.relation(schema, f"_cq_probe_{secrets.token_hex(4)}")
    with database.session() as session, database.meaning("write to it"):
        run = session.cursor.execute
        run("BEGIN TRANSACTION")
        try:
            run(f"CREATE SCHEMA IF NOT EXISTS {sql.quote(schema)}")
            run(f"CREATE TABLE {table} (id BIGINT)")
            run(f"INSERT INTO {table} VALUES (1)")
            run(f"ALTER TABLE {table} ADD COLUMN more VARCHAR")
            run(f"DELETE FROM {table}")
        finally:
            run("ROLLBACK")
    return Probe(
        "rights", Verdict.OK, "tables can be made, changed, written and emptied, and no other process has the file"
    )
