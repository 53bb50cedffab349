"""Directories of files, written by hand, and what is in sight there."""

import duckdb
import pyarrow as pa

from strandline.connectors.files.destination import FilesDestination
from strandline.destination import WriteMode
from strandline.table import CQ_ID, SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.windows import Lineage

SALES = Table(
    "sales",
    pa.schema(
        {
            SYNC_TIME: sync_time_type(),
            SOURCE_NAME: pa.string(),
            "id": pa.int64(),
            "country": pa.string(),
            "day": pa.date32(),
        }
    ),
    ("id",),
)


def lake(root, **settings):
    return FilesDestination(FilesDestination.Spec(path=str(root), **settings))


def lineage(destination, *tables):
    one = Lineage(destination, WriteMode.APPEND)
    one.migrate(*tables or (SALES,))
    return one


def sale(one, *ids, country="DE", day=0, table=SALES, **more):
    count = len(ids)
    return one.insert(table, id=list(ids), country=[country] * count, day=[day] * count, **more)


def files(root, suffix=".parquet"):
    return sorted(str(path.relative_to(root)) for path in root.rglob(f"*{suffix}*"))


def hidden(root):
    return [path for path in (root / ".strandline" / "staged").rglob("*") if path.is_file() and path.name != ".lock"]


def seen(root):
    return sorted(
        row[0]
        for row in duckdb.sql(f"SELECT id FROM read_parquet('{root}/**/*.parquet', union_by_name = true)").fetchall()
    )


EVENTS = Table(
    "events",
    pa.schema({SYNC_TIME: sync_time_type(), SOURCE_NAME: pa.string(), CQ_ID: pa.uuid(), "id": pa.int64()}),
    (CQ_ID,),
)
