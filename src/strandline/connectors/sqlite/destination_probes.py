"""Whether an SQLite file can be written to, tried in a transaction that is rolled back."""

import secrets
from collections.abc import Iterator
from pathlib import Path

from strandline.connectors.sql.file_probes import beside, probe_file
from strandline.connectors.sqlite.database import Database
from strandline.connectors.sqlite.dialect import SQLiteDialect
from strandline.disk import holders
from strandline.errors import LockedError
from strandline.probe import Probe, Verdict

__all__ = ["probe_database"]

_BUSY_TIMEOUT_S = 2.0


def probe_database(path: str, prefix: str = "") -> Iterator[Probe]:
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


def _written(database: Database, prefix: str) -> Probe:
    table = SQLiteDialect().relation("main", f"{prefix}_cq_probe_{secrets.token_hex(4)}")
    with database.session(create=True) as session, database.meaning("write to it"):
        run = session.connection.execute
        run("BEGIN IMMEDIATE")
        try:
            run(f"CREATE TABLE {table} (id INTEGER)")
            run(f"INSERT INTO {table} VALUES (1)")
            run(f"ALTER TABLE {table} ADD COLUMN more TEXT")
            run(f"DELETE FROM {table}")
        finally:
            run("ROLLBACK")
    named = f", under names that begin with {prefix}" if prefix else ""
    return Probe("rights", Verdict.OK, f"tables can be made, changed, written and emptied{named}")


def _held(path: Path) -> Probe:
    files = (path, path.with_name(f"{path.name}-shm"))
    pids = sorted({pid for file in files for pid in holders(file)})
    who = ", ".join(f"process {pid}" for pid in pids) or "another process"
    mend = (
        f"let it end its transaction, or end it; ps -fp {','.join(map(str, pids))}"
        if pids
        else f"fuser {path} names it"
    )
    return Probe("lock", Verdict.PROBLEM, f"{who} has been writing to it for longer than {_BUSY_TIMEOUT_S:.0f} s", mend)
