"""Tables that come in one answer with an ``ETag``: they are read only when the API says that they are others than before."""

from collections.abc import Callable, Iterator

from strandline.connectors.pages.stream import Fetch, Mark
from strandline.connectors.rest.asking import Asking
from strandline.connectors.rest.client import Client
from strandline.message import Checkpoint, Complete, Insert, Notice, SourceMessage, Truncate
from strandline.reading import Reading
from strandline.source import Task
from strandline.warned import Code

__all__ = ["unless_unchanged"]


def unless_unchanged(
    asking: Asking,
    client: Client,
    task: Task,
    reading: Reading,
    partition: str | None,
    read: Callable[[Fetch], Iterator[SourceMessage]],
) -> Iterator[SourceMessage]:
    """All rows in the place of those before, or nothing if there is nothing new.

    Args:
        asking: how the table is asked for.
        client: asks.
        task: of the table.
        reading: what is asked for.
        partition: which.
        read: makes messages of pages.

    Raises:
        As ``Asking.pages``.
    """
    mark = (reading.cursor or {}).get("mark")
    known = str(mark.get("etag") or "") if isinstance(mark, dict) else ""
    answer, records = asking.once(client, {"partition": partition}, reading.alive, etag=known)
    if records is None:
        yield from (Complete(table.name) for table in task.tables)
        yield Checkpoint(reading.cursor)
        return
    if not records:
        text = f"{asking.name}: there are no records any more; those that are stored stay until a full refresh"
        yield Notice(asking.name, text, Code.ROWS_KEPT)
    pages = [records, Mark({"etag": answer.headers.get("etag") if records else None})]
    replaces = True
    for message in read(lambda _began: pages):
        if replaces and isinstance(message, Insert):
            yield Truncate(message.table)
            replaces = False
        yield message
