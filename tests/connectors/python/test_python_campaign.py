"""Processes that sync table functions are killed, suspended and kept from writing, and are started again."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from strandline.testing.campaign.suite import CampaignConformance

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MODULE = """
import json
from pathlib import Path

import strandline as sl

ROWS = json.loads(Path(__file__).with_name("rows.json").read_text("utf-8"))


@sl.table(primary_key="id", incremental_key="at", sorted={sorted})
def items(cursor):
    since = "" if cursor is None else cursor.strftime("%Y-%m-%dT%H:%M:%SZ")
    for start in range(0, len(ROWS), 3):
        yield [row for row in ROWS[start : start + 3] if row["at"] >= since]


@sl.table(parent=items)
def parts(item):
    yield [{{"n": n, "v": item["v"]}} for n in range(item["id"] % 3)]
"""


def items_at(step):
    """By the time of their last change; the second step changes two, and brings two."""
    first = [{"id": n, "at": NOW + timedelta(minutes=n), "v": f"v{n}"} for n in range(1, 9)]
    later = [{"id": n, "at": NOW + timedelta(minutes=60 + n), "v": "changed"} for n in (1, 2, 20, 21)]
    return first[2:] + later if step else first


class FunctionCampaign(CampaignConformance):
    STEPS = 2
    MODE, DESTINATION, PATH, SORTED = "append", "files", "lake", True

    @pytest.fixture
    def documents(self):
        def written(directory, step):
            rows = [row | {"at": f"{row['at']:%Y-%m-%dT%H:%M:%SZ}"} for row in items_at(step)]
            (directory / "rows.json").write_text(json.dumps(rows if self.SORTED else rows[::-1]), "utf-8")
            (directory / "our_items.py").write_text(MODULE.format(sorted=self.SORTED), "utf-8")
            state = {"backend": "local", "backend_spec": {"path": str(directory / "state")}}
            into = {"path": self.DESTINATION, "write_mode": self.MODE, "spec": {"path": str(directory / self.PATH)}}
            return [("source", {"path": "our_items", "registry": "python", **state}), ("destination", into)]

        return written

    @pytest.fixture
    def rows(self):
        def stored(step):
            items = (items_at(0)[:2] if self.MODE == "append" and step else []) + items_at(step)
            parts = [(item["id"], n, item["v"]) for item in items for n in range(item["id"] % 3)]
            return {"items": items, "parts": [{"items_id": i, "position": n, "n": n, "v": v} for i, n, v in parts]}

        return stored


class TestSortedAndAppendedToFiles(FunctionCampaign):
    pass


class TestNewestFirstAndMirroredInDuckDB(FunctionCampaign):
    MODE, DESTINATION, PATH, SORTED = "overwrite-delete-stale", "duckdb", "warehouse.duckdb", False
