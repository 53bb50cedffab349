"""One database of a SQL destination: its sessions and transactions."""

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from strandline.connectors.sql.session import FileSession, Session
from strandline.connectors.sql.tables import create_register, has_own_tables, has_register
from strandline.errors import StateError, StrandlineError, TaskError

__all__ = ["UNKNOWN_HINT", "FileDatabase", "Gate", "SqlDatabase"]

UNKNOWN_HINT = "the next run reads what was stored and goes on from there"

S = TypeVar("S", bound=Session)
F = TypeVar("F", bound=FileSession)


class SqlDatabase(ABC, Generic[S]):
    """Opens sessions on one database. Safe to share between threads; a session is one thread's."""

    place: str
    """In words."""

    def __init__(self) -> None:
        self._prepared = False

    @abstractmethod
    def looking(self, table: str = "") -> AbstractContextManager[S | None]:
        """A session that only looks, at ``table`` perhaps; ``None``: there is no database."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[S | None]:
        """A consistent view; ``None``: there is no database, or our tables are not in it."""

    @abstractmethod
    def meaning(self, what: str) -> AbstractContextManager[None]:
        """Turns the driver's errors into ours."""

    @abstractmethod
    def fetched(self, query: str, table: str) -> Iterator[Any]:
        """The rows of a query of ``table``, as ``StoredColumns.decoded`` takes them."""

    @contextmanager
    def writing(self, *, cascades: bool = False, repeatable: bool = False) -> Iterator[S]:
        """A transaction that commits unless something is raised; our tables are there.

        Args:
            cascades: whether foreign keys decide what becomes of rows that refer to a deleted one.
            repeatable: whether doing the same again would change nothing.
        """
        with self.session(cascades=cascades) as session, self.transaction(session, repeatable=repeatable):
            yield session

    @abstractmethod
    def session(self, *, cascades: bool = False) -> AbstractContextManager[S]:
        """Outside a transaction, to write; see ``writing``."""

    @abstractmethod
    def transaction(self, session: S, *, repeatable: bool = False) -> AbstractContextManager[None]:
        """One transaction of ``session``; our tables are there.

        Raises:
            StateError: whether it was committed is not known.
        """

    def _prepare(self, session: S) -> None:
        """Our own tables, in a database of this version or of an older one."""
        if not self._is_ours(session):
            self._create(session)
        else:
            self._upgrade(session)

    def _is_ours(self, session: S) -> bool:
        """Whether our own tables are there."""
        return has_own_tables(session, self.place)

    @abstractmethod
    def _create(self, session: S) -> None:
        """Our own tables, with what they need."""

    def _upgrade(self, session: S) -> None:
        """What an older version has not made."""
        if not has_register(session):
            create_register(session)

    @abstractmethod
    def close(self) -> None:
        """Release what is open. A second call does nothing."""


class Gate:
    """Lets one transaction at a time into a file, whichever of our connections it is."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


_gates: "weakref.WeakValueDictionary[str, Gate]" = weakref.WeakValueDictionary()
_gates_lock = threading.Lock()


class FileDatabase(SqlDatabase[F]):
    """A database in a file, into which one transaction at a time may write."""

    system: ClassVar[str]
    _gate_type: type[Gate] = Gate

    def __init__(self, path: str, key: str = "") -> None:
        super().__init__()
        self.path, self.place = path, f"{self.system} {path}"
        with _gates_lock:
            self._gate = _gates.setdefault(f"{self.system} {key or os.path.realpath(path)}", self._gate_type())

    @property
    def exists(self) -> bool:
        """Whether there is anything to look at; looking must not create a file."""
        return Path(self.path).exists()

    def _session_to_look(self) -> AbstractContextManager[F]:
        """Of a file that is there."""
        return self.session()

    @contextmanager
    def looking(self, table: str = "") -> Iterator[F | None]:
        """See ``SqlDatabase``."""
        if not self.exists:
            yield None
            return
        with self._session_to_look() as session, self.meaning(f"look at {table}"):
            yield session

    @contextmanager
    def reading(self) -> Iterator[F | None]:
        """See ``SqlDatabase``."""
        if not self.exists:
            yield None
            return
        with self._session_to_look() as session, self.meaning("read it"):
            session.execute("BEGIN TRANSACTION")
            yield session if self._is_ours(session) else None

    def fetched(self, query: str, table: str) -> Iterator[Any]:
        """See ``SqlDatabase``."""
        if not self.exists:
            raise TaskError(f"{table}: there is no {self.system} file {self.path}")
        with self._session_to_look() as session, self.meaning(f"read {table}"):
            yield from session.fetched(query)

    @contextmanager
    def transaction(self, session: F, *, repeatable: bool = False) -> Iterator[None]:  # noqa: ARG002 -- what failed is known
        """See ``SqlDatabase``. Alone in the file."""
        with self._gate.lock:
            with self.meaning("write to it"):
                session.begin()
                try:
                    if not self._prepared:
                        self._prepare(session)
                    yield
                    session.settle()
                except BaseException:
                    with suppress(self._errors()):
                        session.roll_back()
                    raise
            self._commit(session)
            self._prepared = True

    def _commit(self, session: F) -> None:
        try:
            session.commit()
        except self._errors() as error:
            if self._has_done_nothing(session, error):
                raise self._translated(error, "commit") from error
            # what failed may have been the last thing to do (fsync, a checkpoint), or the first
            said = str(error).strip().split("\n")[0]
            raise StateError(
                f"{self.place}: it is not known whether a commit happened: {said}", hint=UNKNOWN_HINT
            ) from error

    @abstractmethod
    def _has_done_nothing(self, session: F, error: Exception) -> bool:
        """After a commit that failed: whether nothing of it is there. Nothing of it is left in our connections."""

    @contextmanager
    def meaning(self, what: str) -> Iterator[None]:
        """Turns the driver's errors into ours."""
        try:
            yield
        except self._errors() as error:
            raise self._translated(error, what) from error

    @abstractmethod
    def _errors(self) -> type[Exception]:
        """What the driver raises."""

    @abstractmethod
    def _translated(self, error: Exception, what: str) -> StrandlineError:
        """An error as ours, if ``what`` cannot be done."""
