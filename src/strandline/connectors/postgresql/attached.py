"""What people have attached to a stored table, as PostgreSQL tells it."""

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from strandline.connectors.sql.attached import Attached, Reference
from strandline.connectors.sql.dialect import KEY_PREFIX
from strandline.table import Table

if TYPE_CHECKING:
    from strandline.connectors.postgresql.session import PostgreSQLSession

__all__ = ["attached_to", "dropped_with", "tied_to"]


_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def _names(relation: str, numbers: str) -> str:
    return (
        f"(SELECT json_agg(a.attname ORDER BY u.place) FROM unnest({numbers}) WITH ORDINALITY AS u (number, place) "
        f"JOIN pg_attribute AS a ON a.attrelid = {relation} AND a.attnum = u.number)"
    )


_COLUMNS = (
    "coalesce(obj_description(c.oid, 'pg_class'), ''), "
    "CAST((SELECT json_agg(json_build_array(a.attname, a.attgenerated <> '') ORDER BY a.attnum) FROM pg_attribute AS a "
    "WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS text), "
    "CAST((SELECT json_agg(json_build_array(k.conname, m.nspname, r.relname, k.confdeltype, "
    f"{_names('k.conrelid', 'k.conkey')}, {_names('k.confrelid', 'k.confkey')}) ORDER BY m.nspname, r.relname, k.conname) "
    "FROM pg_constraint AS k JOIN pg_class AS r ON r.oid = k.conrelid JOIN pg_namespace AS m ON m.oid = r.relnamespace "
    "WHERE k.confrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0) AS text), "
    "CAST((SELECT json_agg(g.tgname ORDER BY g.tgname) FROM pg_trigger AS g "
    "WHERE g.tgrelid = c.oid AND NOT g.tgisinternal) AS text)"
)


_TABLE = (
    "WITH t AS (SELECT c.oid, c.relowner, c.relacl, v.oid AS own_view FROM pg_class AS c "
    "LEFT JOIN pg_class AS v ON v.relnamespace = c.relnamespace AND v.relkind = 'v' AND v.relname = {0} "
    "JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = {0} AND c.relname = {0}) "
)
"""The stored table; its view of the last versions, where it has one, is no use of it by others."""
_DROPPED = (
    "SELECT 'trigger ' || g.tgname FROM pg_trigger AS g JOIN t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal "
    "UNION SELECT 'policy ' || p.polname FROM pg_policy AS p JOIN t ON t.oid = p.polrelid "
    "UNION SELECT 'index ' || x.relname FROM pg_index AS i JOIN t ON t.oid = i.indrelid "
    "JOIN pg_class AS x ON x.oid = i.indexrelid WHERE x.relname NOT LIKE {0} "
    "UNION SELECT 'constraint ' || k.conname FROM pg_constraint AS k JOIN t ON t.oid = k.conrelid WHERE k.contype IN ('f', 'c') "
    "UNION SELECT CASE v.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' ELSE 'rule on ' END || v.relname "
    "FROM pg_depend AS d JOIN t ON t.oid = d.refobjid JOIN pg_rewrite AS w ON w.oid = d.objid AND d.classid = CAST('pg_rewrite' "
    "AS regclass) JOIN pg_class AS v ON v.oid = w.ev_class WHERE d.refclassid = CAST('pg_class' AS regclass) "
    "AND v.oid IS DISTINCT FROM t.own_view "
    "UNION SELECT 'grant of ' || a.privilege_type || ' to ' || coalesce(CAST(r.rolname AS text), 'everybody') "
    "FROM t CROSS JOIN aclexplode(t.relacl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee WHERE a.grantee <> t.relowner "
    "UNION SELECT 'publication ' || b.pubname FROM pg_publication_rel AS p JOIN t ON t.oid = p.prrelid "
    "JOIN pg_publication AS b ON b.oid = p.prpubid "
    "UNION SELECT 'comment on column ' || a.attname FROM pg_description AS d JOIN t ON t.oid = d.objoid "
    "JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.objsubid WHERE d.classoid = CAST('pg_class' AS regclass) "
    "ORDER BY 1"
)


def dropped_with(session: "PostgreSQLSession", table: Table) -> Sequence[str]:
    """What goes with a stored table that is dropped, in words; a view or a foreign key keeps it from being dropped."""
    return _uses(session, table, _DROPPED, f"{KEY_PREFIX}%".replace("_", r"\_"))


def _uses(session: "PostgreSQLSession", table: Table, query: str, *values: object) -> Sequence[str]:
    text = f"{_TABLE}{query}".replace("{0}", session.dialect.parameter)
    own_view = table.latest_name if table.latest_view else None
    return [str(use) for (use,) in session.ask(text, own_view, session.schema, table.name, *values)]


_TIED = (
    "SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend AS d JOIN t ON t.oid = d.refobjid "
    "JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid "
    "LEFT JOIN pg_constraint AS k ON d.classid = CAST('pg_constraint' AS regclass) AND k.oid = d.objid "
    "LEFT JOIN pg_index AS i ON d.classid = CAST('pg_class' AS regclass) AND i.indexrelid = d.objid "
    "LEFT JOIN pg_class AS x ON x.oid = i.indexrelid LEFT JOIN pg_am AS m ON m.oid = x.relam "
    "LEFT JOIN pg_rewrite AS w ON d.classid = CAST('pg_rewrite' AS regclass) AND w.oid = d.objid "
    "WHERE d.refclassid = CAST('pg_class' AS regclass) AND CAST(a.attname AS text) = ANY(CAST({0} AS text[])) "
    "AND coalesce(w.ev_class <> t.own_view, TRUE) "
    # these are made again with the column; and foreign keys of others are known already
    "AND coalesce(k.contype NOT IN ('p', 'u', 'n') AND NOT (k.contype = 'f' AND k.confrelid = t.oid), TRUE) "
    "AND coalesce(NOT (m.amname = 'btree' AND i.indpred IS NULL AND i.indexprs IS NULL), TRUE) "
    "UNION SELECT 'index ' || x.relname FROM pg_index AS i JOIN t ON t.oid = i.indrelid JOIN pg_class AS x ON x.oid = i.indexrelid "
    "WHERE i.indisunique AND NOT starts_with(CAST(x.relname AS text), {0}) AND CAST({0} AS text[]) @> (SELECT array_agg("
    "CAST(a.attname AS text)) FROM pg_attribute AS a WHERE a.attrelid = t.oid AND a.attnum = ANY(CAST(i.indkey AS int2[]))) "
    "UNION SELECT 'NOT NULL of column ' || a.attname FROM pg_attribute AS a JOIN t ON t.oid = a.attrelid "
    "WHERE a.attnotnull AND CAST(a.attname AS text) = ANY(CAST({0} AS text[])) "
    "ORDER BY 1"
)


def tied_to(
    session: "PostgreSQLSession",
    table: Table,
    columns: Collection[str],
    old_key: Collection[str],
    filled: Collection[str],
) -> Sequence[str]:
    """What PostgreSQL does not let go on with these columns in another type, in words; and who keeps an old key unique.

    Columns that are ``filled`` are to have no null for a moment.
    """
    return _uses(session, table, _TIED, list(columns), KEY_PREFIX, list(old_key), list(filled))


def attached_to(session: "PostgreSQLSession", table: str) -> Attached:
    """By one query, since every window asks."""
    for note, columns, references, triggers in session.catalogued(_COLUMNS, table):
        named = json.loads(columns or "[]")
        return Attached(
            tuple(name for name, _ in named),
            note,
            frozenset(name for name, generated in named if generated),
            tuple(
                Reference(
                    name,
                    other if schema == session.schema else f"{schema}.{other}",
                    session.dialect.relation(schema, other),
                    tuple(columns),
                    tuple(to),
                    _ACTIONS.get(action, action),
                )
                for name, schema, other, action, columns, to in json.loads(references or "[]")
            ),
            tuple(json.loads(triggers or "[]")),
        )
    return Attached()
