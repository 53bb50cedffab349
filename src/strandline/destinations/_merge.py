"""A staged window into its tables: what ``Destination.write`` does inside the transaction, for every SQL database."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from strandline.destination import Scope, Window, WriteMode
from strandline.destinations._delivered import Delivered
from strandline.destinations._sql import Dialect, Statement
from strandline.destinations._staging import Op, Step
from strandline.errors import MassDeleteError, TaskError
from strandline.table import CQ_ID

__all__ = ["Merge", "Session", "check_stored", "guard"]


class Session(Protocol):
    """One connection, inside a transaction."""

    dialect: Dialect

    def run(self, statement: Statement) -> int:
        """How many rows it changed."""

    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Its rows."""

    def about(self, table: str) -> AbstractContextManager[None]:
        """Turns the database's errors into ours, which name the table."""

    def relation(self, table: str) -> str:
        """A stored table, qualified and quoted."""

    def columns(self, table: str) -> Mapping[str, str]:
        """The types of a stored table's columns by name, in order; empty: there is no such table."""

    def stage(self, step: Step, *, sequence: bool = False) -> str:
        """The rows of a step as a relation; with ``SEQUENCE``, their position in the stream, where it is asked for."""

    def scratch(self, query: Statement) -> str:
        """A temporary table of a query's rows, gone with the session at the latest."""


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

    def __init__(self, session: Session, window: Window, mode: WriteMode, delivered: str) -> None:
        self.rows: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.removed = 0
        self._session, self._sql, self._window, self._mode = session, session.dialect, window, mode
        self._delivered = Delivered(session.dialect, delivered, window)
        self._appends = mode is WriteMode.APPEND
        self._last: set[int] = set()

    def apply(self, steps: Sequence[Step]) -> None:
        """All of them.

        Raises:
            MassDeleteError: a sweep would remove too much.
            TaskError: a scope cannot be told, a hidden table is missing, the database drops rows.
        """
        if steps and not self._appends:
            self._run(self._delivered.disclaim())
        self._last = _last_words(steps)
        for step in steps:
            with self._session.about(step.table.name):
                self._apply(step)

    def _apply(self, step: Step) -> None:
        match step.op:
            case Op.INSERT:
                self._insert(step)
                self.rows[step.name] += step.rows
            case Op.DELETE:
                self._delete(step, step.columns, self._session.stage(step))
            case Op.TRUNCATE:
                self._run(self._delete_scope(step))
            case Op.COMPLETE:
                self._complete(step)
            case Op.SWAP:
                self._swap(step)
            case Op.FORGET:
                self._forget(step)

    def _run(self, statement: Statement) -> int:
        return self._session.run(statement)

    def _run_all(self, step: Step, statement: Statement, rows: int) -> None:
        """A statement that has to reach so many rows of the step's table."""
        check_stored(step.table.name, self._run(statement), rows)

    def _count(self, rows: str) -> int:
        ((count,),) = self._session.fetch(Statement(f"SELECT count(*) FROM {rows}"))
        return int(count)

    def _into(self, step: Step) -> str:
        return self._session.relation(step.table.name)

    def _scope(self, step: Step) -> Statement:
        name = step.table.name
        return self._sql.in_scope(name, self._session.columns(name), self._window.scope)

    def _delete_scope(self, step: Step) -> Statement:
        scope = self._scope(step)
        return Statement(f"DELETE FROM {self._into(step)} AS t WHERE {scope.text}", scope.values)

    def _delete(self, step: Step, keys: Sequence[str], stage: str) -> None:
        """Rows with these keys, unless another source or partition has delivered them since."""
        delete, scope = self._sql.delete_matching(self._into(step), keys, stage), self._scope(step)
        self._run(Statement(f"{delete.text} AND {scope.text}", delete.values + scope.values))

    # inserts ---------------------------------------------------------------------------------------------------------

    def _insert(self, step: Step) -> None:
        if step.versioned:
            self._insert_versions(step)
        elif self._appends:
            self._run_all(step, self._insertion(step, step.columns, self._session.stage(step)), step.rows)
        else:
            self._overwrite(step)

    def _insert_versions(self, step: Step) -> None:
        """Rows to be looked up in the delivered set, or without a key of their own: these get their ``_cq_id``."""
        into, stage, delivered = self._into(step), self._session.stage(step), self._delivered
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
            self._store(into, step, columns, rows, step.rows)
        else:
            new = step.rows if fresh else self._count(rows)
            self._run_all(step, self._insertion(step, columns, rows), new)
            self.known[step.name] += step.rows - new
        if id(step) in self._last:
            return
        if fresh:
            self._run(delivered.remember(step, stage))
            return
        counts = self._session.scratch(delivered.counts(step, stage))
        for statement in delivered.replace(step, counts):
            self._run(statement)

    def _insertion(self, step: Step, columns: Sequence[str], stage: str) -> Statement:
        return self._sql.insert(self._into(step), columns, stage, nulls=step.absent(columns))

    def _overwrite(self, step: Step) -> None:
        keys, columns = step.table.primary_key, step.columns
        if step.keys is not None:
            self._overwrite_and_delete(step, step.keys)
            return
        ascends, stage = step.ascends(keys), self._session.stage(step)
        different = step.rows if ascends else self._count(self._sql.different_keys(keys, stage))
        if different < step.rows:
            ordered = self._session.stage(step, sequence=True)
            stage = self._session.scratch(self._sql.latest(columns, keys, ordered))
        self._store(self._into(step), step, columns, stage, different)

    def _overwrite_and_delete(self, step: Step, deleted: Step) -> None:
        """Whole rows with deletes among them: the last one about a key wins."""
        keys, into = step.table.primary_key, self._into(step)
        rows, gone = self._session.stage(step, sequence=True), self._session.stage(deleted, sequence=True)
        latest = self._session.scratch(self._sql.latest(step.columns, keys, rows))
        self._delete(step, keys, gone)
        self._run(self._sql.delete_matching(into, keys, latest))
        left = self._sql.not_deleted(keys, latest, gone)
        self._run_all(step, self._sql.insert_from(into, step.columns, left), self._count(left))

    def _store(self, into: str, step: Step, columns: Sequence[str], stage: str, rows: int) -> None:
        """So many rows of different keys over those that are stored."""
        keys = step.table.primary_key
        if set(columns) >= set(step.table.schema.names):
            self._run(self._sql.delete_matching(into, keys, stage))
            self._run_all(step, self._sql.insert(into, columns, stage), rows)
            return
        missing = self._sql.missing(into, keys, stage)
        new = self._count(missing)
        if set(columns) > set(keys):
            # a key may be stored more than once, from before
            known = self._count(f"{into} AS t WHERE {self._sql.among(keys, 't', keys, stage)}")
            self._run_all(step, self._sql.update_matching(into, columns, keys, stage), known)
        insert = self._sql.insert_from(into, columns, missing, nulls=step.absent(columns))
        self._run_all(step, insert, new)

    # the ends of passes ----------------------------------------------------------------------------------------------

    def _complete(self, step: Step) -> None:
        if step.keys is not None:
            self._sweep(step, step.keys)
        for statement in self._delivered.trim(step, forget=not self._appends):
            self._run(statement)

    def _sweep(self, step: Step, present: Step) -> None:
        scope, into = self._scope(step), self._into(step)
        missing = "TRUE"
        if present.rows:
            keys = present.columns
            missing = f"NOT {self._sql.among(keys, 't', keys, self._session.stage(present))}"
        where = f"FROM {into} AS t WHERE {scope.text}"
        ((total,),) = self._session.fetch(Statement(f"SELECT count(*) {where}", scope.values))
        removed = self._run(Statement(f"DELETE {where} AND {missing}", scope.values))
        guard(removed, total, self._window.scope, step.table.name)
        self.removed += removed

    def _swap(self, step: Step) -> None:
        into, hidden = self._into(step), self._session.relation(step.hidden)
        stored = self._session.columns(step.table.name)
        columns = [name for name in self._session.columns(step.hidden) if name in stored]
        if not columns:
            raise TaskError(f"{step.table.name}: the hidden table {step.hidden!r} of its full refresh is not there")
        kept = self._count(hidden)
        removed = self._run(self._delete_scope(step))
        guard(removed - kept, removed, self._window.scope, step.table.name)
        if not self._appends:
            # a row of another source may have the same key
            self._run(self._sql.delete_matching(into, step.table.primary_key, hidden))
        self._run_all(step, self._sql.insert(into, columns, hidden), kept)
        self._run(Statement(f"DROP TABLE {hidden}"))
        for statement in self._delivered.adopt(step):
            self._run(statement)

    def _forget(self, step: Step) -> None:
        for statement in self._delivered.trim(step, forget=True):
            self._run(statement)
        if step.hidden and self._session.columns(step.hidden):
            self._run(Statement(f"DROP TABLE {self._session.relation(step.hidden)}"))


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
