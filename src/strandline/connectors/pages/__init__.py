"""Streams of records that come in pages, as APIs have them: what a source of an API shares with the next one.

A source declares each of its streams, says how their pages are fetched, and passes on what comes out::

    class ShopSource:
        def __init__(self, spec: Spec) -> None:
            orders = Stream(
                "orders",
                primary_key=("id",),
                incremental_key="updated_at",    # the greatest value is the cursor, as far as it is honest
                sorted=False,                    # True: checkpoints in mid-stream; checked
                now=self._clock_of_the_server,   # called before the first page; the cursor never passes it
                shape=Shape(objects="struct", lists="list", conflicts="fail", types={"price": pa.decimal128(38, 9)}),
                path=json_path("data.items"),    # where the records lie, if pages are JSON
            )
            self._orders = Opened(orders, lambda partition: self._pages)

        def _pages(self, since: datetime | None) -> Iterator[Page]:
            ...                                  # JSON (bytes), lists of dicts, or anything with Arrow's PyCapsule interface

        def tables(self): return self._orders.tables()
        def tasks(self, tables): return [Task("orders", tuple(tables))]
        def read(self, task, reading): return self._orders.read(task, reading)
        def close(self): self._orders.close()

- ``since`` is the value of the incremental key from which on rows are wanted, in the type of its column: ``None`` from nothing. Rows
  of this very value come again, and are marked so. A stream without a key is read in full. With ``marks=True`` the pages may have a
  ``Mark(cursor)`` between them, and ``since`` is the cursor of the last one: any JSON mapping.
- **Columns**: ``tables()`` looks at the first page that has records, unless ``declared`` and ``closed`` say all. A read from nothing goes
  on with the pages of that look. Columns that are new later come as a ``Schema`` in mid-stream; where rows were sent that no
  checkpoint follows yet, the pass begins again and is read to its end before the first row is sent (``GrewError``, which the engine
  tries again). The cursor keeps the columns, so that a field that no record of a pass has is null, and a type stays what it was.
- **Children**: ``Child`` is a stream that is fetched once for each row of its parent, and may have ``children``; ``Shape(lists="tables")`` makes tables of lists.
  Both send ``Replace``, so that children that are gone are removed. All tables of a stream and its children are one task.
- **Partitions**: one ``Task`` for each, with ``partition``; ``fetch`` is given it. What fails in fetching fails its task alone.
"""

from strandline.connectors.arrow.json_path import JSONPath, json_path
from strandline.connectors.pages.documents import parsed
from strandline.connectors.pages.opened import Opened
from strandline.connectors.pages.reading import GrewError
from strandline.connectors.pages.records import Page
from strandline.connectors.pages.shape import Shape
from strandline.connectors.pages.stream import Child, Fetch, Mark, Stream

__all__ = [
    "Child",
    "Fetch",
    "GrewError",
    "JSONPath",
    "Mark",
    "Opened",
    "Page",
    "Shape",
    "Stream",
    "json_path",
    "parsed",
]
