"""The log of a lake, in its store: ``_strandline/log/<number>.json``, and a snapshot of it now and then.

A commit creates the next number, which one of two writers can. Whoever was away so long that his number was removed again finds a
snapshot that is newer than what he has created, and that does not know of it: nothing was committed.
"""

import secrets
import threading
from collections.abc import Callable

from strandline.connectors.lake.log import Entry, Log, decode_entry, encode_entry
from strandline.connectors.lake.store import Store, explained
from strandline.connectors.stores.opening import refused
from strandline.errors import RetryableError, StateError, TaskError, UnreachableError

__all__ = ["OWN", "Journal", "keys_of"]

OWN = "_strandline"
"""Where we keep what is ours, in the root of a lake."""
_LOG = f"{OWN}/log"
_SNAPSHOT_EVERY = 50
_ATTEMPTS_MAX = 1000


class Journal:
    """Safe to share between threads; any number of processes may use it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = Log()
        self._checked = False
        self._lock = threading.RLock()

    @property
    def where(self) -> str:
        """For people."""
        return self._store.where

    def look(self) -> Log:
        """What is committed.

        Raises:
            StateError: an entry is damaged, or gone.
        """
        with self._lock:
            if not self._log.number:
                self._log = self._read()
            while (content := self._store.get(_entry(self._log.number + 1))) is not None:
                self._log = self._with(content, self._log.number + 1)
            if self._newest() > self._log.number:  # others have removed what comes next
                self._log = self._read()
            return self._log

    def commit(self, entry_of: Callable[[Log, int], Entry]) -> Log:
        """Commit what ``entry_of`` makes of the log as it is, and of the number that the entry will have; it may be asked again.

        Raises:
            StateError: it is not known whether it was committed.
            UsageError: the store keeps no condition, so that nothing can be committed.
        """
        with self._lock:
            if not self._checked:
                with explained(f"{self.where}: cannot commit"):
                    self._store.check(f"{OWN}/probe-{secrets.token_hex(8)}")
                self._checked = True
            for _ in range(_ATTEMPTS_MAX):
                log = self.look()
                number, identity = log.number + 1, secrets.token_hex(16)
                entry = entry_of(log, number)
                if self._create(number, encode_entry(entry, number=number, ids=[identity])):
                    late = self._newest() >= number  # it was removed, with a snapshot of what came after
                    found = self._read() if late else self.look()
                    if not late or identity in found.ids:
                        self._log = found
                        self._shorten()
                        return self._log
                    self._store.delete([_entry(number)])
                    self._log = found
        raise RetryableError(f"{self.where}: other runs commit so often that this one never could")

    def _create(self, number: int, content: bytes) -> bool:
        """Whether the entry is ours, also where the reply was lost."""
        name = _entry(number)
        try:
            if self._store.create(name, content):
                return True
        except Exception as error:
            found = self._store.get(name)
            if isinstance(error, OSError) and error.errno is not None and found is None:
                with explained(f"{self.where}: cannot commit"):
                    raise
            if found is None or isinstance(error, OSError):
                raise StateError(
                    f"{self.where}: it is not known whether a commit was made, or lasts ({str(error)[:300]})",
                    hint="the next run reads what is there, and goes on from it",
                ) from error
        return self._store.get(name) == content

    def _with(self, content: bytes, number: int) -> Log:
        entry, ids = decode_entry(content, number=number, where=f"{self.where}/{_entry(number)}")
        return self._log.after(entry, number=number, ids=ids)

    def _newest(self) -> int:
        """The number of the newest snapshot."""
        return max((_number(name) for name in self._store.listed(_LOG) if name.endswith(".snapshot")), default=0)

    def _read(self) -> Log:
        """Everything, from the newest snapshot on."""
        newest, log = self._newest(), Log()
        if newest:
            content = self._store.get(f"{_LOG}/{newest:020d}.snapshot")
            if content is None:  # others have shortened the log meanwhile
                return self._read()
            entry, ids = decode_entry(content, number=newest, where=f"{self.where}/{_LOG}/{newest:020d}.snapshot")
            log = Log().after(entry, number=newest, ids=ids)
        self._log = log
        last = max((_number(name) for name in self._store.listed(_LOG) if name.endswith(".json")), default=0)
        for number in range(newest + 1, last + 1):
            content = self._store.get(_entry(number))
            if content is None:
                if self._newest() > newest:
                    return self._read()
                raise StateError(
                    f"{self.where}/{_entry(number)}: an entry of the log is gone",
                    hint="restore the directory from a backup",
                )
            self._log = self._with(content, number)
        return self._log

    def _shorten(self) -> None:
        """Write a snapshot where one is due, and remove what it makes needless."""
        log = self._log
        if log.number % _SNAPSHOT_EVERY:
            return
        content = encode_entry(log.snapshot(), number=log.number, ids=log.ids)
        if self._store.create(f"{_LOG}/{log.number:020d}.snapshot", content):
            names = [name for name in self._store.listed(_LOG) if not name.startswith(".")]
            old = [
                name
                for name in names
                if _number(name) < log.number or (name.endswith(".json") and _number(name) == log.number)
            ]
            self._store.delete(f"{_LOG}/{name}" for name in old)


def keys_of(store: Store) -> dict[str, tuple[str, ...]]:
    """The primary keys of the tables that were written into a lake, by name; none where this user may not read that."""
    try:
        with explained(store.where):
            return {name: one.primary_key for name, one in Journal(store).look().tables.items()}
    except UnreachableError as error:
        if error.__cause__ is None or not refused(error.__cause__):
            raise
    except (StateError, TaskError):
        pass
    return {}


def _entry(number: int) -> str:
    return f"{_LOG}/{number:020d}.json"


def _number(name: str) -> int:
    stem = name.partition(".")[0]
    return int(stem) if stem.isdigit() else 0
