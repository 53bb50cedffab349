"""Merging into PostgreSQL: the shared way, and short cuts that a unique index makes safe.

Rows whose keys are all new are copied straight into their table, as in a first load; a stage whose keys all differ is
not counted first. Neither is asked but tried, below a savepoint: the index of the key says when it does not hold.

A first load whose keys rise from row to row needs no index to know that they differ. So it gets one when its rows are there:
at the end of the pass, at the first key that does not rise, or as soon as anybody else writes the table, the next run, say.
"""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from strandline.connectors.postgresql.index import check_visible, drop_index, lacks_index, make_index
from strandline.connectors.postgresql.migration import PostgreSQLMigrator
from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.merge import Merge, check_stored
from strandline.connectors.sql.staging import Op, Step
from strandline.destination import Change, MigrateMode, Scope, Window, WriteMode
from strandline.state import StateKey
from strandline.table import SYNC_TIME, Table

__all__ = ["Learned", "PostgreSQLMerge"]


@dataclass(slots=True)
class Learned:
    """What the committed windows of a lineage's pass have taught about one table."""

    sync_time_us: int
    """Of the pass."""
    new: bool
    """Whether the table holds nothing but rows of this pass, so that further keys are probably new. Where that is wrong, it costs
    time and nothing else."""
    distinct: bool = True
    """Whether no window had a key twice; likewise."""
    highest: tuple[int, ...] | None = None
    """The last key of a load into a table that was untouched, whose keys have risen so far. It has no index yet, unless
    somebody else has written to it."""


class PostgreSQLMerge(Merge):
    """One window.

    Args:
        learned: by lineage and stored table; kept from one window to the next, unless that failed.
    """

    _session: PostgreSQLSession

    def __init__(
        self,
        session: PostgreSQLSession,
        window: Window,
        mode: WriteMode,
        learned: MutableMapping[tuple[StateKey, str], Learned],
    ) -> None:
        super().__init__(session, window, mode, self._migration)
        self._learned = learned
        self._unindexed: set[str] = set()
        """Stored tables that are loaded without an index."""

    def apply(self, steps: Sequence[Step]) -> None:
        """See ``Merge``; every table gets the index that its mode needs."""
        by_table: dict[str, list[Step]] = {}
        for step in steps:
            if step.table.primary_key:
                by_table.setdefault(step.table.name, []).append(step)
        for name, its in sorted(by_table.items()):
            with self._session.about(name):
                check_visible(self._session, name)
                if any(step.op is Op.SWAP for step in its):
                    continue
                if not self._appends and self._may_wait(its):
                    self._unindexed.add(name)
                else:
                    self._index(its[0].table)
        super().apply(steps)

    def _index(self, table: Table) -> None:
        self._unindexed.discard(table.name)
        if self._appends:
            drop_index(self._session, table)
            return
        settle, learned = None, self._learned.get((self._window.key, table.name))
        if learned is not None and learned.highest is not None:
            settle, learned.highest = self._displacing(table), None
        if make_index(self._session, table, settle=settle):
            self.unique.add(table.name)

    def _displacing(self, table: Table) -> Statement:
        """Rows of this pass, each of another key, replace those that somebody has put beside them before there was an index."""
        sql, into, pass_us = self._sql, self._session.relation(table.name), self._window.pass_.sync_time_us
        time, same = sql.quote(SYNC_TIME), sql.same(table.primary_key, "o", "t")
        at = sql.time_us(sql.parameter)
        return Statement(
            f"DELETE FROM {into} AS t WHERE t.{time} IS DISTINCT FROM {at} "
            f"AND EXISTS (SELECT 1 FROM {into} AS o WHERE o.{time} = {at} AND {same})",
            (pass_us, pass_us),
        )

    def _may_wait(self, steps: Sequence[Step]) -> bool:
        """Whether these steps of a window, all that a table has, may be taken before it has an index."""
        inserts = [step for step in steps if step.op is Op.INSERT]
        others = any(step.op not in {Op.INSERT, Op.COMPLETE} or step.keys is not None for step in steps)
        if not inserts or others or any(step.versioned or not _is_whole(step) for step in inserts):
            return False
        table = steps[0].table
        learned = self._learned_of(table)
        if table.version_order or not learned.new or not lacks_index(self._session, table):
            return False
        return learned.highest is not None or not self._session.ask(f"SELECT 1 FROM {self._into(steps[0])} LIMIT 1")

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
        if step.table.name in self._unindexed:
            if self._load_rising(step):
                return
            self._index(step.table)
        if step.table.name not in self.unique or step.keys is not None or not _is_whole(step):
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

    def _load_rising(self, step: Step) -> bool:
        """Load rows whose keys rise, from the last one that was loaded on; whether they do."""
        keys, learned = step.key_range(step.table.primary_key), self._learned_of(step.table)
        if keys is None or (learned.highest is not None and keys[0] <= learned.highest):
            return False
        learned.highest = keys[1]
        return self._load(step)

    def _complete(self, step: Step) -> None:
        """See ``Merge``."""
        if step.table.name in self._unindexed:
            self._index(step.table)
        super()._complete(step)

    def _exchange(self, step: Step, columns: Sequence[str], hidden: str, kept: int) -> None:
        """See ``Merge``; nobody may have analyzed the hidden table yet."""
        self._session.run(Statement(f"ANALYZE {hidden}"))
        super()._exchange(step, columns, hidden, kept)

    def _load(self, step: Step) -> bool:
        check_stored(step.table.name, self._session.load(step, self._into(step)), step.rows)
        return True

    def _learned_of(self, table: Table) -> Learned:
        sync_time_us = self._window.pass_.sync_time_us
        place = self._window.key, table.name
        learned = self._learned.get(place)
        if learned is None or learned.sync_time_us != sync_time_us:
            new = SYNC_TIME in table.schema.names and self._holds_this_pass_only(table)
            learned = self._learned[place] = Learned(sync_time_us, new)
        return learned

    def _holds_this_pass_only(self, table: Table) -> bool:
        """The first row that is found is usually older, so this is no scan but for a first load that goes on."""
        sql = self._sql
        older = f"{sql.quote(SYNC_TIME)} <> {sql.time_us(sql.parameter)}"
        query = f"SELECT NOT EXISTS (SELECT 1 FROM {self._session.relation(table.name)} WHERE {older})"
        ((new,),) = self._session.ask(query, self._window.pass_.sync_time_us)
        return bool(new)


def _is_whole(step: Step) -> bool:
    """Whether the rows have all columns of their table."""
    return set(step.columns) >= set(step.table.schema.names)
