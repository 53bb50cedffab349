"""What an SQLite file needs, for its tables to be read incrementally and quickly."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sqlite.plan import Plan
from strandline.disk import file_system_probe
from strandline.probe import Probe, Verdict

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["probe_source", "rows_about"]

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
