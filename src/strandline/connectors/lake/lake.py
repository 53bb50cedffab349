"""All tables of a lake: what its log says of them, made true in their own logs before anything else is done with them."""

import base64
import hashlib
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from strandline.connectors.lake.journal import OWN, Journal
from strandline.connectors.lake.lake_table import DataFile, Format, LakeTable, Snapshot
from strandline.connectors.lake.log import Intent, Record
from strandline.connectors.lake.plan import Plan, rewritten
from strandline.connectors.lake.rows import Form
from strandline.connectors.lake.store import Store, explained
from strandline.destination import Scope
from strandline.errors import RetryableError, StrandlineError, TaskError
from strandline.lazy import pa
from strandline.ownership import Owner
from strandline.paths import encode_part
from strandline.table import Table

__all__ = ["DELIVERED", "KEYS", "Lake", "Opened", "folder_of", "record_of"]

KEYS, DELIVERED = f"{OWN}/keys", f"{OWN}/delivered"
"""Of what entries name: keys of rows that go, and delivered sets."""


class Opened:
    """A table that is there, and as its log says."""

    def __init__(self, stored: LakeTable, form: Form, found: Snapshot, record: Record) -> None:
        self.stored, self.form, self.found, self.record = stored, form, found, record

    def check_writable(self) -> None:
        """Whether its log asks nothing that we cannot do.

        Raises:
            TaskError: it does.
        """
        if trouble := self.found.trouble or self.stored.trouble(self.form, self.found):
            raise TaskError(
                f"table {self.form.table.name!r}: {trouble}", hint="somebody has changed it; change it back"
            )

    @property
    def empty(self) -> bool:
        """Whether it has no rows."""
        return all(file.rows == 0 for file in self.found.files.values())


class Lake:
    """Safe to share between threads."""

    def __init__(self, store: Store, form: Format) -> None:
        self.store, self.journal, self._format = store, Journal(store), form
        self._tables: dict[str, LakeTable] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()

    @property
    def where(self) -> str:
        """For people."""
        return self.store.where

    def table(self, name: str) -> LakeTable:
        """The place of a table, whether there is one or not."""
        with self._guard:
            if name not in self._tables:
                self._tables[name] = self._format.table(name)
            return self._tables[name]

    def form(self, table: Table, partition_by: tuple[str, ...]) -> Form:
        """How its rows would be laid out."""
        return self._format.form(table, partition_by)

    def form_of(self, name: str, record: Record) -> Form:
        """How a stored table is laid out."""
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(record.schema)))
        return self.form(Table(name, schema, record.primary_key), record.partition_by)

    @contextmanager
    def alone(self, names: Sequence[str]) -> Iterator[None]:
        """Alone among the threads with these tables."""
        with self._guard:
            locks = [self._locks.setdefault(name, threading.RLock()) for name in sorted(set(names))]
        with ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            yield

    def opened(self, name: str, record: Record) -> Opened:
        """A table that the log knows.

        Raises:
            TaskError: it is gone, or another one is there.
        """
        stored, form = self.table(name), self.form_of(name, record)
        found = stored.settled(record.intent, _Finder(self, stored, form))
        if record.intent.gone:
            self.store.delete([record.intent.gone])
        return Opened(stored, form, found, record)

    def is_intact(self, name: str, record: Record) -> bool:
        """Whether what is there is what the log knows."""
        found = self.table(name).snapshot()
        return record.intent.creates if found is None else found.id == record.intent.id

    def intent(self, number: int, opened: Opened, plan: Plan, after: Form) -> Intent:
        """What makes a plan true that ``keep`` has made durable."""
        before = opened.form
        reshapes = after is not before and list(after.written.items()) != list(before.written.items())
        columns = opened.stored.columns(after) if reshapes else ()
        return Intent(
            number, opened.found.id, plan.adds, plan.rewrites, plan.keys, plan.scopes, columns, after.partition_by
        )

    def keep(self, opened: Opened, plan: Plan) -> None:
        """Make all that a plan names durable."""
        if plan.adds or any(plan.rewrites.values()):
            opened.stored.settle()
        if plan.gone is not None and len(plan.gone) and not plan.scopes:
            plan.keys = f"{KEYS}/{secrets.token_hex(16)}.arrow"
            self.store.create(plan.keys, _arrow(pa.table({"key": plan.gone})))

    def discard(self, opened: Opened, plan: Plan) -> None:
        """Remove the files of a plan that is not committed; what is left of them, a ``VACUUM`` removes."""
        adds = [*plan.adds, *(add for some in plan.rewrites.values() for add in some)]
        with suppress(OSError, StrandlineError):
            opened.stored.delete([add["path"] for add in adds])
            self.store.delete([plan.keys] if plan.keys else [])

    def clear(self, name: str, identity: str) -> None:
        """Remove what is left of a table that the log has dropped."""
        self.table(name).clear(identity)
        with self._guard:
            self._tables.pop(name, None)

    # delivered sets --------------------------------------------------------------------------------------------------

    def load_delivered(self, name: str) -> "pa.Table":
        """A file of a delivered set.

        Raises:
            TaskError: it is gone, or damaged.
        """
        with explained(f"{self.where}/{name}: cannot be read"):
            content = self.store.get(name)
        if content is None or hashlib.sha256(content).hexdigest() not in name:
            what = "gone" if content is None else "damaged"
            raise TaskError(
                f"{self.where}/{name}: {what}, so it is not known which rows were delivered",
                hint="restore it from a backup; or `strandline sync --full-refresh`",
            )
        return pa.ipc.open_file(content).read_all()

    def store_delivered(self, table: "pa.Table") -> str:
        """A new file of a delivered set, durable."""
        content = _arrow(table)
        name = f"{DELIVERED}/{hashlib.sha256(content).hexdigest()}-{secrets.token_hex(4)}.arrow"
        self.store.create(name, content)
        return name


class _Finder:
    """See ``Replan``."""

    def __init__(self, lake: Lake, stored: LakeTable, form: Form) -> None:
        self._lake, self._stored, self._form = lake, stored, form

    def rewritten(self, intent: Intent, file: DataFile) -> "list[dict[str, Any]] | None":
        """See ``Replan``."""
        gone = None
        if intent.gone:
            content = self._lake.store.get(intent.gone)
            if content is None:
                raise RetryableError(f"{self._lake.where}: another run has done meanwhile what was to be done")
            gone = pa.ipc.open_file(content).read_all()["key"].combine_chunks()
        scopes = [Scope(source, partition, 0) for source, partition in intent.scopes]
        left = rewritten(self._stored, self._form, file, gone, scopes)
        return None if left is None else [dict(add) for add in left]


def folder_of(name: str) -> str:
    """Of a table or a schema. The driver takes ``%20`` in a path for a blank, so it is ``~20``."""
    return encode_part(name).replace("%", "~")


def record_of(form: Form, mark: str, owners: tuple[Owner, ...], intent: Intent) -> Record:
    """What the log keeps of a table."""
    schema = pa.schema([pa.field(one.name, one.type) for one in form.table.schema])
    text = base64.b64encode(schema.serialize()).decode()
    return Record(text, form.table.primary_key, form.partition_by, mark, owners, intent)


def _arrow(table: "pa.Table") -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
