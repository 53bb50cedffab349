"""What is promised of a task about rows that are stored twice, in the words that `plan` and the documentation print."""

from collections.abc import Sequence

from strandline.destination import Delivery, WriteMode
from strandline.table import Table

__all__ = ["APPENDED_IN_FULL", "delivery"]

APPENDED_IN_FULL = "every sync appends all rows again"
_APPENDED = {
    Delivery.ATOMIC: "each row version once: rows, cursor and delivered set are committed together",
    Delivery.IDEMPOTENT: (
        "no gap; what an interruption leaves is replaced, but a row that is read again (at the cursor, within `lag`, or "
        "without a key) is stored again"
    ),
    Delivery.PLAIN: (
        "no gap; a row that is read again (at the cursor, within `lag`, or without a key) is stored again, and after an "
        "interruption so are those of one window"
    ),
}


def delivery(tables: Sequence[Table], mode: WriteMode, able: Delivery, *, keeps_cursor: bool) -> str:
    """Of the tables of one task. What is read in full and appended is stored again, whatever is committed together."""
    if mode is WriteMode.APPEND and not (keeps_cursor and any(table.incremental for table in tables)):
        return APPENDED_IN_FULL
    said = _promise(mode, able, keeps_cursor=keeps_cursor)
    full = [table.name for table in tables if not table.incremental]
    return f"{said}; of {', '.join(full)} {APPENDED_IN_FULL}" if full and mode is WriteMode.APPEND else said


def _promise(mode: WriteMode, able: Delivery, *, keeps_cursor: bool) -> str:
    if not keeps_cursor:
        return "no cursor is kept: every sync reads everything"
    if mode is WriteMode.APPEND:
        return _APPENDED[able]
    if able is Delivery.ATOMIC:
        return "effectively once: rows and cursor are committed together"
    return "no gap; rows delivered twice are absorbed by the primary key"
