"""The index of the primary key: merging needs one, and a unique one keeps two writers from storing one key twice."""

from collections.abc import Mapping, Sequence

from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.connectors.sql.dialect import KEY_PREFIX, Statement
from strandline.errors import TaskError
from strandline.table import Table

__all__ = ["check_visible", "drop_index", "lacks_index", "make_index", "own_indexes"]

_COLUMNS_MAX = 32
_INDEXES = "JOIN pg_index AS i ON i.indrelid = c.oid JOIN pg_class AS x ON x.oid = i.indexrelid"


def make_index(session: PostgreSQLSession, table: Table, *, settle: Statement | None = None) -> bool:
    """Have an index on the primary key; whether it is unique.

    One that the user made is as good. Where stored rows have a key twice, from before Strandline, it is not unique:
    they must not stop a sync.

    Args:
        session: inside a transaction.
        table: the stored one.
        settle: if a key is there twice, what makes it be there once.
    """
    found = _indexes(session, table)
    if not found:
        session.lock(f"{session.relation(table.name)} index")
        found = _indexes(session, table)
    if found:
        return any(found.values())
    keys = table.primary_key[:_COLUMNS_MAX]
    for (oid,) in session.catalogued("CAST(c.oid AS text)", table.name, more="AND c.relkind IN ('r', 'p')"):
        what = f"{session.dialect.quote(KEY_PREFIX + oid)} ON {session.relation(table.name)} ({session.dialect.quoted(keys)})"
        unique = Statement(f"CREATE UNIQUE INDEX {what}")
        if len(keys) == len(table.primary_key):
            if session.attempt(lambda: session.run(unique) == 0):  # noqa: B023 -- at once
                return True
            if settle is not None and session.run(settle) and session.attempt(lambda: session.run(unique) == 0):  # noqa: B023 -- likewise
                return True
        session.run(Statement(f"CREATE INDEX {what}"))
    return False


def lacks_index(session: PostgreSQLSession, table: Table) -> bool:
    """Whether no index finds a row by its key; nobody else makes one until the transaction ends."""
    session.lock(f"{session.relation(table.name)} index")
    return not _indexes(session, table)


def check_visible(session: PostgreSQLSession, table: str) -> None:
    """What is not seen can be neither replaced nor counted nor deleted; the index of the key knows it all the same.

    Raises:
        TaskError: row security is active, so that rows may be hidden.
    """
    sql = session.dialect
    found = session.catalogued("CAST(current_user AS text)", table, more="AND row_security_active(c.oid)")
    for (role,) in found:
        into = session.relation(table)
        raise TaskError(
            f"row security is active on table {table!r}: it may hide rows from role {role}",
            hint=f"ALTER ROLE {sql.quote(role)} BYPASSRLS, or ALTER TABLE {into} DISABLE ROW LEVEL SECURITY",
        )


def drop_index(session: PostgreSQLSession, table: Table) -> None:
    """Before rows are added to a table that was overwritten once: a key may come again."""
    for name, unique in _indexes(session, table).items():
        if unique and name.startswith(KEY_PREFIX):
            session.run(Statement(f"DROP INDEX {session.relation(name)}"))


def own_indexes(session: PostgreSQLSession, table: Table) -> Sequence[str]:
    """Those that were made here, whatever key they are of."""
    rows = session.catalogued(
        "x.relname", table.name, KEY_PREFIX, joins=_INDEXES, more="AND starts_with(CAST(x.relname AS text), {0})"
    )
    return [str(name) for (name,) in rows]


def _indexes(session: PostgreSQLSession, table: Table) -> Mapping[str, bool]:
    """The indexes that find a row by its key, and whether they let a key be there once only."""
    keys = table.primary_key[:_COLUMNS_MAX]
    rows = session.catalogued(
        f"x.relname, i.indisunique AND i.indimmediate AND i.indnkeyatts = {len(table.primary_key)}",
        table.name,
        list(keys),
        joins=_INDEXES,
        more="AND i.indisvalid AND i.indpred IS NULL AND (SELECT array_agg(CAST(a.attname AS text)) "
        "FROM pg_attribute AS a WHERE a.attrelid = c.oid "
        f"AND a.attnum = ANY ((CAST(i.indkey AS int2[]))[0:{len(keys) - 1}])) @> CAST({{0}} AS text[])",
    )
    return {str(name): bool(unique) for name, unique in rows}
