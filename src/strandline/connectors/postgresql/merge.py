"""Merging into PostgreSQL: the shared way, and short cuts that a unique index makes safe.

Rows whose keys are all new are copied straight into their table, as in a first load; a stage whose keys all differ is
not counted first. Neither is asked but tried, below a savepoint: the index of the key says when it does not hold.
"""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from strandline.connectors.postgresql.index import check_visible, drop_index, make_index
from strandline.connectors.postgresql.migration import PostgreSQLMigrator
from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.merge import Merge, check_stored
from strandline.connectors.sql.staging import Op, Step
from strandline.destination import Change, MigrateMode, Scope, Window, WriteMode
from strandline.table import SYNC_TIME, Table

__all__ = ["Learned", "PostgreSQLMerge"]


@dataclass(slots=True)
class Learned:
    """What the windows of a pass have taught about one table. Where it is wrong, it costs time and nothing else."""

    sync_time_us: int
    """Of the pass."""
    new: bool
    """Whether the table holds nothing but rows of this pass, so that further keys are probably new."""
    distinct: bool = True
    """Whether no window had a key twice."""


class PostgreSQLMerge(Merge):
    """One window; ``learned``, by stored table, is kept from one window to the next."""

    _session: PostgreSQLSession

    def __init__(
        self, session: PostgreSQLSession, window: Window, mode: WriteMode, learned: MutableMapping[str, Learned]
    ) -> None:
        super().__init__(session, window, mode, self._migration)
        self._learned = learned

    def apply(self, steps: Sequence[Step]) -> None:
        """See ``Merge``; every table gets the index that its mode needs."""
        swapped = {step.table.name for step in steps if step.op is Op.SWAP}
        for table in {step.table.name: step.table for step in steps if step.table.primary_key}.values():
            with self._session.about(table.name):
                check_visible(self._session, table.name)
                if table.name not in swapped:
                    self._index(table)
        super().apply(steps)

    def _index(self, table: Table) -> None:
        if self._appends:
            drop_index(self._session, table)
        elif make_index(self._session, table):
            self.unique.add(table.name)

    def _migration(self, table: Table, replaces: Scope) -> PostgreSQLMigrator:
        return PostgreSQLMigrator(self._session, table, MigrateMode.SAFE, replaces)

    def _reshape(self, step: Step, left: Sequence[Change]) -> None:
        """See ``Merge``. The index is that of the key that the table has then."""
        super()._reshape(step, left)
        if step.table.primary_key:
            self._index(step.table)

    def _insert(self, step: Step) -> None:
        if self._appends and not step.versioned:
            self._load(step)
        else:
            super()._insert(step)

    def _overwrite(self, step: Step) -> None:
        whole = set(step.columns) >= set(step.table.schema.names)
        if step.table.name not in self.unique or step.keys is not None or not whole:
            super()._overwrite(step)
            return
        session, learned = self._session, self._learned_of(step.table)
        if learned.new and not step.spilled:
            learned.new = session.attempt(lambda: self._load(step))
            if learned.new:
                return
        if learned.distinct and not step.table.version_order:
            rows = self._rows(step, step.columns, session.stage(step), step.rows, whole=True)
            learned.distinct = session.attempt(lambda: len(set(self._upsert(rows))) == 1)
            if learned.distinct:
                return
        super()._overwrite(step)

    def _exchange(self, step: Step, columns: Sequence[str], hidden: str, kept: int) -> None:
        """See ``Merge``; nobody may have analyzed the hidden table yet."""
        self._session.run(Statement(f"ANALYZE {hidden}"))
        super()._exchange(step, columns, hidden, kept)

    def _load(self, step: Step) -> bool:
        check_stored(step.table.name, self._session.load(step, self._into(step)), step.rows)
        return True

    def _learned_of(self, table: Table) -> Learned:
        sync_time_us = self._window.pass_.sync_time_us
        learned = self._learned.get(table.name)
        if learned is None or learned.sync_time_us != sync_time_us:
            new = SYNC_TIME in table.schema.names and self._holds_this_pass_only(table)
            learned = self._learned[table.name] = Learned(sync_time_us, new)
        return learned

    def _holds_this_pass_only(self, table: Table) -> bool:
        """The first row that is found is usually older, so this is no scan but for a first load that goes on."""
        sql = self._sql
        older = f"{sql.quote(SYNC_TIME)} <> {sql.time_us(sql.parameter)}"
        query = f"SELECT NOT EXISTS (SELECT 1 FROM {self._session.relation(table.name)} WHERE {older})"
        ((new,),) = self._session.ask(query, self._window.pass_.sync_time_us)
        return bool(new)
