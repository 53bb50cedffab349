"""Makes a stored table fit, for every SQL database: what differs, and the DDL that fixes it."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from strandline.connectors.arrow.changes import in_words, refused_change
from strandline.connectors.arrow.widening import EXACT_MAX, Fit, fit, is_plain
from strandline.connectors.sql.dialect import Dialect, Statement
from strandline.connectors.sql.record import Record
from strandline.connectors.sql.references import check_unreferenced
from strandline.connectors.sql.register import Register
from strandline.connectors.sql.session import Session
from strandline.connectors.sql.tables import DELIVERED
from strandline.connectors.sql.types import Stored
from strandline.connectors.sql.users import Users
from strandline.destination import (
    BY_REFRESH,
    CHANGE_COLUMN,
    CHANGE_KEY,
    RECREATE,
    Change,
    MigrateMode,
    Migration,
    Scope,
)
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.ownership import Ownership, claimed, refusal
from strandline.table import CQ_ID, Table

__all__ = ["Found", "Migrator", "creation"]


_TEXTS = {"VARCHAR", "TEXT", "CHARACTER VARYING"}


@dataclass(frozen=True, slots=True)
class Found:
    """A stored table."""

    record: Record
    mark: str
    """Its identity; a table created again has another."""
    also: str = ""
    """See ``Migration``."""


def creation(
    table: Table,
    stored: Mapping[str, Stored],
    into: str,
    dialect: Dialect,
    *,
    mark: str = "",
    text: str = "",
    kind: str = "create",
    detail: str = "",
) -> Change:
    """The DDL of a new table."""
    definition = ", ".join(f"{dialect.quote(name)} {column.sql}" for name, column in stored.items())
    notes = {name: column.note for name, column in stored.items() if column.note}
    record = Record(table.primary_key, notes, tuple(stored), mark, text)
    ddl = [f"CREATE TABLE {into} ({definition})", *record.ddl(into, dialect)]
    if kind == RECREATE:
        ddl.insert(0, f"DROP TABLE {into}")
    return Change(kind, table.name, detail=detail or ", ".join(stored), ddl=tuple(ddl))


class Migrator(ABC):
    """For one table, in one session; with ``replaces`` for a full refresh, see ``Destination.migrate``."""

    def __init__(
        self,
        session: Session,
        table: Table,
        mode: MigrateMode,
        replaces: Scope | None = None,
    ) -> None:
        self._session, self._table, self._mode = session, table, mode
        self._stored: Mapping[str, Stored] = session.columns_of(table).stored
        self._replaces = replaces
        self._uses = Users(session, table, replaces) if replaces is not None else None
        self._quote, self._into = session.dialect.quote, session.relation(table.name)
        self._register = Register(session, table.name)
        self._kept: dict[str, pa.DataType] = {}
        self._users: list[str] = []
        """See ``Migration``."""
        self._others: list[str] = []
        """Who else is registered."""
        self._to_note: tuple[str, ...] = ()
        """DDL that only writes down what is true already: no change that anybody could see."""

    @abstractmethod
    def _find(self) -> Found | None:
        """The stored table; ``None``: there is none."""

    def _spelled(self, columns: Mapping[str, Stored]) -> Mapping[str, str]:
        """The types of wanted columns as ``Session.columns`` spells them."""
        return {name: stored.sql for name, stored in columns.items()}

    @abstractmethod
    def _dropped_with(self) -> Sequence[str]:
        """What people have attached to the stored table that goes when it is dropped, in words."""

    @abstractmethod
    def _tied(self, columns: Collection[str], *, key: bool) -> Sequence[str]:
        """What keeps these columns, or the primary key, from becoming others, in words; besides ``Users``.

        What the database takes along is not named: views that know the table by its name, grants, comments.
        """

    def _alter(self, columns: Mapping[str, str], *, key: bool) -> Sequence[str]:  # noqa: ARG002 -- who keeps something for it overrides this
        """The DDL that gives stored columns, here with their types, the wanted ones, empty.

        With ``key``, what we keep for the old primary key goes.
        """
        kinds = {self._quote(name): self._stored[name].sql for name in columns}
        return [
            f"ALTER TABLE {self._into} ALTER COLUMN {name} TYPE {kind} USING CAST(NULL AS {kind})"
            for name, kind in kinds.items()
        ]

    def _twin(self, column: str, actual: Mapping[str, str]) -> str:
        """The stored column that the database takes for this one; empty: there is none."""
        fold = self._session.dialect.fold
        return {fold(stored): stored for stored in actual}.get(fold(column), "")

    def _folding(self) -> Mapping[str, str]:
        """The stored columns whose collation takes different texts for equal ones, with what it is called."""
        return {}

    def _fit(self, column: str, before: tuple[str, str], after: tuple[str, str]) -> Fit:  # noqa: ARG002 -- others ask it
        """How a stored type with its note stands to the wanted one."""
        return fit(before, after)

    def _new_mark(self) -> str:
        """The identity of a new table, where the database has none of its own."""
        return secrets.token_hex(8)

    def plan(self, ownership: Ownership | None = None) -> Migration:
        """What differs; of a table that may not be written, nothing is said.

        Raises:
            TaskError: the stored table cannot be made to fit without losing its rows.
        """
        found = self._find()
        if found is None:
            return Migration((self._creation(),), None, empty=True, owners=())
        name = self._table.name
        rows = self._session.is_full(name)
        owners = self._register.owners() if not rows or self._is_made_by_us(found) else ()
        attached = self._session.attached(name)
        there = Migration(
            (),
            found.mark,
            empty=not rows,
            also=found.also,
            owners=owners,
            theirs=attached.theirs(self._table) if found.record.ours else (),
            references=tuple(map(str, attached.references)),
        )
        if ownership and refusal(name, ownership, owners, exists=True, empty=not rows, recreates=False):
            return there
        if ownership is not None:
            self._others = [str(one) for one in owners if not one.is_same(ownership.owner)]
        changes = tuple(self._changes(found, adopt=ownership is not None and ownership.adopt))
        there = replace(there, kept=dict(self._kept), users=tuple(dict.fromkeys(self._users)))
        if not any(change.kind == RECREATE for change in changes):
            return replace(there, changes=changes)
        check_unreferenced(
            self._session,
            self._table,
            attached.guarded(self._table),
            Statement("TRUE"),
            why="would be dropped, as the table has to be created again (migrate_mode: forced)",
            hint="remove what refers to them first",
        )
        lost = [*(f"column {column}" for column in there.theirs), *there.references, *self._dropped_with()]
        if lost:
            changes = tuple(replace(one, detail=f"{one.detail}; lost: {', '.join(lost)}") for one in changes)
        return replace(there, changes=changes, attached=tuple(lost))

    def _is_made_by_us(self, found: Found) -> bool:
        """Whether a full table is the one that is registered, and not somebody's that has taken its name since.

        What is kept with a table goes with it; where that was lost, every row has to say that an owner wrote it.
        """
        return found.record.ours or bool(found.record.mark) or self._register.has_written_all()

    def apply(self, ownership: Ownership | None = None) -> Migration:
        """What differed, done.

        Raises:
            UsageError: the table may not be written.
        """
        if ownership is not None:
            self._register.lock()
        found = self.plan(ownership)
        if ownership is not None:
            exists, recreates = found.mark is not None, any(change.kind == RECREATE for change in found.changes)
            owners = claimed(
                self._table.name, ownership, found.owners or (), exists=exists, empty=found.empty, recreates=recreates
            )
            self._register.save(owners)
        for statement in (*(one for change in found.changes for one in change.ddl), *self._to_note):
            self._session.run(Statement(statement))
        if not found.changes and not self._to_note:
            return found
        created = any(change.kind in {"create", RECREATE} for change in found.changes)
        if created:
            # what was delivered into a table of this name before is no longer stored
            delivered, name = self._session.relation(DELIVERED), self._quote("table")
            parameter = self._session.dialect.parameter
            self._session.run(Statement(f"DELETE FROM {delivered} WHERE {name} = {parameter}", (self._table.name,)))
        stored = self._find()
        if stored is None:
            raise AssertionError("a table that was migrated is there")
        return replace(found, mark=stored.mark, also=stored.also, empty=found.empty or created)

    def _creation(self, *, text: str = "", kind: str = "create", detail: str = "") -> Change:
        dialect, mark = self._session.dialect, self._new_mark()
        return creation(self._table, self._stored, self._into, dialect, mark=mark, text=text, kind=kind, detail=detail)

    def _changes(self, found: Found, *, adopt: bool) -> Sequence[Change]:
        """Everything that differs; the comment last."""
        name, record, actual = self._table.name, found.record, self._session.columns(self._table.name)
        wanted = self._spelled(self._stored)
        changes: list[Change] = []
        refused: list[str] = []
        misfits: list[Change] = []
        if record.ours and set(record.primary_key) != set(self._table.primary_key):
            misfits.append(Change(CHANGE_KEY, name, detail=f"{record.primary_key} to {self._table.primary_key}"))
        folding = self._folding() if self._table.primary_key else {}
        refused += [
            f"column {key!r} of its primary key has the collation {folding[key]}, in which different keys are equal"
            for key in self._table.primary_key
            if key in folding
        ]
        if not adopt:
            self._check_columns(record, actual)
        for column, stored in self._stored.items():
            twin = self._twin(column, actual)
            if twin and twin != column:
                refused.append(
                    f"column {column!r} and the stored {twin!r} are one column to {self._session.dialect.name}"
                )
                continue
            if not twin:
                ddl = f"ALTER TABLE {self._into} ADD COLUMN {self._quote(column)} {stored.sql}"
                changes.append(Change("add_column", name, column, stored.sql, (ddl,)))
                continue
            before, after = (actual[column], record.notes.get(column, "")), (wanted[column], stored.note)
            verdict = self._verdict(column, before, after)
            if verdict is Fit.NOT:
                kinds = " to ".join(" ".join(kind).strip() or "any" for kind in (before, after))
                misfits.append(Change(CHANGE_COLUMN, name, column, kinds))
            elif verdict is not Fit.SAME:
                changes.append(self._widen(column, before[0], after[0], verdict))
        if refused or (misfits and self._replaces is None):
            return [self._refuse([*refused, *map(in_words, misfits)], record.text)]
        left = self._left_to_refresh(misfits, actual)
        return [*left, *changes, *self._recorded(record, actual, left)]

    def _left_to_refresh(self, misfits: Sequence[Change], actual: Mapping[str, str]) -> Sequence[Change]:
        """What the ``Swap`` of a full refresh has to change.

        Raises:
            UsageError: somebody else uses it.
        """
        if self._replaces is None:
            return ()
        left = list(misfits)
        if left:
            columns = {one.column for one in left if one.column}
            users = self._in_use(columns, key=any(one.kind == CHANGE_KEY for one in left))
            if users:
                raise refused_change(self._table.name, left, users)
        for column in tuple(self._kept):
            users = self._in_use({column}, key=False)
            self._users += users
            if not users:
                del self._kept[column]
                kinds = f"{actual[column]} to {self._stored[column].sql or 'any'}"
                left.append(Change(CHANGE_COLUMN, self._table.name, column, kinds))
        return left

    def _in_use(self, columns: Collection[str], *, key: bool) -> Sequence[str]:
        used = self._uses.of(columns, key=key) if self._uses is not None else ()
        return list(dict.fromkeys([*self._others, *used, *self._tied(columns, key=key)]))

    def left(self) -> Sequence[Change]:
        """In the transaction of a ``Swap``: what it has to change. Raises as ``plan``."""
        found = self._find()
        changes = self._changes(found, adopt=True) if found is not None else ()
        return [one for one in changes if one.kind in BY_REFRESH]

    def reshape(self, left: Sequence[Change]) -> None:
        """In the transaction of a ``Swap``: change it. Whatever is in these columns is lost."""
        found, actual = self._find(), self._session.columns(self._table.name)
        if found is None:
            raise AssertionError("a table that is to be changed is there")
        wanted = self._spelled(self._stored)
        columns = {name: actual[name] for one in left if (name := one.column) and actual[name] != wanted[name]}
        for statement in self._alter(columns, key=any(one.kind == CHANGE_KEY for one in left)):
            self._session.run(Statement(statement))
        for change in self._recorded(found.record, actual):
            for statement in change.ddl:
                self._session.run(Statement(statement))

    def _verdict(self, column: str, before: tuple[str, str], after: tuple[str, str]) -> Fit:
        """``_fit``, with a look at the values where they decide."""
        verdict = self._fit(column, before, after)
        if verdict is Fit.BY_VALUE:
            return self._by_value(column)
        kind = self._may_stay(column, before) if verdict is Fit.NOT else None
        if kind is None:
            return verdict
        if self._is_empty(column):
            return Fit.EMPTY
        self._kept[column] = kind
        return Fit.SAME

    def _by_value(self, column: str) -> Fit:
        """Whether every whole number that is stored is a double."""
        name = self._quote(column)
        beyond = f"SELECT 1 FROM {self._into} WHERE {name} < -{EXACT_MAX} OR {name} > {EXACT_MAX} LIMIT 1"
        return Fit.NOT if self._session.ask(beyond) else Fit.WIDEN

    def _may_stay(self, column: str, before: tuple[str, str]) -> "pa.DataType | None":
        """As what a stored column may stay: as ``Table.former`` says, or as text; not a key, which would not be found."""
        if column in self._table.former:
            former = self._session.columns_of(self._table.formerly([column])).stored[column]
            if self._fit(column, before, (self._spelled({column: former})[column], former.note)) is Fit.SAME:
                return self._table.former[column]
        is_text = before[0].upper() in _TEXTS and not before[1] and column not in self._table.primary_key
        return pa.string() if is_text and is_plain(self._table.schema.field(column).type) else None

    def _is_empty(self, column: str) -> bool:
        value = f"SELECT 1 FROM {self._into} WHERE {self._quote(column)} IS NOT NULL LIMIT 1"
        return not self._session.ask(value)

    def _widen(self, column: str, before: str, after: str, verdict: Fit) -> Change:
        kind = self._stored[column].sql
        using = f" USING CAST(NULL AS {kind})" if verdict is Fit.EMPTY else ""
        ddl = f"ALTER TABLE {self._into} ALTER COLUMN {self._quote(column)} TYPE {kind}{using}"
        return Change("widen_column", self._table.name, column, f"{before} to {after}", (ddl,))

    def _recorded(self, record: Record, actual: Mapping[str, str], left: Sequence[Change] = ()) -> list[Change]:
        """The comment, where it does not say what is true now; what is left to a full refresh is not true yet."""
        notes, later = dict(record.notes), {one.column for one in left}
        key = record.primary_key if any(one.kind == CHANGE_KEY for one in left) else self._table.primary_key
        for column, stored in self._stored.items():
            if column not in later and column not in self._kept and (stored.note != "null" or column not in actual):
                notes.pop(column, None)
                notes |= {column: stored.note} if stored.note else {}
        mark, columns = record.mark or self._new_mark(), tuple(dict.fromkeys([*record.columns, *self._stored]))
        fresh = replace(record, primary_key=key, notes=notes, columns=columns, mark=mark, ours=True)
        ddl = fresh.ddl(self._into, self._session.dialect)
        if fresh == replace(record, columns=columns, mark=mark):
            self._to_note = ddl if fresh != record else ()
            return []
        return [Change("record" if record.ours else "adopt", self._table.name, ddl=ddl)]

    def _check_columns(self, record: Record, actual: Mapping[str, str]) -> None:
        """Whether the wanted columns that are there are ours.

        Raises:
            TaskError: somebody has added one, and the source has one of that name now.
        """
        for column in self._stored if record.columns else ():
            if column in actual and column not in record.columns:
                raise TaskError(
                    f"table {self._table.name!r}: the source has a column {column!r} now, and somebody has added one of that "
                    "name to the stored table, whose values would be overwritten",
                    hint="rename the stored column; or say `adopt: true` for the table in table_settings: then its values are "
                    "overwritten",
                )

    def _without_key(self) -> str:
        if self._table.primary_key != (CQ_ID,):
            return ""
        return (
            "; where the source gives the table no primary key any more (it was dropped, or tables inherit from it, in which "
            "keys may come again), name one that holds: `primary_key`"
        )

    def _refuse(self, reasons: Sequence[str], text: str) -> Change:
        why = "; ".join(reasons)
        if self._mode is MigrateMode.FORCED and self._replaces is None:
            return self._creation(text=text, kind=RECREATE, detail=why)
        raise TaskError(
            f"table {self._table.name!r} cannot be made to fit without losing its rows: {why}",
            hint="`--full-refresh` of the table reads it again, and then changes it with its rows; `migrate_mode: forced` creates "
            f"it again, empty, and reads everything again{self._without_key()}",
        )
