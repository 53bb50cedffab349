"""Rows that are replaced with their parent: a sync is killed at every call."""

import pyarrow as pa
import pytest

from sampling import SHARE
from strandline.destination import WriteMode
from strandline.errors import TaskError
from strandline.message import Checkpoint, Complete, Insert, Replace
from strandline.plugins import load_plugin
from strandline.source import Task
from strandline.table import Table
from strandline.testing.kills import KillConformance
from strandline.testing.plain import PlainDestination

pytestmark = pytest.mark.crash

ORDERS = Table("orders", pa.schema({"id": pa.int64(), "day": pa.int64()}), ("id",), incremental=True)
LINES = Table(
    "lines",
    pa.schema({"order": pa.int64(), "product": pa.string()}),
    ("order", "product"),
    incremental=True,
    parent="orders",
)
PLACED = pa.schema({"order": pa.int64(), "place": pa.int64(), "tag": pa.string()})
TAGS = Table("tags", PLACED, ("order", "place"), incremental=True, parent="orders")
DAYS = [
    {order: (["tea", "milk", "jam"], ["new", "new", "gift"]) for order in range(4)},
    {0: (["tea"], ["new"]), 3: ([], []), 1: (["jam", "salt"], ["new", "new", "new"]), 4: (["tea"], [])},
]
"""By day, the orders that changed: products and tags. A tag may be there twice, so its key is its place."""


class Shop:
    """The cursor: the day and the order of the last page; each page is two orders with all that belongs to them."""

    def __init__(self, day):
        self.day = day

    def tables(self):
        return [ORDERS, LINES, TAGS]

    def tasks(self, tables):
        return [Task("orders", tuple(tables))]

    def read(self, task, reading):
        at = reading.cursor or {"day": 0, "next": 0}
        if at.keys() != {"day", "next"}:
            raise TaskError("not a cursor of this source", hint="--full-refresh")
        first = at["next"]
        for day in range(at["day"], self.day + 1):
            orders = list(DAYS[day].items())
            for page in range(first, len(orders), 2):
                yield from self.page(day, orders[page : page + 2])
                yield Checkpoint({"day": day, "next": page + 2})
            first = 0
        yield from (Complete(table.name) for table in task.tables)
        yield Checkpoint({"day": self.day + 1, "next": 0})

    def page(self, day, orders):
        ids = [order for order, _ in orders]
        yield Insert("orders", pa.record_batch([ids, [day] * len(ids)], ORDERS.schema))
        for table, children in ((LINES, lines(dict(orders))), (TAGS, tags(dict(orders)))):
            yield Replace(table.name, pa.record_batch({"order": pa.array(ids, pa.int64())}))
            yield Insert(table.name, pa.RecordBatch.from_pylist(children, table.schema))

    def acknowledge(self, task, cursors):
        pass

    def close(self):
        pass


def lines(orders):
    return [{"order": order, "product": product} for order, (products, _) in orders.items() for product in products]


def tags(orders):
    placed = [(order, place, tag) for order, (_, some) in orders.items() for place, tag in enumerate(some)]
    return [{"order": order, "place": place, "tag": tag} for order, place, tag in placed]


def stored(step):
    """What has to be there after a day."""
    days = {order: day for day in range(step + 1) for order in DAYS[day]}
    orders = {order: children for day in DAYS[: step + 1] for order, children in day.items()}
    heads = [{"id": order, "day": day} for order, day in days.items()]
    return {"orders": heads, "lines": lines(orders), "tags": tags(orders)}


class TestCommittedApart(KillConformance):
    """In a store without transactions. The package in ``examples/plugin`` has a source of this kind killed before SQLite."""

    SHARE = SHARE
    STEPS, ROWS_MAX, WRITE_MODE = 2, 5, WriteMode.OVERWRITE

    @pytest.fixture
    def rows(self):
        return stored

    @pytest.fixture
    def plugins(self):
        keep = load_plugin("state_backend", "local")
        return lambda directory, step: (
            Shop(step),
            PlainDestination(PlainDestination.Spec(path=str(directory / "rows"), delivery="idempotent")),
            keep(keep.Spec(path=str(directory / "states"))),
        )
