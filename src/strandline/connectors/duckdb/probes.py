"""Whether a DuckDB file can be written to, tried in a transaction that is rolled back."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from strandline.connectors.duckdb.database import Database
from strandline.connectors.sql.file_probes import beside, probe_file, try_writing
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
    with database.session() as session, database.meaning("write to it"):
        try_writing(session, "BEGIN TRANSACTION", f"CREATE SCHEMA IF NOT EXISTS {session.dialect.quote(schema)}")
    return Probe(
        "rights", Verdict.OK, "tables can be made, changed, written and emptied, and no other process has the file"
    )
