"""A window folded into rows by key, for destinations that are no databases: only the last row of a key is left.

What ``Destination.write`` says of each message is done here, once: deletes, sweeps and stale rows within the scope, children
that their parents have no more, the number among equal rows that becomes ``_cq_id``, the delivered set, the end of a full
refresh. A destination loads the rows that it has, folds a window, and makes durable what came of it::

    stored = {name: Rows(table) for …}          # and `add` the stored batches
    fold = Fold(window, mode, stored, delivered)
    fold.take(list(window))
    …                                           # `batch_of(list(rows), rows.table.schema)` is what a table holds now
    return fold.receipt()

Rows stay as they arrived, value by value, so that no type is converted. The destination ``memory`` is made of it, and so are
``strandline.testing.plain`` and the store of JSON files in ``examples/plugin``.
"""

from strandline.fold.rows import Cell, Key, Row, Rows, batch_of, is_in, is_stale, keys_of, order_of, value_of
from strandline.fold.window import Delivered, Fold

__all__ = [
    "Cell",
    "Delivered",
    "Fold",
    "Key",
    "Row",
    "Rows",
    "batch_of",
    "is_in",
    "is_stale",
    "keys_of",
    "order_of",
    "value_of",
]
