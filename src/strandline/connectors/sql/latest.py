"""A view of the last version of each row, beside a table to which versions are appended, for every SQL database.

It is ours if its own text has the name of its last column in it, which nobody else would use. So whoever makes a view, or a table, of
the same name keeps it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from strandline.connectors.sql.dialect import Dialect, Statement
from strandline.connectors.sql.session import Session
from strandline.destination import ADD_COLUMN, BY_REFRESH, RECREATE, Change, Migration
from strandline.errors import UsageError
from strandline.ownership import Ownership
from strandline.table import SYNC_TIME, Table

__all__ = ["LatestView", "creation_of_view", "looked_at"]

_NUMBER = "_cq_number_of_version"
_HARMLESS = {ADD_COLUMN, "create", "record", "adopt", *BY_REFRESH}
"""Changes of a table that a view is not in the way of, or that are not made yet."""


class Migrating(Protocol):
    """A ``Migrator``, which knows of views itself."""

    def plan(self, ownership: Ownership | None = None) -> Migration:
        """See there."""

    def apply(self, ownership: Ownership | None = None) -> Migration:
        """See there."""


class LatestView:
    """Of one stored table, in one session."""

    def __init__(self, session: Session, table: Table) -> None:
        self._session, self._table, self._into = session, table, session.relation(table.latest_name)

    @classmethod
    def of(cls, session: Session, table: Table) -> "LatestView | None":
        """Where the table is to have one.

        Raises:
            UsageError: something else has its name.
        """
        if not table.latest_view:
            return None
        view = cls(session, table)
        view.columns()
        return view

    def columns(self) -> tuple[str, ...]:
        """What it shows; nothing: it is not there. Raises as ``of``."""
        found = self._session.view(self._table.latest_name)
        if found is None:
            return ()
        text, columns = found
        if _NUMBER not in text:
            raise UsageError(
                f"table {self._table.name!r}: `latest_view` would make a view {self._table.latest_name!r}, and something of that name "
                "is there already, which is not Strandline's",
                hint="rename it there; or store the table under another name (`name` in table_settings)",
            )
        return columns

    def changes(self, wanted: Sequence[str]) -> tuple[Change, ...]:
        """What makes it show these columns of the stored table, which is there by then; nothing where it does."""
        shown, dialect = self.columns(), self._session.dialect
        if shown == tuple(wanted):
            return ()
        replaces = bool(shown) and dialect.replaces_views and tuple(wanted[: len(shown)]) == shown
        drop = (f"DROP VIEW {self._into}",) if shown and not replaces else ()
        change = creation_of_view(self._table, wanted, self._session.relation, dialect, replaces=replaces)
        return (replace(change, ddl=(*drop, *change.ddl)),)

    def take_down(self) -> None:
        """Before a column takes another type, or the table goes, which a view would be in the way of."""
        if self.columns():
            self._session.run(Statement(f"DROP VIEW {self._into}"))

    def put_up(self) -> tuple[Change, ...]:
        """What has to be done for it now, done."""
        changes = self.changes(tuple(self._session.columns(self._table.name)))
        for statement in (one for change in changes for one in change.ddl):
            self._session.run(Statement(statement))
        return changes

    def around(self, looking: Migrating, migrator: Migrating, ownership: Ownership | None) -> Migration:
        """The table is migrated, and the view with it."""
        if any(change.kind not in _HARMLESS for change in looking.plan(ownership).changes):
            self.take_down()
        found = migrator.apply(ownership)
        return replace(found, changes=(*found.changes, *self.put_up()))


def looked_at(session: Session, table: Table, migrator: Migrating, ownership: Ownership | None) -> Migration:
    """What is there of a table, and what it needs, its view included."""
    view = LatestView.of(session, table)
    found = migrator.plan(ownership)
    if view is None:
        return found
    stored, wanted = tuple(session.columns(table.name)), tuple(session.columns_of(table).stored)
    again = not stored or any(change.kind == RECREATE for change in found.changes)
    columns = wanted if again else (*stored, *(one.column for one in found.changes if one.kind == ADD_COLUMN))
    return replace(found, changes=(*found.changes, *view.changes(columns)))


def creation_of_view(
    table: Table, columns: Sequence[str], relation: Callable[[str], str], dialect: Dialect, *, replaces: bool = False
) -> Change:
    """The newest version is of the newest pass; in a pass, by the order of versions or the incremental key; else it was stored last."""
    order = [SYNC_TIME, *([table.version_order] if table.version_order else table.incremental_key)]
    newest = [f"{dialect.quote(name)} DESC NULLS LAST" for name in dict.fromkeys(order) if name in columns]
    names, number = dialect.quoted(columns), dialect.quote(_NUMBER)
    ddl = (
        f"CREATE {'OR REPLACE ' * replaces}VIEW {relation(table.latest_name)} AS SELECT {names} FROM (SELECT {names}, row_number() OVER "
        f"(PARTITION BY {dialect.quoted(table.primary_key)} ORDER BY {', '.join([*newest, f'{dialect.row_order} DESC'])}) AS {number} "
        f"FROM {relation(table.name)}) AS v WHERE {number} = 1"
    )
    return Change("view", table.latest_name, ddl=(ddl,))
