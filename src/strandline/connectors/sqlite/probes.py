"""What an SQLite file needs, for its tables to be read incrementally and quickly, and to be written to.

Writing is tried in a transaction that is rolled back.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.file_probes import beside, probe_file, try_writing
from strandline.connectors.sqlite.database import Database
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.plan import Plan
from strandline.disk import file_system_probe, holders
from strandline.errors import LockedError
from strandline.probe import Probe, Verdict

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["probe_destination", "probe_source", "rows_about"]

_BUSY_TIMEOUT_S = 2.0
_ROWS_MANY = 100_000
"""From so many on, reading all of them to find what changed is worth a word."""


def probe_source(connection: "Connection", path: str, plans: Iterable[Plan]) -> Iterator[Probe]:
    """Probes of the file, then of the tables that have an incremental key."""
    ((mode,),) = connection.execute("PRAGMA journal_mode")
    waits = (
        "readers and writers do not wait for each other" if mode == "wal" else "a writer waits while a slice is read"
    )
    yield Probe("journal", Verdict.OK, f"{mode}: {waits}")
    yield file_system_probe(
        Path(path), network=Verdict.WARNING, fix="read the file on the machine that writes it", what="the file"
    )
    for one in plans:
        yield from _keyed(connection, one)


def _keyed(connection: "Connection", one: Plan) -> Iterator[Probe]:
    name = one.entry.name
    for key in one.table.incremental_key:
        about = rows_about(connection, one.entry.name) if not one.entry.is_view else None
        if key not in one.entry.indexed and about is not None and about >= _ROWS_MANY:
            found = f"{name}.{key} leads no index, so every sync looks at all of about {about:,} rows"
            fix = f"CREATE INDEX {quote(f'{name}_{key}')} ON {quote(name)} ({quote(key)})"
            yield Probe("index", Verdict.WARNING, found, fix, name)
        if one.settings.nulls == "include" and not one.entry.is_view and _has_null(connection, one, key):
            found = f"{name}.{key} is NULL in some rows, which are read again at every sync"
            fix = f"UPDATE {quote(name)} SET {quote(key)} = … WHERE {quote(key)} IS NULL; or choose `nulls: fail`"
            yield Probe("nulls", Verdict.WARNING, found, fix, name)


def _has_null(connection: "Connection", one: Plan, key: str) -> bool:
    """Only where an index answers at once: a probe must not read a large table."""
    if key not in one.entry.indexed:
        return False
    sql = f"SELECT EXISTS (SELECT 1 FROM {one.relation} WHERE t.{quote(key)} IS NULL)"
    return bool(connection.execute(sql).fetchone()[0])


def rows_about(connection: "Connection", name: str) -> int | None:
    """How many rows a table may have: its largest rowid, which costs nothing to find. None: it has no rowid."""
    found = connection.execute("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", [name]).fetchone()
    if found is None or found[0]:
        return None
    row = connection.execute(f"SELECT coalesce(max(_rowid_), 0) FROM main.{quote(name)}").fetchone()
    return int(row[0])


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
