"""What people have attached to a stored table: columns of their own, foreign keys that refer to it, triggers."""

from dataclasses import dataclass

from strandline.connectors.sql.record import Record
from strandline.table import Table

__all__ = ["Attached", "Reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key that refers to a stored table."""

    name: str
    table: str
    """The one that refers, as people call it."""
    relation: str
    """The same, qualified and quoted."""
    columns: tuple[str, ...]
    to: tuple[str, ...]
    """The columns of the stored table, one for each."""
    action: str
    """What becomes of the rows that refer to a deleted one, as SQL calls it."""

    def __str__(self) -> str:
        return f"foreign key {self.name or ', '.join(self.columns)} of {self.table} (ON DELETE {self.action})"


@dataclass(frozen=True, slots=True)
class Attached:
    """Of one stored table, as the catalog of the database tells it."""

    columns: tuple[str, ...] = ()
    """All that it has."""
    note: str = ""
    """The text of its ``Record``."""
    generated: frozenset[str] = frozenset()
    """Columns that nobody can write."""
    references: tuple[Reference, ...] = ()
    triggers: tuple[str, ...] = ()

    def theirs(self, table: Table) -> tuple[str, ...]:
        """The columns that somebody has added.

        In a table of versions before 0.2, a column that the source has no more is taken for one of these.
        """
        ours = {*table.schema.names, *Record.parse(self.note).columns}
        return tuple(name for name in self.columns if name not in ours and name not in self.generated)

    def gone(self, table: Table) -> tuple[str, ...]:
        """The columns of ours that the source has no more: null in every row that comes."""
        known, wanted = Record.parse(self.note).columns, table.schema.names
        return tuple(name for name in self.columns if name in known and name not in wanted)

    def guarded(self, table: Table) -> tuple[Reference, ...]:
        """The foreign keys that keep a row from being deleted."""
        return () if table.allow_cascade else self.references

    def minds(self, table: Table) -> bool:
        """Whether it makes a difference to somebody if a row is deleted and inserted again."""
        return bool(self.references or self.triggers or self.theirs(table))
