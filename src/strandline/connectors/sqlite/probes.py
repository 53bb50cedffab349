"""Whether an SQLite file can be written to, tried in a transaction that is rolled back; of one that is read see ``source_probes``."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from strandline.connectors.sql.file_probes import beside, probe_file, try_writing
from strandline.connectors.sqlite.database import Database
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.disk import holders
from strandline.errors import LockedError
from strandline.probe import Probe, Verdict

__all__ = ["probe_destination", "probe_states"]

_BUSY_TIMEOUT_S = 2.0


def probe_destination(path: str, prefix: str = "") -> Iterator[Probe]:
    """Probes of the file at ``path``, or where it will be; ``prefix`` begins the names of the tables."""
    yield from probe_file(Path(path), "SQLite")
    with beside(Path(path)) as tried:
        database = Database(str(tried), busy_timeout_s=_BUSY_TIMEOUT_S)
        try:
            yield _written(database, prefix)
        except LockedError:
            yield _held(Path(path))
        finally:
            database.close()


def probe_states(path: str) -> Iterator[Probe]:
    """Probes of a file that keeps states: that of a destination, and whether it is whole; a directory is made at need."""
    file = Path(path).absolute()
    if not file.parent.is_dir():
        yield Probe("file", Verdict.OK, f"{path} is not there yet; the first sync makes it")
        return
    yield from probe_destination(path)
    if file.exists():
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            yield Probe("damage", Verdict.PROBLEM, f"PRAGMA quick_check: {found[0]}", "restore it from a backup")


def _written(database: Database, prefix: str) -> Probe:
    with database.session(create=True) as session, database.meaning("write to it"):
        try_writing(session, "BEGIN IMMEDIATE", prefix=prefix)
    named = f", under names that begin with {prefix}" if prefix else ""
    return Probe("rights", Verdict.OK, f"tables can be made, changed, written and emptied{named}")


def _held(path: Path) -> Probe:
    files = (path, path.with_name(f"{path.name}-shm"))
    pids = sorted({pid for file in files for pid in holders(file)})
    who = ", ".join(f"process {pid}" for pid in pids) or "another process"
    fix = (
        f"let it end its transaction, or end it; ps -fp {','.join(map(str, pids))}"
        if pids
        else f"fuser {path} names it"
    )
    return Probe("lock", Verdict.PROBLEM, f"{who} has been writing to it for longer than {_BUSY_TIMEOUT_S:.0f} s", fix)
