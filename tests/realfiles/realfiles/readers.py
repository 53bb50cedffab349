"""The three readers: Strandline through a real DuckDB file, DuckDB's own, and Arrow's."""

import contextlib

import duckdb
import pyarrow as pa
from pyarrow import csv as pa_csv
from pyarrow import json as pa_json
from pyarrow import parquet as pa_parquet

from realfiles.values import rows_of
from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.plugins import load_plugin
from strandline.table import CQ_ID, SOURCE_NAME, SYNC_TIME

TABLE = "real"
_OURS = {SYNC_TIME, SOURCE_NAME, CQ_ID}


class RefusedError(Exception):
    """The file was not read, with the reason."""


def _open(kind, name, **settings):
    cls = load_plugin(kind, name)
    return cls(cls.Spec(**settings))


def stored(path, settings, folder):
    """What two syncs of the file leave in DuckDB, in the order in which it came.

    Raises:
        RefusedError: the sync failed.
    """
    warehouse = folder / "warehouse.duckdb"
    for _ in range(2):
        _synced(path, settings, warehouse)
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        table = connection.sql(f"SELECT * FROM {TABLE} ORDER BY rowid").to_arrow_table()
    return rows_of(table.select([name for name in table.column_names if name not in _OURS]))


def _synced(path, settings, warehouse):
    source = _open("source", "files", path=str(path), table=TABLE, **settings)
    into = _open("destination", "duckdb", path=str(warehouse))
    with contextlib.closing(source), contextlib.closing(into):
        report = sync(Job("realfiles", source, [Into("warehouse", into, WriteMode.APPEND)], backend=None))
    errors = [error for error in (report.error, *(task.error for task in report.tasks)) if error is not None]
    if errors:
        raise RefusedError(f"{errors[0]} ({getattr(errors[0], 'hint', '')})")
    if report.exit_code:
        raise RefusedError(f"exit code {report.exit_code} without an error")


def by_duckdb(path, kind):
    """What DuckDB's own reader makes of the file, with nothing said."""
    read = {"csv": "read_csv", "json": "read_json", "parquet": "read_parquet"}[kind]
    with duckdb.connect() as connection:
        return rows_of(connection.sql(f"SELECT * FROM {read}(?)", params=[str(path)]).to_arrow_table())


def by_arrow(path, kind, delimiter):
    """What Arrow's reader makes of it, with the delimiter said."""
    if kind == "parquet":
        return rows_of(pa_parquet.ParquetFile(path).read())
    with pa.input_stream(str(path), compression="detect") as stream:
        if kind == "json":
            return rows_of(pa_json.read_json(stream))
        parse = pa_csv.ParseOptions(delimiter=delimiter or ",", newlines_in_values=True)
        convert = pa_csv.ConvertOptions(null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False)
        return rows_of(pa_csv.read_csv(stream, parse_options=parse, convert_options=convert))
