"""One run of a dlt pipeline, as a JSON on the command line says; runs in dlt's own environment.

``python with_dlt.py '{"source": …}'``. Exit code 0 is a run that ended; an exception is a traceback and exit code 1.
"""

import json
import os
import sys

import dlt
from dlt.destinations.impl.duckdb.duck import DuckDbCopyJob
from dlt.sources import filesystem
from dlt.sources.sql_database import sql_database, sql_table
from fault import Fault

told = json.loads(sys.argv[1])

RUNS_MAX = 100


def watch(fault):
    run, normalize = DuckDbCopyJob.run, dlt.Pipeline.normalize

    def running(self):
        ours = self.load_table_name == "t"
        if ours:
            fault.reach("load")
        run(self)
        if ours:
            fault.reach("stored")

    def normalizing(self, *arguments, **more):
        fault.reach("extracted")
        return normalize(self, *arguments, **more)

    DuckDbCopyJob.run, dlt.Pipeline.normalize = running, normalizing


def files():
    """As dlt's page on files does it: those that were changed since the last run, by a reader."""
    listed = filesystem.filesystem(bucket_url=told["source"], file_glob="t/*")
    listed.apply_hints(incremental=dlt.sources.incremental("modification_date"))
    reader = getattr(filesystem, told["files"]["reader"])(**told["files"]["options"])
    table = (listed | reader).with_name("t")
    table.apply_hints(write_disposition=told["write_disposition"], primary_key=told["primary_key"])
    yield table


def tables(fault):
    names = told["tables"]
    if names == ["*"]:
        names = list(sql_database(credentials=told["source"], reflection_level="minimal").resources)
    for name in names:
        cursor = dlt.sources.incremental(**told["incremental"]) if told.get("incremental") else None
        table = sql_table(
            credentials=told["source"],
            table=name,
            backend=told.get("backend", "pyarrow"),
            chunk_size=told.get("chunk_size", 1000),
            incremental=cursor,
        )

        def seen(item):
            fault.read(item.num_rows)
            fault.progress(item.num_rows)  # nothing is loaded before all is extracted
            return item

        table.add_map(seen)
        hints = {"write_disposition": told["write_disposition"]}
        if told.get("primary_key"):
            hints["primary_key"] = told["primary_key"]
        table.apply_hints(**hints)
        if told.get("limit"):
            table.add_limit(told["limit"])
        yield table


def main():
    fault = Fault(os.environ.get("HOLES_FAULT"))
    watch(fault)
    make = {"duckdb": dlt.destinations.duckdb, "postgresql": dlt.destinations.postgres}[told["to"]]
    pipeline = dlt.pipeline(
        told["pipeline"],
        destination=make(told["target"]),
        dataset_name=told["dataset"],
        pipelines_dir=told["work"],
    )
    if told.get("drop_pending"):
        pipeline.drop_pending_packages()
    more = {"refresh": told["refresh"]} if told.get("refresh") else {}
    for _ in range(RUNS_MAX if told.get("limit") else 1):
        # with a limit, one run after the other until there is nothing new, as dlt's page on long loads does
        if pipeline.run(list(files() if told["files"] else tables(fault)), **more).is_empty:
            break
    fault.reach("end")


if __name__ == "__main__":
    main()
