"""What a sync does to things that people have attached to the stored tables, said before it is done."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from strandline.destination import WriteMode
from strandline.rules import TableRules
from strandline.table import Table
from strandline.warned import Code, Warned

if TYPE_CHECKING:
    from strandline.engine.plan import Lineage

__all__ = ["losses", "referred"]


def losses(lineage: "Lineage", *, anew: bool) -> Iterator[Warned]:
    """What is lost; in a full refresh (``anew``) too."""
    for table in lineage.tables:
        found = lineage.found.get(table.name)
        if found is None:
            continue
        if found.kept and found.users:
            yield Warned(
                Code.COLUMN_KEPT,
                f"{lineage.key}: {', '.join(found.kept)} of {table.name!r} stays as it is after the full refresh too, since it is "
                f"used by {', '.join(found.users)}",
            )
        if found.attached:
            text = f"{lineage.key}: table {table.name!r} is created again without {', '.join(found.attached)}"
            yield Warned(Code.ATTACHED_LOST, text)
        elif anew and found.theirs and lineage.mode is WriteMode.APPEND:
            names = ", ".join(found.theirs)
            yield Warned(
                Code.ATTACHED_LOST,
                f"{lineage.key}: a full refresh of {table.name!r} loses the values of {names}, which somebody has added: appended "
                "rows have no key by which they could be kept",
            )


def referred(lineage: "Lineage", rules: Callable[[Table], TableRules], *, anew: bool) -> Iterator[Warned]:
    """Which foreign keys a delete would reach, where there may be one."""
    if lineage.mode is WriteMode.APPEND and not anew:
        return
    for table in lineage.tables:
        found = lineage.found.get(table.name)
        for reference in found.references if found is not None else ():
            if rules(table).allow_cascade:
                what = "decides what becomes of rows that refer to a deleted one (`allow_cascade`)"
            else:
                what = (
                    "refers to its rows, so the sync stops if one of these is to be deleted; `allow_cascade: true` in its "
                    "table_settings lets the foreign key decide what becomes of them"
                )
            yield Warned(Code.FOREIGN_KEY, f"{lineage.key}: {table.name!r}: {reference} {what}")
