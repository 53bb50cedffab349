"""The Python API: what the command line does, as functions. ``import strandline as sl`` has all of it, and imports it when it is used.

::

    report = sl.sync(issues, to=sl.duckdb("warehouse.duckdb"))    # functions with @sl.table
    sl.sync(sl.postgresql(url), to=sl.duckdb("warehouse.duckdb"), select=["orders"])
    sl.load("strandline.yml").sync()                              # as `strandline sync strandline.yml`

Every plugin that is installed is a function here, by its name: ``sl.duckdb``, ``sl.postgresql``. What it makes is a source, a
destination or a state backend, as it is used.
"""

from strandline.api.places import Destination, Plugin, Source, destination, plugin, source
from strandline.api.project import Project, SelectedTable, load, plan, sync
from strandline.api.report import Plan, Report, SyncError, TableReport
from strandline.api.running import Running
from strandline.connectors.python.functions import checkpoint, table

__all__ = [
    "Destination",
    "Plan",
    "Plugin",
    "Project",
    "Report",
    "Running",
    "SelectedTable",
    "Source",
    "SyncError",
    "TableReport",
    "checkpoint",
    "destination",
    "load",
    "plan",
    "plugin",
    "source",
    "sync",
    "table",
]
