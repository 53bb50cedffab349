"""What the SQL destinations share: rows, cursor and fence in one transaction of one session."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, ClassVar, Generic, TypeVar

from strandline.connectors.sql.ahead import look_ahead
from strandline.connectors.sql.columns import StoredColumns
from strandline.connectors.sql.database import SqlDatabase
from strandline.connectors.sql.latest import LatestView, creation_of_view, looked_at
from strandline.connectors.sql.merge import Merge, holds
from strandline.connectors.sql.migration import Migrator, creation
from strandline.connectors.sql.session import Session
from strandline.connectors.sql.staging import STAGED_BYTES_MAX, Staging, Step
from strandline.connectors.sql.states import SqlStates, check_fence, save_state
from strandline.destination import (
    Capabilities,
    Delivery,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Reach,
    Receipt,
    Scope,
    Window,
    WriteMode,
)
from strandline.errors import StrandlineError
from strandline.lazy import pa
from strandline.ownership import Ownership
from strandline.state import StateBackend
from strandline.table import Table

__all__ = ["SqlDestination"]

S = TypeVar("S", bound=Session)


class SqlDestination(Generic[S]):
    """See ``strandline.destination.Destination``.

    Args:
        database: where the rows lie.
        schema: of the tables, as ``Dialect.relation`` takes it.
        place: of the states, in words.
    """

    staged_bytes_max = STAGED_BYTES_MAX
    columns_type: ClassVar[type[StoredColumns[Any]]]
    """How the columns of a table are stored."""
    reach: ClassVar[Reach] = Reach.ANYWHERE
    migrator_type: ClassVar[type[Migrator]]
    """Makes the stored table fit."""

    def __init__(self, database: SqlDatabase[S], schema: str, place: str) -> None:
        self._schema = schema
        self._sessions = database
        self._states = SqlStates(database, place)
        self._ahead = threading.local()
        """Of a thread: the session that has looked at many tables already."""

    @property
    def capabilities(self) -> Capabilities:
        """All that there is."""
        return Capabilities(
            write_modes=frozenset(WriteMode),
            delivery=Delivery.ATOMIC,
            orders_versions=True,
            latest_views=True,
            reach=self.reach,
            types_refused=self.columns_type.types.refused,
        )

    @property
    def states(self) -> StateBackend:
        """The states beside the rows."""
        return self._states

    def _stored(self, table: Table) -> Table:
        """The table under the name that it has in the database."""
        return table

    def _stored_name(self, name: str) -> str:
        """Which name that is."""
        return name

    def _renamed(self, window: Window) -> Window:
        """The window with the names that its tables have in the database."""
        return window

    def _spill(self, session: S) -> Callable[[Step], None]:
        """Moves the batches of a step into its temporary table."""
        return session.spill

    def _take(self, staging: Staging, window: Window) -> None:
        """Everything of a window, before the transaction begins."""
        staging.take(window)

    def _merge(self, session: S, window: Window, mode: WriteMode, steps: Collection[Step]) -> Merge:  # noqa: ARG002 -- others prepare them
        """At the beginning of the transaction: what merges the steps."""

        def migrator(table: Table, replaces: Scope) -> Migrator:
            return self.migrator_type(session, table, MigrateMode.SAFE, replaces)

        return Merge(session, window, mode, migrator)

    def _merged(self, session: S, fence: Fence) -> None:
        """At the end of the transaction."""

    def migrate(
        self,
        table: Table,
        *,
        mode: MigrateMode,
        fence: Fence,
        apply: bool = True,
        ownership: Ownership | None = None,
        replaces: Scope | None = None,
    ) -> Migration:
        """Make the stored table fit ``table``."""
        table = self._stored(table)
        if not apply:
            with self._session_to_look(table.name) as looking:
                if looking is not None:
                    return looked_at(looking, table, self.migrator_type(looking, table, mode, replaces), ownership)
            return self._creation(table, self.columns_type(table))
        self.columns_type(table)  # refuses what cannot be stored, before a database is made for it
        writing = self._sessions.writing(cascades=table.allow_cascade, repeatable=True)
        with writing as session, session.about(table.name):
            check_fence(session, fence)
            migrator, view = self.migrator_type(session, table, mode, replaces), LatestView.of(session, table)
            if view is None:
                return migrator.apply(ownership)
            return view.around(self.migrator_type(session, table, mode, replaces), migrator, ownership)

    @contextmanager
    def looking_at(self, names: Sequence[str]) -> Iterator[None]:
        """One session looks at all of them; see ``strandline.looking.LooksAtMany``."""
        names = [self._stored_name(name) for name in names]
        with ExitStack() as stack:
            # whoever looks at a single table then says what is wrong with it
            with suppress(StrandlineError), self._sessions.meaning("look at its tables"):
                session = stack.enter_context(self._sessions.looking())
                if session is not None:
                    session.ahead = look_ahead(session, names)
                    self._ahead.session = session
            try:
                yield
            finally:
                self._ahead.session = None

    @contextmanager
    def _session_to_look(self, table: str) -> Iterator[S | None]:
        session: S | None = getattr(self._ahead, "session", None)
        if session is None:
            with self._sessions.looking(table) as own:
                yield own
            return
        try:
            with self._sessions.meaning(f"look at {table}"):
                yield session
        except StrandlineError as error:
            if error.__cause__ is not None:  # after an error of the database, a transaction answers no more
                self._ahead.session = None
            raise

    def _creation(self, table: Table, columns: StoredColumns[Any]) -> Migration:
        """Of a table in a database that is not there yet."""
        dialect = columns.dialect

        def relation(name: str) -> str:
            return dialect.relation(self._schema, name)

        changes = [creation(table, columns.stored, relation(table.name), dialect)]
        if table.latest_view:
            changes.append(creation_of_view(table, tuple(columns.stored), relation, dialect))
        return Migration(tuple(changes), None, empty=True, owners=())

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``, in one transaction."""
        window = self._renamed(window)
        with self._sessions.session(cascades=any(one.allow_cascade for one in window.tables.values())) as session:
            staging = Staging(
                mode, prepare=session.prepare, spill=self._spill(session), bytes_max=self.staged_bytes_max
            )
            self._take(staging, window)
            with self._sessions.transaction(session):
                check_fence(session, fence, key=window.key, expected=window.expected)
                merge = self._merge(session, window, mode, staging.steps)
                merge.apply(staging.steps)
                window.emptied(merge.emptied(), merge.lacking)
                state = save_state(session, window.key, window.state, expected=window.expected)
                self._merged(session, fence)
        return Receipt(state, dict(merge.rows), dict(merge.known), merge.removed, merge.lacking)

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope."""
        table = self._stored(table)
        with self._sessions.looking(table.name) as session:
            return Held(session is not None and holds(session, table, scope))

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in the Arrow types of ``table``."""
        table = self._stored(table)
        names, stored = list(columns) if columns is not None else table.schema.names, self.columns_type(table)
        query = f"SELECT {stored.reading(names)} FROM {stored.dialect.relation(self._schema, table.name)} AS t"
        for rows in self._sessions.fetched(query, table.name):
            yield stored.decoded(rows, names)

    def close(self) -> None:
        """Release what is open. A second call does nothing."""
        self._sessions.close()
