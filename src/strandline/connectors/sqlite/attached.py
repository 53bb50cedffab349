"""What people have attached to a stored table, as SQLite tells it."""

from itertools import groupby
from typing import TYPE_CHECKING

from strandline.connectors.sql.attached import Attached, Reference
from strandline.connectors.sqlite.dialect import MARK_PREFIX

if TYPE_CHECKING:
    from strandline.connectors.sqlite.session import SQLiteSession

__all__ = ["attached_to", "kept_text"]

_PLAIN, _VIRTUAL, _STORED = 0, 2, 3
"""What SQLite says of a column: it is one, it is computed when it is read, or when it is written."""


def kept_text(ddl: str) -> str:
    """What is kept with a table, from the text of the index that keeps it."""
    return ddl.rsplit("'", 2)[-2:][0]


def attached_to(session: "SQLiteSession", table: str) -> Attached:
    """See ``Attached``. A foreign key that names no columns refers to the primary key, which our tables do not have."""
    columns = session.ask("SELECT name, hidden, pk FROM pragma_table_xinfo(?, 'main') ORDER BY cid", table)
    others = session.ask(
        "SELECT type, name, sql FROM main.sqlite_master WHERE lower(tbl_name) = lower(?) "
        f"AND (type = 'trigger' OR type = 'index' AND name GLOB '{MARK_PREFIX}*') ORDER BY name",
        table,
    )
    key = [name for _, name in sorted((pk, name) for name, _, pk in columns if pk)]
    return Attached(
        tuple(name for name, hidden, _ in columns if hidden in {_PLAIN, _VIRTUAL, _STORED}),
        next((kept_text(ddl) for kind, _, ddl in others if kind == "index"), ""),
        frozenset(name for name, hidden, _ in columns if hidden in {_VIRTUAL, _STORED}),
        _references(session, table, key),
        tuple(name for kind, name, _ in others if kind == "trigger"),
    )


def _references(session: "SQLiteSession", table: str, key: list[str]) -> tuple[Reference, ...]:
    rows = session.ask(
        'SELECT m.name, f.id, f."from", f."to", f.on_delete FROM main.sqlite_master AS m, '
        "pragma_foreign_key_list(m.name, 'main') AS f "
        # it is dear to ask for the keys of a table, and most have none
        "WHERE m.type = 'table' AND m.sql LIKE '%references%' AND lower(f.\"table\") = lower(?) "
        "ORDER BY m.name, f.id, f.seq",
        table,
    )
    found = []
    for (name, _), parts in groupby(rows, key=lambda row: (row[0], row[1])):
        pairs = list(parts)
        columns, action = tuple(part[2] for part in pairs), pairs[0][4]
        to = tuple(part[3] for part in pairs) if pairs[0][3] is not None else tuple(key)
        if len(to) == len(columns):
            found.append(Reference("", name, session.relation(name), columns, to, action))
    return tuple(found)
