"""The index of the primary key: merging needs one, and a unique one keeps two writers from storing one key twice."""

from collections.abc import Mapping, Sequence

from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.connectors.sql.dialect import KEY_PREFIX, Statement
from strandline.errors import TaskError
from strandline.table import Table

__all__ = ["check_visible", "drop_index", "make_index", "own_indexes"]

_COLUMNS_MAX = 32


def make_index(session: PostgreSQLSession, table: Table) -> bool:
    """Have an index on the primary key; whether it is unique.

    One that the user made is as good. Where stored rows have a key twice, from before Strandline, it is not unique:
    they must not stop a sync.
    """
    found = _indexes(session, table)
    if not found:
        session.lock(f"{session.relation(table.name)} index")
        found = _indexes(session, table)
    if found:
        return any(found.values())
    one, keys = session.dialect.parameter, table.primary_key[:_COLUMNS_MAX]
    tables = session.fetch(
        Statement(
            "SELECT CAST(c.oid AS text) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            f"WHERE n.nspname = {one} AND c.relname = {one} AND c.relkind IN ('r', 'p')",
            (session.schema, table.name),
        )
    )
    for (oid,) in tables:
        what = f"{session.dialect.quote(KEY_PREFIX + oid)} ON {session.relation(table.name)} ({session.dialect.quoted(keys)})"
        unique = Statement(f"CREATE UNIQUE INDEX {what}")
        if len(keys) == len(table.primary_key) and session.attempt(lambda: session.run(unique) == 0):  # noqa: B023 -- at once
            return True
        session.run(Statement(f"CREATE INDEX {what}"))
    return False


def check_visible(session: PostgreSQLSession, table: str) -> None:
    """What is not seen can be neither replaced nor counted nor deleted; the index of the key knows it all the same.

    Raises:
        TaskError: row security is active, so that rows may be hidden.
    """
    one, sql = session.dialect.parameter, session.dialect
    found = session.fetch(
        Statement(
            "SELECT CAST(current_user AS text) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            f"WHERE n.nspname = {one} AND c.relname = {one} AND row_security_active(c.oid)",
            (session.schema, table),
        )
    )
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
    one = session.dialect.parameter
    rows = session.fetch(
        Statement(
            "SELECT x.relname FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid "
            "JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            f"WHERE n.nspname = {one} AND c.relname = {one} AND starts_with(CAST(x.relname AS text), {one})",
            (session.schema, table.name, KEY_PREFIX),
        )
    )
    return [str(name) for (name,) in rows]


def _indexes(session: PostgreSQLSession, table: Table) -> Mapping[str, bool]:
    """The indexes that find a row by its key, and whether they let a key be there once only."""
    one, keys = session.dialect.parameter, table.primary_key[:_COLUMNS_MAX]
    rows = session.fetch(
        Statement(
            f"SELECT x.relname, i.indisunique AND i.indimmediate AND i.indnkeyatts = {len(table.primary_key)} "
            "FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_class AS c ON c.oid = i.indrelid "
            f"JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = {one} AND c.relname = {one} "
            "AND i.indisvalid AND i.indpred IS NULL AND (SELECT array_agg(CAST(a.attname AS text)) "
            "FROM pg_attribute AS a WHERE a.attrelid = c.oid "
            f"AND a.attnum = ANY ((CAST(i.indkey AS int2[]))[0:{len(keys) - 1}])) @> CAST({one} AS text[])",
            (session.schema, table.name, list(keys)),
        )
    )
    return {str(name): bool(unique) for name, unique in rows}
