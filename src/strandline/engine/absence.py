"""What a source does not name, and whether it is gone."""

from strandline.destination import WriteMode
from strandline.engine.plan import has_other_rows
from strandline.message import Present, Replace
from strandline.state import Pass, State
from strandline.table import Table

__all__ = ["why_kept"]


def why_kept(
    message: Present | Replace, mode: WriteMode, current: Pass, table: Table, state: State | None
) -> str | None:
    """Why rows that the source does not name are kept, in words; empty: nobody need know. ``None``: they are gone.

    Args:
        message: what names rows, or the parents of rows.
        mode: how rows are written.
        current: the pass.
        table: as the source offers it.
        state: of the lineage; ``None``: there is none, or the rows are hidden ones.
    """
    again, sweep = f"--full-refresh {table.name!r} replaces them", isinstance(message, Present)
    if mode is WriteMode.APPEND:
        return ""
    if current.spares:
        # what is not to be seen now may come back. The next sync sweeps; but no parent is read again because of that
        what = f"rows of {table.name!r} that their parents have no more are kept"
        return "" if sweep else f"the cursor had expired, so {what}; {again}"
    if state is not None and has_other_rows(table, state.tables.get(table.name)):
        by = "sweep of keys" if sweep else "rows of their parents"
        return f"rows of {table.name!r} were read with another filter, so none is removed by the {by}; {again}"
    return None
