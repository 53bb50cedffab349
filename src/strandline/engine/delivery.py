"""What is promised of a task about rows that are stored twice, in the words that `plan` and the documentation print."""

from collections.abc import Sequence

from strandline.destination import WriteMode
from strandline.engine.plan import promise
from strandline.table import Table

__all__ = ["APPENDED_IN_FULL", "delivery"]

APPENDED_IN_FULL = "every sync appends all rows again"


def delivery(tables: Sequence[Table], mode: WriteMode, *, transactional: bool, keeps_cursor: bool) -> str:
    """Of the tables of one task. What is read in full and appended is stored again, whatever is committed together."""
    if mode is WriteMode.APPEND and not (keeps_cursor and any(table.incremental for table in tables)):
        return APPENDED_IN_FULL
    said = promise(mode, transactional=transactional, keeps_cursor=keeps_cursor)
    full = [table.name for table in tables if not table.incremental]
    return f"{said}; of {', '.join(full)} {APPENDED_IN_FULL}" if full and mode is WriteMode.APPEND else said
