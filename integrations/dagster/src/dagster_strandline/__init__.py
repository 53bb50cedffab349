"""Strandline in Dagster: an asset for each table of a spec."""

from dagster_shared.libraries import DagsterLibraryRegistry

from dagster_strandline.component import StrandlineSpecComponent
from dagster_strandline.tables import SpecTable

__all__ = ["SpecTable", "StrandlineSpecComponent"]

__version__ = "0.1.0"

DagsterLibraryRegistry.register("dagster-strandline", __version__, is_dagster_package=False)
