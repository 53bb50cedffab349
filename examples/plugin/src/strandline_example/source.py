"""The source ``shop``: a JSON API that tells what was changed since a moment, page by page.

The API answers ``GET /orders?since=…&until=…&after=…`` with ``{"rows": […], "next": …}``, sorted by ``updated_at`` and ``id``,
and ``GET /now`` with a moment before which nothing will appear any more. That moment is what makes the cursor honest: it is
asked before the first page, and no row from there on is read before the next sync.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from strandline.errors import RetryableError, TaskError, UnreachableError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Insert, SourceMessage
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import Guarantee, Table

_GUARANTEE = Guarantee(
    "settled (the API's clock)", "an order that the API removes stays; so does what it changes without a new updated_at"
)


def _columns() -> "pa.Schema":
    return pa.schema([("id", pa.int64()), ("status", pa.string()), ("updated_at", pa.string())])


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
        """One table."""
        return [Table("orders", _columns(), ("id",), ("updated_at",), incremental=True, guarantee=_GUARANTEE)]

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """One task."""
        return [Task(table.name, (table,)) for table in tables]

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
            page = self._get(task.id, since=at["since"], until=at["until"], after=at["after"], limit=reading.batch_rows)
            for batch in reading.batches(page["rows"], _columns()):
                yield Insert(task.id, batch)
            if page["next"] is None:
                break
            at["after"] = page["next"]
            yield Checkpoint(dict(at))
        yield Complete(task.id)
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
