"""Makes a stored PostgreSQL table fit: how PostgreSQL tells what is there."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from strandline.connectors.arrow.widening import Fit
from strandline.connectors.postgresql.attached import dropped_with, tied_to
from strandline.connectors.postgresql.index import check_visible, own_indexes
from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.connectors.postgresql.types_stored import fits
from strandline.connectors.sql.migration import Found, Migrator
from strandline.connectors.sql.record import Record
from strandline.errors import TaskError

__all__ = ["PostgreSQLMigrator"]

_OTHER_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}


class PostgreSQLMigrator(Migrator):
    """The comment keeps what the catalog does not tell, and the mark, which travels with a dump.

    The oid, which versions before 0.2 took for the mark, stays where somebody overwrites the comment.
    """

    _session: PostgreSQLSession

    def _find(self) -> Found | None:
        """See ``Migrator``."""
        name = self._table.name
        found = self._session.catalogued("CAST(c.oid AS text), c.relkind, obj_description(c.oid, 'pg_class')", name)
        for oid, kind, comment in found:
            if kind not in {"r", "p"}:
                other = _OTHER_KINDS.get(kind, "no table")
                raise TaskError(f"{name!r} is {other} in the database", hint="rename it there, or rename the table")
            check_visible(self._session, name)
            record = self._known(Record.parse(comment or ""))
            return Found(record, record.mark or oid, oid)
        return None

    def _known(self, record: Record) -> Record:
        """Where the comment was lost, the types must speak for themselves."""
        if record.ours:
            return record
        notes = {name: stored.note for name, stored in self._stored.items() if stored.note not in {"", "null"}}
        return replace(record, notes=notes)

    def _folding(self) -> Mapping[str, str]:
        """See ``Migrator``."""
        found = self._session.catalogued(
            "a.attname, l.collname",
            self._table.name,
            joins="JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN pg_collation AS l ON l.oid = a.attcollation",
            more="AND NOT l.collisdeterministic",
        )
        return {str(column): str(collation) for column, collation in found}

    def _dropped_with(self) -> Sequence[str]:
        """See ``Migrator``."""
        return dropped_with(self._session, self._table)

    def _fit(self, column: str, before: tuple[str, str], after: tuple[str, str]) -> Fit:  # noqa: ARG002 -- others ask it
        """See ``Migrator``."""
        return fits(before, after)

    def _tied(self, columns: Collection[str], *, key: bool) -> Sequence[str]:
        """See ``Migrator``."""
        attached = self._session.attached(self._table.name)
        old = Record.parse(attached.note).primary_key if key else ()
        # where rows are exchanged one by one, they are there while their columns change
        filled = columns if attached.minds(self._table) else ()
        return tied_to(self._session, self._table, columns, old, filled)

    def _alter(self, columns: Mapping[str, str], *, key: bool) -> Sequence[str]:
        """See ``Migrator``. PostgreSQL makes the indexes of a column again."""
        indexes = own_indexes(self._session, self._table) if key else ()
        return [
            *(f"DROP INDEX {self._session.relation(name)}" for name in indexes),
            *super()._alter(columns, key=key),
        ]
