"""A directory of files with a commit log: what is committed, how it becomes so, and what dead runs have left.

::

    lake/                            the root
    ├── .strandline/                 private (0700)
    │   ├── .lock                    held for the length of one commit
    │   ├── log/
    │   │   ├── 00…041.commit        one file a commit, never changed
    │   │   └── 00…040.snapshot      what all entries up to this one add up to
    │   ├── delivered/               delivered sets
    │   ├── parts/                   of large cursors, see ``parts.py``
    │   └── staged/<run>/            what a run is writing; ``.lock`` is held while the run lives
    └── orders/                      the table
        └── orders-3-41-0-….parquet  a file of one commit

A commit: its files are durable in ``staged``, then its entry is linked under the next number (which is the commit), then
the files are renamed into sight. The next entry is only written when that is done, so that it is enough to look at the
newest entry to finish what was interrupted. Until then the entry has its temporary name, too: an entry of two names is one
whose files nobody can have removed yet.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from strandline.connectors.files.log import Entry, Log, decode_entry, encode_entry, next_of
from strandline.connectors.files.moves import Moves
from strandline.connectors.files.workshop import Workshop
from strandline.disk import check_locks_hold
from strandline.errors import (
    MACHINE,
    RetryableError,
    StateConflictError,
    StateError,
    StrandlineError,
    TaskError,
)
from strandline.paths import FOLDER, PLAIN, locked, make_directory, opened, write_file

__all__ = ["OWN", "Store", "Transaction", "explained"]

OWN = ".strandline"
LOCK_WAIT_S = 60.0
SNAPSHOT_ENTRIES_MIN = 64
SNAPSHOT_BYTES_MIN = 4 << 20
"""There are at least so many entries between two snapshots, or bytes, and as many bytes as the snapshot has: their cost is a
constant for each commit, however long the log, or large its entries."""

_DAY_S = 86_400
"""Where locks may not hold, what was written less long ago may be a live run's."""

_DELIVERED, _STAGED, _LOG = f"{OWN}/delivered", f"{OWN}/staged", f"{OWN}/log"
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR}


def meaning_of(error: OSError, what: str) -> StrandlineError:
    """An error of the operating system, when nothing was committed."""
    text = f"{what}: {error.strerror or error}"
    if error.errno in _FORBIDDEN:
        return TaskError(text, hint="`path` must be a directory that this user may write to, or a new one")
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return TaskError(text, hint="raise `ulimit -n`, or lower `partitions_max` and `concurrency`")
    return RetryableError(text, hint=MACHINE.get(error.errno or 0, MACHINE[errno.EIO]))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an error of the operating system into ours, when nothing was committed."""
    try:
        yield
    except OSError as error:
        raise meaning_of(error, what) from error


class Transaction:
    """Alone with the log."""

    def __init__(self, log: Log, commit: Callable[[Entry], Log]) -> None:
        self.log = log
        """What is committed."""
        self._commit = commit

    def commit(self, entry: Entry) -> None:
        """Commit one entry.

        Raises:
            StateError: it may be committed, or is, but its files are not in their place.
        """
        self.log = self._commit(entry)


class Store:
    """One root. Safe to share between threads; any number of processes of one machine may use it.

    Args:
        root: may not be there yet.
        allow_network: whether it may be on a network file system.
        claim: lasts while a root is made that has no log yet.
    """

    def __init__(
        self, root: Path, *, allow_network: bool, claim: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self.root = root
        self.verified: set[str] = set()
        """Files whose content this process has compared with the digests in their names."""
        self._log = Log()
        self._bytes = [0, 0]
        """Of the newest snapshot, and of the entries since."""
        self._snapshot = 0
        self._done = 0
        """Up to which entry the files are known to be in place."""
        self._seen: tuple[int, int, int] | None = None
        """The log's directory when nothing was in it that is not known."""
        self._workshop = Workshop(root / _STAGED, age_min_s=_DAY_S if allow_network else 0)
        self._moves = Moves(root, OWN)
        self._trusted, self._claim = allow_network, claim

    @property
    def where(self) -> str:
        """For errors."""
        return f"files {self.root}"

    def look(self) -> Log:
        """What is committed; files of it that an interrupted run left hidden are in sight then.

        Raises:
            StateError: the log is damaged.
        """
        if not self._exists():
            return Log()
        with self.alone() as log:
            return log

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Alone with the log, to commit to it.

        Raises:
            StateError: the log is damaged; or whether an entry was committed is not known.
        """
        self._refuse_network()
        folders = [self.root / folder for folder in (_LOG, _DELIVERED, _STAGED)]
        with nullcontext() if self._exists() else self._claim():
            make_directory(self.root, mode=0o777)
            for folder in folders:
                make_directory(folder)
        self._moves.name(folders)
        with self.alone() as log:
            if not self._workshop.is_open:
                self._sweep()
                self._workshop.open()
            yield Transaction(log, self._commit)

    @contextmanager
    def alone(self) -> Iterator[Log]:
        """What is committed, while nobody else can commit; the root's private directory is there."""
        own = self.root / OWN
        with opened(own, FOLDER | os.O_NOFOLLOW) as directory, locked(directory, own, wait_s=LOCK_WAIT_S):
            yield self._current() if self._exists() else Log()

    def stage(self) -> str:
        """The name of a new file of this run, relative to the root; nobody looks at it until it is committed."""
        if not self._workshop.is_open:
            with self.transaction():
                pass
        return str(self._workshop.stage().relative_to(self.root))

    def seal(self, files: Iterable[str]) -> None:
        """Make the names of staged files durable, before an entry names them."""
        for folder in {(self.root / file).parent for file in files}:
            with opened(folder, FOLDER) as directory:
                os.fsync(directory)

    def discard(self, files: Iterable[str]) -> None:
        """Remove staged files that will not be committed."""
        for file in files:
            with suppress(OSError):
                (self.root / file).unlink()

    def close(self) -> None:
        """Release what is held. A second call does nothing."""
        self._workshop.close()

    @staticmethod
    def place_delivered(digest: str) -> str:
        """Where a file of a delivered set goes, whose content has this SHA-256."""
        return f"{_DELIVERED}/{secrets.token_hex(16)}-{digest}.arrow"

    def _exists(self) -> bool:
        """Only a log that is certainly not there is empty."""
        try:
            os.lstat(self.root / _LOG)
        except FileNotFoundError:
            return False
        return True

    def _refuse_network(self) -> None:
        if not self._trusted:
            check_locks_hold(self.root, otherwise="choose a `path` on a local disk, or set `allow_network: true`")
        self._trusted = True

    # the log ---------------------------------------------------------------------------------------------------------

    def _path(self, number: int, kind: str = "commit") -> Path:
        return self.root / _LOG / f"{number:020}.{kind}"

    def _numbers(self) -> tuple[int, int]:
        """Of the newest entry and the newest snapshot; 0: there is none."""
        newest = {"commit": 0, "snapshot": 0}
        for name in os.listdir(self.root / _LOG):  # noqa: PTH208 -- names are all that is wanted, often
            stem, _, kind = name.partition(".")
            if kind in newest and stem.isdigit():
                newest[kind] = max(newest[kind], int(stem))
        return newest["commit"], newest["snapshot"]

    def _current(self) -> Log:
        """The log as it is now, with its files in sight."""
        if not self._is_known():
            self._read()
        self._publish()
        self._seen = self._looks()
        return self._log

    def _looks(self) -> tuple[int, int, int]:
        found = (self.root / _LOG).stat()
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    def _is_known(self) -> bool:
        """Whether nobody has committed since: a list of a long log takes longer than all else that is done for a table."""
        # what comes within a tick of the clock changes no time, but it has the next number
        return self._seen == self._looks() and not os.path.lexists(self._path(self._log.number + 1))

    def _read(self) -> None:
        newest, snapshot = self._numbers()
        newest = max(newest, snapshot)
        if not snapshot <= self._log.number <= newest or self._snapshot > snapshot:
            self._log, self._snapshot, self._bytes, self._done = Log(), 0, [0, 0], 0
        if self._log.number < snapshot:
            self._load_snapshot(snapshot)
        elif self._snapshot < snapshot:  # another run has written it
            self._snapshot, self._bytes = snapshot, [self._path(snapshot, "snapshot").stat().st_size, 0]
        while self._log.number < newest:
            path = self._path(self._log.number + 1)
            content = _content(path)
            self._log = next_of(self._log, content, number=self._log.number + 1, where=str(path))
            self._bytes[1] += len(content)

    def _load_snapshot(self, number: int) -> None:
        path = self._path(number, "snapshot")
        content = _content(path)
        entry, previous, _ = decode_entry(content, number=number, where=str(path))
        self._log = Log().after(entry, number=number, checksum=previous)
        self._snapshot, self._bytes = number, [len(content), 0]

    def _commit(self, entry: Entry) -> Log:
        log = self._log
        number = log.number + 1
        content, checksum = encode_entry(entry, number=number, previous=log.checksum)
        path = self._path(number)
        try:
            self._moves.check(entry.moves)
        except BaseException:
            self.discard(old for old, _ in entry.moves)
            raise
        with opened(path.parent, FOLDER | os.O_NOFOLLOW) as directory:
            temporary = _written(directory, content)
            try:
                os.link(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            except FileExistsError:
                os.unlink(temporary, dir_fd=directory)
                raise StateConflictError(
                    f"{path}: another run has committed meanwhile, though this one held the lock",
                    hint="locks do not hold on this file system: choose a `path` on a local disk",
                ) from None
            except OSError as error:
                raise _unknown(path, error) from error
            try:
                os.fsync(directory)
            except OSError as error:
                raise _unknown(path, error) from error
        self._log = log.after(entry, number=number, checksum=checksum)
        self._bytes[1] += len(content)
        self._publish(committed=path.with_name(temporary))
        with suppress(OSError):  # the next commit tries again
            self._shorten()
            self._seen = self._looks()
        return self._log

    def _publish(self, *, committed: Path | None = None) -> None:
        """Finish what the newest entry wants done; nothing where it is.

        Args:
            committed: the entry's temporary name, if it is this run that has just committed it.
        """
        log = self._log
        if self._done == log.number:
            return
        pending = self._path(log.number)
        try:
            self._moves.carry_out(
                log.moves,
                log.removes,
                first=None if committed else self.root / _LOG,
                is_due=lambda: committed is not None or _has_two_names(pending),
                fix=f"if you removed it, remove {pending.with_name('*.tmp')}, too, and sync again",
            )
        except OSError as error:
            raise StateError(
                f"{self.where}: a commit is durable, but its files cannot be put in their place: {error}",
                hint="fix that; the next run does the rest",
            ) from error
        self._done = log.number
        with suppress(OSError):  # the next sweep tries again
            if committed is not None:
                committed.unlink()
            elif _has_two_names(pending):
                _sweep_log(self.root / _LOG)

    def _shorten(self) -> None:
        """Write a snapshot where one is due, and remove the entries before the last one."""
        log = self._log
        few = log.number - self._snapshot < SNAPSHOT_ENTRIES_MIN and self._bytes[1] < SNAPSHOT_BYTES_MIN
        if few or self._bytes[1] < self._bytes[0]:
            return
        content, _ = encode_entry(log.snapshot(), number=log.number, previous=log.checksum)
        path, before = self._path(log.number, "snapshot"), self._snapshot
        with opened(path.parent, FOLDER | os.O_NOFOLLOW) as directory:
            os.rename(_written(directory, content), path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
            self._snapshot, self._bytes = log.number, [len(content), 0]
            for name in os.listdir(directory):  # noqa: PTH208 -- of what is open
                stem, _, kind = name.partition(".")
                last = {"commit": before, "snapshot": log.number - 1}.get(kind, 0)
                if stem.isdigit() and int(stem) <= last:
                    os.unlink(name, dir_fd=directory)

    def _sweep(self) -> None:
        """Remove what nobody will commit: this is called alone, and what was committed is in its place."""
        _sweep_log(self.root / _LOG)
        self._workshop.sweep()


def _sweep_log(folder: Path) -> None:
    """Remove the temporary names of entries, none of which is still needed."""
    for path in folder.iterdir():
        if path.suffix == ".tmp":
            path.unlink()


def _has_two_names(entry: Path) -> bool:
    """Whether nobody is known to have put an entry's files in their place."""
    try:
        return os.lstat(entry).st_nlink > 1
    except FileNotFoundError:  # a snapshot has taken its place, and that is written last
        return False


def _unknown(path: Path, error: OSError) -> StateError:
    return StateError(
        f"{path}: it is not known whether a commit lasts: {error.strerror}",
        hint="the next run reads what is there, and goes on from it",
    )


def _content(path: Path) -> bytes:
    try:
        with opened(path, os.O_RDONLY | PLAIN) as fd:
            return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
    except FileNotFoundError as error:
        raise StateError(
            f"{path}: an entry of the commit log is gone", hint="restore the directory from a backup"
        ) from error


def _written(directory: int, content: bytes) -> str:
    """The name of a new file, durable but for its name."""
    name = f"{secrets.token_hex(16)}.tmp"
    write_file(directory, name, content)
    return name
