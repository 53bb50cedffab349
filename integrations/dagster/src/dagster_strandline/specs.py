"""How a table is described as an asset, and what a materialisation of one says."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import dagster as dg

import strandline as sl
from dagster_strandline.tables import SpecTable

__all__ = ["asset_spec", "metadata", "op_name"]

_KINDS_MAX = 3


def asset_spec(table: SpecTable) -> dg.AssetSpec:
    """By default: ``shop/orders`` for the table ``orders`` of the source ``shop``, as dbt's sources are called, too."""
    described = {
        "dagster/column_schema": _columns(table),
        "table": table.stored,
        "destinations": ", ".join(table.destinations),
        "primary_key": ", ".join(table.primary_key) or "none",
        "incremental": ", ".join(table.incremental_key) or ("yes" if table.incremental else "no"),
        "guarantee": table.guarantee,
    }
    return dg.AssetSpec(
        key=[_part(table.source), _part(table.stored)],
        description=table.description or None,
        group_name=re.sub(r"\W", "_", table.source, flags=re.ASCII),
        kinds=set(["strandline", *dict.fromkeys(map(_kind, table.plugins))][:_KINDS_MAX]),
        metadata=described,
    )


def op_name(source: str) -> str:
    """Of the op that syncs a source."""
    return re.sub(r"\W", "_", f"strandline_{_part(source)}", flags=re.ASCII)


def _part(name: str) -> str:
    """A part of an asset key. Dagster makes identifiers of them, so that what none is made of is told apart by a hash."""
    if re.fullmatch(r"[\w.-]+", name, re.ASCII):
        return name
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII) + "_" + hashlib.sha256(name.encode()).hexdigest()[:8]


def _kind(plugin: str) -> str:
    return re.sub(r"[^a-z0-9]", "", plugin.lower()) or "strandline"


def _columns(table: SpecTable) -> dg.TableSchema:
    columns = [
        dg.TableColumn(name, type=kind, constraints=dg.TableColumnConstraints(nullable=nullable))
        for name, kind, nullable in table.columns
    ]
    return dg.TableSchema(columns)


def metadata(reports: Sequence[sl.TableReport]) -> dict[str, Any]:
    """Of a table that was synced; of several destinations, each by its name."""
    if len(reports) == 1:
        return _of_one(reports[0])
    return {f"{one.destination}/{name}": value for one in reports for name, value in _of_one(one).items()}


def _of_one(one: sl.TableReport) -> dict[str, Any]:
    told = {
        "rows_read": one.rows_read,
        "rows_written": one.rows_written,
        "rows_deleted": one.rows_deleted,
        "cursor_before": one.cursor_from,
        "cursor_after": one.cursor_to,
        "delivery": one.delivery,
        "guarantee": one.guarantee,
        "duration_s": one.seconds,
    }
    return told | ({"written_and_deleted_with": ", ".join(one.beside)} if one.beside else {})
