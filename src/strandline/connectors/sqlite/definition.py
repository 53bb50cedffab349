"""What the rows of an SQLite table depend on beside themselves: its columns, and the views and tables below a view.

A column of the same name may be another one. SQLite adds columns at the end, drops them, and renames them where they are; so of
two lists of columns it can be told whether the second came from the first with each name where it was. One case looks as if
nothing had happened: the last column dropped, and added again as it was declared.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from strandline.connectors.sqlite.catalog import Catalogued
from strandline.connectors.sqlite.cursor import Definition
from strandline.connectors.sqlite.drivers import sqlite3

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["column_texts", "definition", "difference"]

_WORD = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|[(),]|[^\s'"`\[(),/-]+|\s+|.""",
    re.DOTALL,
)
_HASH_CHARACTERS = 6
_GENERATED = (2, 3)


def definition(connection: "Connection", entry: Catalogued) -> Definition:
    """Of a table, view or query and all that lies below it, as SQLite resolves it now."""
    views, tables, roots = dict[str, str](), dict[str, list[str]](), dict[str, int]()
    for below in sorted(_below(connection, entry)):
        row = connection.execute(
            "SELECT name, type, rootpage, sql FROM sqlite_schema WHERE type IN ('table', 'view') AND lower(name) = lower(?)",
            [below],
        ).fetchone()
        if row is None:
            continue
        found, kind, root, sql = row
        if kind == "view":
            views[found] = _hash(" ".join(_words(sql or "")))
        else:
            tables[found], roots[found] = list(_columns(connection, found, sql or "")), int(root or 0)
    return Definition(views=views, tables=tables, roots=roots)


def difference(old: Definition, new: Definition) -> str:
    """What is another thing now, in words; empty: nothing is that was there, though there may be more."""
    for name, text in old.views.items():
        if new.views.get(name) != text:
            return f"view {name!r} is defined otherwise than it was"
    if set(new.views) - set(old.views) or set(new.tables) != set(old.tables):
        return "it reads other tables than it did"
    for name, columns in old.tables.items():
        place = _replaced(
            [one[:_HASH_CHARACTERS] for one in columns], [one[:_HASH_CHARACTERS] for one in new.tables[name]]
        )
        if place is not None:
            return f"column {place + 1} of {name!r} is another one than it was"
        declared = {one[:_HASH_CHARACTERS]: one for one in columns}
        for number, one in enumerate(new.tables[name]):
            if declared.get(one[:_HASH_CHARACTERS], one) != one:
                return f"column {number + 1} of {name!r} is declared otherwise than it was"
    return ""


def _replaced(old: Sequence[str], new: Sequence[str]) -> int | None:
    """The first column of ``new`` that has the name of one of ``old`` and cannot be it.

    Between two that stayed, no more can be new than were there: those were renamed. Any other was added at the end.
    """
    place = 0
    fresh = 0
    for number, name in enumerate(new):
        if name not in old:
            fresh += 1
            continue
        was = old.index(name)
        gone = sum(one not in new for one in old[place:was]) if was >= place else -1
        if gone < fresh:
            return number
        place, fresh = was + 1, 0
    return None


def _below(connection: "Connection", entry: Catalogued) -> set[str]:
    found = set() if entry.query else {entry.name}

    def note(action: int, table: str | None, _column: str | None, _database: str | None, view: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            found.update(one for one in (table, view) if one)
        return sqlite3.SQLITE_OK

    connection.set_authorizer(note)
    try:
        connection.execute(f"SELECT * FROM {entry.relation} LIMIT 0")
    finally:
        connection.set_authorizer(None)
    return found


def _columns(connection: "Connection", name: str, sql: str) -> Iterator[str]:
    """A mark for each column, in order: of its name, and of its type and what makes its values."""
    texts = column_texts(sql)
    rows: list[Any] = connection.execute(
        "SELECT name, upper(type), hidden FROM pragma_table_xinfo(?) ORDER BY cid", [name]
    ).fetchall()
    for column, declared, hidden in rows:
        made = texts.get(column.lower(), "") if hidden in _GENERATED else ""
        yield _hash(column.lower()) + _hash(f"{declared} {made}")


def column_texts(sql: str) -> dict[str, str]:
    """What a ``CREATE TABLE`` says of each column, by its name in lower case, without comments and spaces."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in _words(sql):
        inside = depth > 0
        depth += {"(": 1, ")": -1}.get(word, 0)
        if inside and depth == 0:
            break
        if depth == 1 and word == ",":
            parts.append([])
        elif inside:
            parts[-1].append(word)
    return {_unquoted(part[0]).lower(): " ".join(part[1:]) for part in parts if part}


def _words(sql: str) -> Iterator[str]:
    return (word for word in _WORD.findall(sql) if not word.isspace() and not word.startswith(("--", "/*")))


def _unquoted(word: str) -> str:
    if word[0] == "[":
        return word[1:-1]
    return word[1:-1].replace(word[0] * 2, word[0]) if word[0] in "\"'`" else word


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_HASH_CHARACTERS // 2).hexdigest()
