"""The source ``shop``: a JSON API that tells what was changed since a moment, page by page.

The API answers ``GET /orders?since=…&until=…&after=…`` with ``{"rows": […], "next": …}``, sorted by ``updated_at`` and ``id``;
each order has its ``lines``. They become a child table: an order that comes again replaces its lines, for the API tells of no
line that it was removed. It answers ``GET /now`` with a moment before which nothing will appear any more. That moment is what
makes the cursor honest: it is asked before the first page, and no row from there on is read before the next sync.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from strandline.errors import RetryableError, TaskError, UnreachableError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Insert, Replace, SourceMessage
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import Guarantee, Table

_GUARANTEE = Guarantee(
    "settled (the API's clock)", "an order that the API removes stays; so does what it changes without a new updated_at"
)


def _orders() -> "pa.Schema":
    return pa.schema([("id", pa.int64()), ("status", pa.string()), ("updated_at", pa.string())])


def _lines() -> "pa.Schema":
    return pa.schema([("order_id", pa.int64()), ("product", pa.string()), ("count", pa.int64())])


class ShopSource:
    """See ``strandline.source.Source``. The cursor: ``{"since": …, "until": …, "after": …}``, a page of one pass."""

    class Spec(BaseModel):
        """Where the API is."""

        model_config = ConfigDict(extra="forbid")
        url: HttpUrl = Field(description="Of the API, without the table.")
        timeout_s: float = Field(30, gt=0, description="How long to wait for an answer, in seconds.")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def tables(self) -> Sequence[Table]:
        """Orders, and their lines."""
        always: dict[str, Any] = {"incremental": True, "guarantee": _GUARANTEE}
        return [
            Table("orders", _orders(), ("id",), ("updated_at",), **always),
            Table("lines", _lines(), ("order_id", "product"), parent="orders", **always),
        ]

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """One task: orders and lines come together, so they have one cursor."""
        return [Task("orders", tuple(tables))] if tables else []

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """What was changed; a checkpoint after every page, so that an interrupted pass goes on there."""
        at = dict(reading.cursor or {"since": "", "after": None})
        if not {"since", "after"} <= at.keys() <= {"since", "until", "after"}:
            raise TaskError(
                f"{task.id}: the cursor is none of this source's", hint="--full-refresh reads everything again"
            )
        if "until" not in at:
            at["until"] = self._get("now")["now"]
        while True:
            page = self._get(
                "orders", since=at["since"], until=at["until"], after=at["after"], limit=reading.batch_rows
            )
            yield from _page(page["rows"], {table.name for table in task.tables}, reading)
            if page["next"] is None:
                break
            at["after"] = page["next"]
            yield Checkpoint(dict(at))
        yield from (Complete(table.name) for table in task.tables)
        yield Checkpoint({"since": at["until"], "after": None})

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """The API need not be told."""

    def close(self) -> None:
        """Nothing is held."""

    def _get(self, what: str, **query: Any) -> dict[str, Any]:
        asked = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        url = f"{str(self._spec.url).rstrip('/')}/{what}?{asked}"
        try:
            with urllib.request.urlopen(url, timeout=self._spec.timeout_s) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            kind = RetryableError if error.code in {429, 500, 502, 503, 504} else TaskError
            raise kind(f"the API answers {what} with {error.code} {error.reason}") from error
        except (OSError, ValueError) as error:
            raise UnreachableError(
                f"the API at {self._spec.url} does not answer: {error}", hint="look at `url`"
            ) from error


def _page(orders: Sequence[dict[str, Any]], wanted: Collection[str], reading: Reading) -> Iterator[SourceMessage]:
    """The orders of a page, and all of their lines."""
    if "orders" in wanted:
        parents = [{name: value for name, value in order.items() if name != "lines"} for order in orders]
        yield from (Insert("orders", batch) for batch in reading.batches(parents, _orders()))
    if "lines" in wanted:
        lines = [{"order_id": order["id"], **line} for order in orders for line in order["lines"]]
        yield Replace("lines", pa.record_batch({"order_id": pa.array([order["id"] for order in orders], pa.int64())}))
        yield from (Insert("lines", batch) for batch in reading.batches(lines, _lines()))
