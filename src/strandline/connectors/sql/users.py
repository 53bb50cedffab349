"""Who uses a stored table besides the scope whose rows a full refresh replaces, for every SQL database."""

from collections.abc import Collection

from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import Session
from strandline.destination import Scope
from strandline.ownership import row_owners
from strandline.table import CLIENT_ID, SOURCE_NAME, Table

__all__ = ["Users"]

_NAMED_MAX = 5


class Users:
    """Of one stored table.

    Args:
        session: inside a transaction.
        table: as it is wanted.
        scope: whose rows are replaced.
    """

    def __init__(self, session: Session, table: Table, scope: Scope) -> None:
        self._session, self._table, self._scope = session, table, scope
        self._strangers: list[str] | None = None

    def of(self, columns: Collection[str], *, key: bool) -> list[str]:
        """In words: whose rows are in the table beside those of the scope, and what people have attached to these columns.

        Of a table whose keys become others (``key``, or a column of the key is among ``columns``) nothing may be attached
        that knows its rows by their keys.
        """
        table, attached = self._table, self._session.attached(self._table.name)
        keys = key or not set(table.primary_key).isdisjoint(columns)
        found = [str(one) for one in attached.references if keys or not set(one.to).isdisjoint(columns)]
        if keys:
            found += [f"column {name}, which somebody has added" for name in attached.theirs(table)]
            found += [f"trigger {name}" for name in attached.triggers]
        if self._strangers is None:  # it may have to look at all rows
            self._strangers = self._rows_of_others()
        return [*self._strangers, *found]

    def _rows_of_others(self) -> list[str]:
        name, session, scope = self._table.name, self._session, self._scope
        columns, sql, into = session.columns(name), session.dialect, session.relation(name)
        if SOURCE_NAME not in columns or (scope.partition is not None and CLIENT_ID not in columns):
            return [row_owners(None, None)] if session.ask(f"SELECT 1 FROM {into} LIMIT 1") else []
        mine = sql.in_scope(name, columns, scope)
        names = [f"CAST(t.{sql.quote(one)} AS text)" if one in columns else "NULL" for one in (SOURCE_NAME, CLIENT_ID)]
        query = (
            f"SELECT DISTINCT {', '.join(names)} FROM {into} AS t WHERE ({mine.text}) IS NOT TRUE LIMIT {_NAMED_MAX}"
        )
        return sorted({row_owners(*row) for row in session.fetch(Statement(query, mine.values))})
