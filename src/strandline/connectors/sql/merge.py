"""A staged window into its tables: what ``Destination.write`` does inside the transaction, for every SQL database."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.delivered import Delivered
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.latest import LatestView
from strandline.connectors.sql.migration import Migrator
from strandline.connectors.sql.newest import newest
from strandline.connectors.sql.references import check_unreferenced
from strandline.connectors.sql.register import Register
from strandline.connectors.sql.session import Session
from strandline.connectors.sql.staging import Op, Step
from strandline.connectors.sql.states import give_up
from strandline.connectors.sql.tables import DELIVERED
from strandline.connectors.sql.upsert import Rows, upsert
from strandline.destination import LACKING_MAX, Change, Scope, Window, WriteMode
from strandline.errors import MassDeleteError, TaskError
from strandline.ownership import Owner
from strandline.state import StateKey
from strandline.table import CLIENT_ID, CQ_ID, SOURCE_NAME, Table

__all__ = ["Merge", "check_stored", "guard", "holds"]


def guard(removed: int, total: int, scope: Scope, table: str) -> None:
    """Refuse to delete more than the scope allows.

    Raises:
        MassDeleteError: ``removed`` of ``total`` rows is too large a share.
    """
    if scope.share_max is not None and removed > scope.share_max * total:
        raise MassDeleteError(
            f"{table}: {removed} of {total} rows would be deleted, more than {scope.share_max:.0%}; nothing was",
            hint="if that is right, run again with --allow-mass-delete",
        )


def holds(session: Session, table: Table, scope: Scope) -> bool:
    """Whether a stored table has rows of a scope; of one that is not there, or does not say whose its rows are, it has none."""
    columns, sql = session.columns(table.name), session.dialect
    if SOURCE_NAME not in columns or (scope.partition is not None and CLIENT_ID not in columns):
        return False
    mine = sql.in_scope(table.name, columns, scope)
    rows = f"SELECT 1 FROM {session.relation(table.name)} AS t WHERE {mine.text} LIMIT 1"
    return bool(session.fetch(Statement(rows, mine.values)))


def check_stored(table: str, stored: int, rows: int) -> None:
    """Refuse to go on where the database has stored another number of rows than it was given.

    Raises:
        TaskError: what is staged would not be there once the cursor has passed it.
    """
    if stored != rows:
        raise TaskError(
            f"{table}: {rows} rows were to be stored, and the database has stored {stored} of them; nothing of this "
            "window was written",
            hint="a trigger, rule or policy on the table, or a clause as ON CONFLICT IGNORE, drops rows: remove it there",
        )


class Merge:
    """Applies steps in order. ``rows``, ``known`` and ``removed`` are the receipt's."""

    def __init__(
        self,
        session: Session,
        window: Window,
        mode: WriteMode,
        migrator: Callable[[Table, Scope], Migrator],
    ) -> None:
        self.rows: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.removed = 0
        self.lacking: dict[str, tuple[int, ...]] = {}
        self.unique: set[str] = set()
        """Stored tables in which an index keeps a key from being there twice."""
        self._session, self._sql, self._window, self._mode = session, session.dialect, window, mode
        self._migrator = migrator
        self._delivered = Delivered(session.dialect, session.relation(DELIVERED), window)
        self._appends = mode is WriteMode.APPEND
        self._last: set[int] = set()
        self._attached: dict[str, Attached] = {}
        """To the tables of this window, by their stored names."""
        self._shrunk: dict[str, Step] = {}
        """Tables of which rows were removed, by the names that the messages use."""

    def apply(self, steps: Sequence[Step]) -> None:
        """All of them.

        Raises:
            MassDeleteError: a sweep would remove too much.
            UsageError: somebody else uses what a full refresh would change of a table.
            TaskError: a scope cannot be told, a hidden table is missing, the database drops rows.
        """
        if steps and not self._appends:
            self._run(self._delivered.disclaim())
        self._last = _last_words(steps)
        registers = self._locked(steps)
        for step in steps:
            with self._session.about(step.table.name):
                self._apply(step)
        for register in registers:
            register.check(_owner(self._window.key))

    def _locked(self, steps: Sequence[Step]) -> list[Register]:
        """Of the tables that are written. Until the transaction ends nobody takes them over."""
        adopted = {step.table.name for step in steps if step.op is Op.ADOPT}
        written = sorted({step.table.name for step in steps if step.op is not Op.FORGET})
        registers = [Register(self._session, table) for table in written]
        for table, register in zip(written, registers, strict=True):
            register.lock(shared=table not in adopted)
        return registers

    def _apply(self, step: Step) -> None:
        match step.op:
            case Op.INSERT:
                self._insert(step)
                self.rows[step.name] += step.rows
            case Op.DELETE | Op.REPLACE:
                self._delete_keys(step)
            case Op.TRUNCATE:
                self._delete(step, self._scope(step))
            case Op.COMPLETE:
                self._complete(step)
            case Op.STALE:
                self._delete_stale(step)
            case Op.SWAP:
                self._swap(step)
            case Op.FORGET:
                self._forget(step)
            case Op.ADOPT:
                self._adopt(step, step.former)

    def _run(self, statement: Statement) -> int:
        return self._session.run(statement)

    def emptied(self) -> list[str]:
        """The tables of which rows were removed, and of which the scope now has none."""
        return [name for name, step in self._shrunk.items() if not holds(self._session, step.table, self._window.scope)]

    def _count(self, rows: str) -> int:
        ((count,),) = self._session.fetch(Statement(f"SELECT count(*) FROM {rows}"))
        return int(count)

    def _total(self, step: Step) -> int:
        """How many rows the scope has."""
        scope = self._scope(step)
        ((total,),) = self._session.fetch(
            Statement(f"SELECT count(*) FROM {self._into(step)} AS t WHERE {scope.text}", scope.values)
        )
        return int(total)

    def _into(self, step: Step) -> str:
        return self._session.relation(step.table.name)

    def _attached_to(self, table: Table) -> Attached:
        if table.name not in self._attached:
            self._attached[table.name] = self._session.attached(table.name)
        return self._attached[table.name]

    def _scope(self, step: Step) -> Statement:
        name = step.table.name
        return self._sql.in_scope(name, self._session.columns(name), self._window.scope)

    def _delete(self, step: Step, condition: Statement) -> int:
        """The stored rows ``t`` of which a condition holds, as they are gone at the source; how many there were.

        Raises:
            TaskError: somebody's foreign key refers to one.
        """
        check_unreferenced(
            self._session,
            step.table,
            self._attached_to(step.table).guarded(step.table),
            condition,
            why="would be deleted",
            hint="remove what refers to them; or say `allow_cascade: true` for the table in table_settings: then the foreign key "
            "decides what becomes of it",
        )
        removed = self._run(Statement(f"DELETE FROM {self._into(step)} AS t WHERE {condition.text}", condition.values))
        if removed:
            self._shrunk[step.name] = step
        return removed

    # inserts ---------------------------------------------------------------------------------------------------------

    def _insert(self, step: Step) -> None:
        if step.versioned:
            self._insert_versions(step)
        elif self._appends:
            self._append(step, step.columns, self._session.stage(step), step.rows)
        else:
            self._overwrite(step)

    def _insert_versions(self, step: Step) -> None:
        """Rows to be looked up in the delivered set, or without a key of their own: these get their ``_cq_id``."""
        stage, delivered = self._session.stage(step), self._delivered
        columns, rows = step.columns, stage
        id_type = self._session.columns(step.table.name).get(CQ_ID, "") if step.numbered else ""
        ((different, known),) = self._session.fetch(delivered.strangers(step, stage))
        fresh = different == step.rows and not known
        if step.numbered:
            columns = (*columns, CQ_ID)
            rows = delivered.first(step, stage, id_type) if fresh else ""
        if not fresh:
            rows = self._session.scratch(delivered.told_apart(step, stage, id_type))
        if not self._appends:
            self._store(step, columns, rows, step.rows)
        else:
            new = step.rows if fresh else self._count(rows)
            self._append(step, columns, rows, new)
            self.known[step.name] += step.rows - new
        if id(step) in self._last:
            return
        if fresh:
            self._run(delivered.remember(step, stage))
            return
        counts = self._session.scratch(delivered.counts(step, stage))
        for statement in delivered.replace(step, counts):
            self._run(statement)

    def _append(self, step: Step, columns: Sequence[str], stage: str, count: int) -> None:
        insert = self._sql.insert(self._into(step), columns, stage, nulls=step.absent(columns))
        check_stored(step.table.name, self._run(insert), count)

    def _overwrite(self, step: Step) -> None:
        keys, columns = step.table.primary_key, step.columns
        if step.table.version_order:
            left = newest(self._session, self._window, self._mode, step)
            self._store(step, columns, left, self._count(left))
            return
        if step.keys is not None:
            self._overwrite_and_delete(step, step.keys)
            return
        ascends, stage = step.ascends(keys), self._session.stage(step)
        different = step.rows if ascends else self._count(self._sql.different_keys(keys, stage))
        if different < step.rows:
            ordered = self._session.stage(step, sequence=True)
            stage = self._session.scratch(self._sql.latest(columns, keys, ordered))
        self._store(step, columns, stage, different)

    def _overwrite_and_delete(self, step: Step, gone: Step) -> None:
        """Whole rows with deletes among them, or parents whose rows are replaced: what comes last wins."""
        if not step.rows:
            self._delete_keys(gone)
            return
        sql, key = self._sql, step.table.primary_key
        rows, keys = self._session.stage(step, sequence=True), self._session.stage(gone, sequence=True)
        latest = self._session.scratch(sql.latest(step.columns, key, rows))
        left = self._session.scratch(
            Statement(f"SELECT {sql.quoted(step.columns, 's.')} FROM {sql.not_deleted(gone.columns, latest, keys)}")
        )
        kept, sent, count = sql.among(key, "t", key, left), sql.among(key, "t", key, latest), self._count(left)
        self._delete_keys(gone, keys, f" AND NOT {kept}")
        if count < self._count(latest):
            # whoever had a row that came and went, it was this task's at last
            self._delete_gone(gone, Statement(f"{sent} AND NOT {kept}"))
        self._store(step, step.columns, left, count)

    def _delete_keys(self, gone: Step, stage: str = "", but: str = "") -> None:
        """The rows that have these keys, or these parents; a row that another source or partition has delivered since is theirs."""
        mine, keys = self._scope(gone), gone.columns
        among = self._sql.among(keys, "t", keys, stage or self._session.stage(gone))
        self._delete_gone(gone, Statement(f"{among} AND {mine.text}{but}", mine.values))

    def _delete_gone(self, gone: Step, condition: Statement) -> None:
        removed = self._delete(gone, condition)
        self.removed += removed if gone.op is Op.REPLACE else 0

    def _store(self, step: Step, columns: Sequence[str], stage: str, count: int) -> None:
        """So many rows of different keys over those that are stored."""
        whole = set(columns) >= set(step.table.schema.names)
        check_stored(step.table.name, *self._upsert(self._rows(step, columns, stage, count, whole=whole)))

    def _rows(self, step: Step, columns: Sequence[str], relation: str, count: int, *, whole: bool) -> Rows:
        return Rows(step.table, columns, relation, count, whole, self._attached_to(step.table))

    def _upsert(self, rows: Rows) -> tuple[int, int]:
        return upsert(self._session, rows, unique=rows.table.name in self.unique)

    # the ends of passes ----------------------------------------------------------------------------------------------

    def _complete(self, step: Step) -> None:
        if step.keys is not None:
            self._sweep(step, step.keys)
        for statement in self._delivered.trim(step, forget=not self._appends):
            self._run(statement)

    def _sweep(self, step: Step, present: Step) -> None:
        scope, total, keys, stage = self._scope(step), self._total(step), present.columns, ""
        missing = "TRUE"
        if present.rows:
            stage = self._session.stage(present, sequence=True)
            missing = f"NOT {self._sql.among(keys, 't', keys, stage)}"
        removed = self._delete(step, Statement(f"{scope.text} AND {missing}", scope.values))
        guard(removed, total, self._window.scope, step.table.name)
        self.removed += removed
        if stage:
            rows = self._session.fetch(self._sql.lacking(self._into(step), keys, stage, LACKING_MAX + 1))
            self.lacking |= {step.name: tuple(place for (place,) in rows)} if rows else {}

    def _delete_stale(self, step: Step) -> None:
        scope, stale, total = self._scope(step), self._sql.is_stale(self._window.scope), self._total(step)
        removed = self._delete(step, Statement(f"{scope.text} AND {stale.text}", scope.values + stale.values))
        guard(removed, total, self._window.scope, step.table.name)
        self.removed += removed

    def _swap(self, step: Step) -> None:
        hidden = self._session.relation(step.hidden)
        stored, columns = self._session.columns(step.table.name), [*self._session.columns(step.hidden)]
        if not columns:
            raise TaskError(f"{step.table.name}: the hidden table {step.hidden!r} of its full refresh is not there")
        if lacking := [name for name in columns if name not in stored]:
            raise TaskError(
                f"{step.table.name}: it has no column {lacking[0]!r}, which its full refresh has read",
                hint="somebody has removed or renamed it; the next sync adds it, and goes on with the refresh",
            )
        kept, left = self._count(hidden), self._migrator(step.table, self._window.scope).left()
        if not self._appends and self._attached_to(step.table).minds(step.table):
            self._reshape(step, left)
            self._exchange(step, columns, hidden, kept)
        else:
            self._replace(step, columns, hidden, kept, left)
        self._run(Statement(f"DROP TABLE {hidden}"))
        for statement in self._delivered.adopt(step):
            self._run(statement)

    def _reshape(self, step: Step, left: Sequence[Change]) -> None:
        """Make the changes of the table that come with other rows; see ``Destination.migrate``."""
        if left:
            view = LatestView.of(self._session, step.table)
            if view is not None:
                view.take_down()
            self._migrator(step.table, self._window.scope).reshape(left)
            if view is not None:
                view.put_up()

    def _replace(self, step: Step, columns: Sequence[str], hidden: str, kept: int, left: Sequence[Change]) -> None:
        """All rows of the scope go, and the new ones come."""
        if self._sql.alters_before_deletes:
            self._reshape(step, left)
        removed = self._delete(step, self._scope(step))
        guard(removed - kept, removed, self._window.scope, step.table.name)
        if not self._sql.alters_before_deletes:
            self._reshape(step, left)
        if not self._appends:
            # a row of another source may have the same key
            self._run(self._sql.delete_matching(self._into(step), step.table.primary_key, hidden))
        self._append(step, columns, hidden, kept)

    def _exchange(self, step: Step, columns: Sequence[str], hidden: str, kept: int) -> None:
        """Row by row, so that a row whose key stays is never gone: what is attached to it stays."""
        scope, total, keys = self._scope(step), self._total(step), step.table.primary_key
        guard(total - kept, total, self._window.scope, step.table.name)
        self._delete(step, Statement(f"{scope.text} AND NOT {self._sql.among(keys, 't', keys, hidden)}", scope.values))
        check_stored(step.table.name, *self._upsert(self._rows(step, columns, hidden, kept, whole=True)))

    def _adopt(self, step: Step, former: StateKey | None) -> None:
        if former is None:
            raise AssertionError("a step that adopts names whom")
        name, scope = step.table.name, replace(self._window.scope, source_name=former.source)
        theirs = self._sql.in_scope(name, self._session.columns(name), scope)
        ours = f"{self._sql.quote(SOURCE_NAME)} = {self._sql.parameter}"
        update = f"UPDATE {self._into(step)} AS t SET {ours} WHERE {theirs.text}"
        self._run(Statement(update, (self._window.scope.source_name, *theirs.values)))
        self._run(self._delivered.follow(step, former))
        Register(self._session, name).follow(_owner(former), _owner(self._window.key))
        give_up(self._session, former, follower=self._window.key)

    def _forget(self, step: Step) -> None:
        for statement in self._delivered.trim(step, forget=True):
            self._run(statement)
        if step.hidden and self._session.columns(step.hidden):
            self._run(Statement(f"DROP TABLE {self._session.relation(step.hidden)}"))


def _owner(key: StateKey) -> Owner:
    return Owner(key.source, key.destination)


def _last_words(steps: Sequence[Step]) -> set[int]:
    """Which steps (by ``id``) need not be counted, since the table's pass ends after them without another insert."""
    ending: set[str] = set()
    last: set[int] = set()
    for step in reversed(steps):
        if step.op is Op.COMPLETE:
            ending.add(step.name)
        elif step.op is Op.INSERT:
            if step.name in ending and not step.reread:
                last.add(id(step))
            ending.discard(step.name)
    return last
