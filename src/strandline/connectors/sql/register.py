"""Who writes which table: a register beside the states, in a table of the destination, for every SQL database."""

from collections.abc import Sequence

from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import Session
from strandline.connectors.sql.tables import REGISTER, STATES
from strandline.ownership import Owner, check_writer, followed
from strandline.state_format import tables_in
from strandline.table import SOURCE_NAME

__all__ = ["Register"]


class Register:
    """What is registered of one stored table.

    Of a table that is not registered, the states may tell: versions before the register wrote it. Two owners that they
    name share it.

    Args:
        session: inside a transaction.
        table: the stored name.
    """

    def __init__(self, session: Session, table: str) -> None:
        self._session, self._table = session, table

    def owners(self) -> tuple[Owner, ...]:
        """Sorted."""
        return self._registered() or self._of_states()

    def has_written_all(self) -> bool:
        """Whether every row of the stored table has the name of an owner."""
        sql, sources = self._session.dialect, sorted({owner.source for owner in self.owners()})
        if not sources or SOURCE_NAME not in self._session.columns(self._table):
            return False
        written = f"CAST({sql.quote(SOURCE_NAME)} AS text)"
        names = ", ".join([sql.parameter] * len(sources))
        others = (
            f"SELECT 1 FROM {self._session.relation(self._table)} WHERE {written} IS NULL OR {written} NOT IN ({names})"
        )
        return not self._session.fetch(Statement(f"{others} LIMIT 1", tuple(sources)))

    def lock(self, *, shared: bool = False) -> None:
        """Nobody else registers anything of the table until the transaction ends; nor writes it, unless the lock is ``shared``."""
        statement = self._session.dialect.lock(f"{self._session.relation(REGISTER)} {self._table}", shared=shared)
        if statement is not None:
            self._session.fetch(statement)

    def save(self, owners: Sequence[Owner]) -> None:
        """In the place of what was registered."""
        if self._registered() == tuple(owners):
            return
        sql, into = self._session.dialect, self._session.relation(REGISTER)
        self._session.run(Statement(f"DELETE FROM {into} WHERE {sql.quote('table')} = {sql.parameter}", (self._table,)))
        names = sql.quoted(("table", "source", "destination", "shared"))
        for owner in owners:
            self._session.run(
                Statement(
                    f"INSERT INTO {into} ({names}) VALUES ({', '.join([sql.parameter] * 4)})",
                    (self._table, owner.source, owner.destination, int(owner.shared)),
                )
            )

    def check(self, writer: Owner) -> None:
        """In a window that writes the table.

        Raises:
            StateConflictError: another one has taken it over.
        """
        check_writer(self._table, writer, self._registered())

    def follow(self, old: Owner, new: Owner) -> None:
        """The table is ``new``'s, which was called ``old`` before."""
        self.save(followed(self.owners(), old, new))

    def _registered(self) -> tuple[Owner, ...]:
        sql = self._session.dialect
        if self._table in self._session.ahead.owners:
            return self._session.ahead.owners[self._table]
        if not self._session.columns(REGISTER):
            return ()
        rows = self._session.ask(
            f"SELECT source, {sql.quote('destination')}, shared FROM {self._session.relation(REGISTER)} "
            f"WHERE {sql.quote('table')} = {sql.parameter}",
            self._table,
        )
        return tuple(sorted(Owner(source, destination, bool(shared)) for source, destination, shared in rows))

    def _of_states(self) -> tuple[Owner, ...]:
        sql = self._session.dialect
        if not self._session.columns(STATES):
            return ()
        state = sql.unread_text.format("state")
        rows = self._session.ask(
            f"SELECT source, task, {sql.quote('destination')}, {state} FROM {self._session.relation(STATES)}"
        )
        owners = {
            Owner(source, destination)
            for source, task, destination, text in rows
            if self._table in tables_in(task, text)
        }
        return tuple(sorted(Owner(one.source, one.destination, shared=len(owners) > 1) for one in owners))
