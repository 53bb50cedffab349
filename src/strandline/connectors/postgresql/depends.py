"""What the rows of a table depend on beside themselves: a change of it writes no row, so no cursor would show it.

Each fact has a name for people and a short value, and stands in the cursor. All is read from the catalogue: expressions are
compared as PostgreSQL keeps them, so that no setting of a session (`search_path`, `quote_all_identifiers`) changes a value.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.named import names_in
from strandline.connectors.postgresql.plan import Plan
from strandline.errors import CursorExpiredError

__all__ = ["depended", "facts", "facts_of_many"]

_NAMED_MAX = 5
_OWN_TYPES = 16_384
"""From this oid on, types are not PostgreSQL's own."""
_READS = "rows that a policy reads of "
_READ_PAGES_MAX = 1_024
"""The rows of a larger table that a policy reads are not looked at."""
_GRAPH = """
WITH RECURSIVE graph AS (
  {roots} UNION
  SELECT e.class, e.oid, g.by_policy OR e.by_policy FROM graph AS g CROSS JOIN LATERAL (
    SELECT d.refclassid AS class, d.refobjid AS oid, false AS by_policy FROM pg_rewrite AS r
      JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
      WHERE g.class = 'pg_class'::regclass AND r.ev_class = g.oid
    UNION ALL SELECT d.refclassid, d.refobjid, true FROM pg_policy AS p
      JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
      WHERE g.class = 'pg_class'::regclass AND p.polrelid = g.oid AND p.polcmd IN ('r', '*')
    UNION ALL SELECT d.refclassid, d.refobjid, false FROM pg_depend AS d
      WHERE g.class = 'pg_proc'::regclass AND d.classid = 'pg_proc'::regclass AND d.objid = g.oid
  ) AS e WHERE e.class IN ('pg_class'::regclass, 'pg_proc'::regclass)
), below AS (
  SELECT c.*, format('%s.%s', n.nspname, c.relname) AS called, g.by_policy
  FROM (SELECT oid, bool_or(by_policy) AS by_policy FROM graph WHERE class = 'pg_class'::regclass GROUP BY oid) AS g
  JOIN pg_class AS c ON c.oid = g.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
), types AS (
  {types} UNION
  SELECT e.oid FROM types AS known JOIN pg_type AS t ON t.oid = known.oid CROSS JOIN LATERAL (
    SELECT t.typelem AS oid WHERE t.typcategory = 'A' UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT r.rngsubtype FROM pg_range AS r WHERE r.rngtypid = t.oid
    UNION ALL SELECT a.atttypid FROM pg_attribute AS a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0
      AND NOT a.attisdropped
  ) AS e WHERE e.oid <> 0
), parts (part, value) AS (
"""
_ROOTS = "SELECT 'pg_class'::regclass::oid AS class, {oid}::oid AS oid, false AS by_policy"
_TYPES_OF_TABLE = "SELECT a.atttypid AS oid FROM pg_attribute AS a WHERE a.attrelid = {oid} AND a.attname = ANY (ARRAY[{columns}]::name[])"
_ROOTS_OF_QUERY = """(
  SELECT 'pg_class'::regclass::oid AS class, to_regclass(one)::oid AS oid, false AS by_policy FROM unnest(ARRAY[{names}]::text[]) AS one
    WHERE to_regclass(one) IS NOT NULL
  UNION ALL SELECT 'pg_proc'::regclass, p.oid, false FROM pg_proc AS p
    WHERE p.proname = ANY (ARRAY[{words}]::name[]) AND p.pronamespace <> 'pg_catalog'::regnamespace)"""
_TYPES_OF_QUERY = "SELECT unnest(ARRAY[{oids}]::oid[]) AS oid"
_POLICIES = """
  (SELECT coalesce(string_agg(format('%s %s %s %s', p.polcmd, p.polpermissive, {roles}, p.polqual::text), ';'
    ORDER BY p.polcmd, p.polpermissive, p.polqual::text, p.oid), '') FROM pg_policy AS p
    WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') {which})
"""
_MINE = """
  AND (0::oid = ANY (p.polroles) OR EXISTS (SELECT FROM unnest(p.polroles) AS r (oid) WHERE pg_has_role(current_user, r.oid, 'USAGE')))
"""
_COLUMN = """format('%s %s %s %s', a.attnum, a.atttypid, a.attcollation,
    CASE WHEN to_jsonb(a) ->> 'attgenerated' <> '' THEN d.adbin::text END)"""
_OWN = f"""
  SELECT 'column ' || a.attname, {_COLUMN}
    FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = {{oid}} AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (ARRAY[{{columns}}]::name[])
  UNION ALL SELECT 'row security', CASE WHEN row_security_active(c.oid) THEN format('%s %s %s', (SELECT oid FROM pg_roles WHERE rolname = current_user),
    {_POLICIES.format(roles="''", which=_MINE)},
    (SELECT string_agg(one, ';' ORDER BY one) FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS one
      WHERE s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)) AND one LIKE '%.%=%'
      AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))))
    ELSE 'off' END FROM pg_class AS c WHERE c.oid = {{oid}} AND c.relkind IN ('r', 'p')
"""
_TYPES = """
  UNION ALL SELECT format('type %s: %s', t.typname, e.oid), e.enumlabel
    FROM types JOIN pg_type AS t USING (oid) JOIN pg_enum AS e ON e.enumtypid = t.oid
  UNION ALL SELECT 'type ' || t.typname, string_agg(format('%s %s %s', a.attnum, a.atttypid, a.attname), ';' ORDER BY a.attnum)
    FROM types JOIN pg_type AS t USING (oid) JOIN pg_attribute AS a ON a.attrelid = t.typrelid
    WHERE t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped GROUP BY t.oid, t.typname
"""
_BELOW = f"""
  UNION ALL SELECT 'row security of ' || c.called, format('%s %s %s %s', c.relrowsecurity, c.relforcerowsecurity, c.relowner,
    {_POLICIES.format(roles="p.polroles::text", which="")})
    FROM below AS c WHERE c.oid <> {{oid}} AND c.relkind IN ('r', 'p')
  UNION ALL SELECT 'generated columns of ' || c.called, string_agg(format('%s %s', a.attnum, d.adbin::text), ';' ORDER BY a.attnum)
    FROM below AS c JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.oid <> {{oid}} AND to_jsonb(a) ->> 'attgenerated' <> '' GROUP BY c.called
  UNION ALL SELECT 'view ' || c.called, format('%s %s %s', c.relowner, c.reloptions,
    -- a view that is made again by the same words is the same: oids of views and places in the text do not count
    regexp_replace(regexp_replace(regexp_replace(r.ev_action::text, ':(location -?|resorigtbl )[0-9]+', '', 'g'),
      ':relid [0-9]+ (:inh [a-z]+ )?:relkind [vm]', '', 'g'), 'RTEPERMISSIONINFO :relid [0-9]+', '', 'g'))
    FROM below AS c JOIN pg_rewrite AS r ON r.ev_class = c.oid AND r.ev_type = '1' WHERE c.relkind IN ('v', 'm')
  UNION ALL SELECT 'foreign table ' || c.called, format('%s %s %s', f.ftserver, f.ftoptions, s.srvoptions)
    FROM below AS c JOIN pg_foreign_table AS f ON f.ftrelid = c.oid JOIN pg_foreign_server AS s ON s.oid = f.ftserver
  UNION ALL SELECT format('function %s.%s', n.nspname, p.proname), string_agg(format('%s %s %s %s %s %s', p.prosrc, p.probin,
    p.prosecdef, CASE WHEN p.prosecdef THEN p.proowner END, p.proconfig, to_jsonb(p) ->> 'prosqlbody'), ';' ORDER BY p.oid)
    FROM (SELECT DISTINCT oid FROM graph WHERE class = 'pg_proc'::regclass) AS g JOIN pg_proc AS p USING (oid)
    JOIN pg_namespace AS n ON n.oid = p.pronamespace GROUP BY 1
"""
_OF_QUERY = """
  UNION ALL SELECT format('column %s.%s', c.called, a.attname), format('%s %s %s', a.attnum, a.atttypid, a.attcollation)
    FROM below AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND (a.attname = ANY (ARRAY[{words}]::name[]) OR {all})
  UNION ALL SELECT 'row security of the role in ' || c.called, CASE WHEN row_security_active(c.oid)
    THEN (SELECT oid FROM pg_roles WHERE rolname = current_user)::text ELSE 'off' END FROM below AS c WHERE c.relkind IN ('r', 'p')
"""
"""A view names columns by their numbers, and what lies below it is read as its owner; a query does neither."""
_HASHED = "left(md5({value}), 12)"
_SHORT = f""")
SELECT part::text AS part, CASE WHEN part ~ '^type .*: ' OR value = 'off' THEN value ELSE {_HASHED.format(value="value")} END::text AS value FROM parts
"""
_OF_MANY = f"""
SELECT c.oid::int8 AS oid, (SELECT json_object_agg(a.attname, {_HASHED.format(value=_COLUMN)})
  FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns
FROM pg_class AS c WHERE c.oid = ANY ('{{{{{{oids}}}}}}'::oid[]) AND NOT row_security_active(c.oid)
"""
_READ = f"""
UNION ALL SELECT '{_READS}' || called, format('%I.%I', n.nspname, c.relname) FROM below AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.by_policy AND c.oid <> {{oid}} AND c.relkind = 'r' AND c.relpages <= {_READ_PAGES_MAX}
  AND row_security_active({{oid}}) AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
"""


def facts(session: Any, plan: Plan) -> dict[str, str]:
    """What the rows depend on now, by name."""
    if plan.relation.query:
        return _facts_of_query(session, plan)
    columns = ", ".join(literal(column.name) for column in plan.columns)
    has_own_types = any(column.type_oid >= _OWN_TYPES for column in plan.columns)
    has_below = not plan.has_heap or plan.relation.row_security
    # what cannot be there is not asked for: planning the whole takes the server longer than many a sync
    sql = _GRAPH + _OWN + _TYPES * has_own_types + _BELOW * has_below + _SHORT + _READ * has_below
    sql = sql.replace("{roots}", _ROOTS).replace("{types}", _TYPES_OF_TABLE)
    found = session.rows(sql.format(oid=plan.relation.oid, columns=columns), where=plan.table.name)
    parts = {row["part"]: row["value"] for row in found}
    for part, name in parts.items():
        if part.startswith(_READS):
            mark = "format('%s %s', count(*), sum(xmin::text::int8))"
            parts[part] = session.row(f"SELECT {mark} AS mark FROM {name}", where=plan.table.name)["mark"]
    return parts


def facts_of_many(session: Any, plans: Sequence[Plan]) -> dict[int, dict[str, str]]:
    """What ``facts`` finds of tables, by oid, in one query; without those that are gone, and those of which more is to be asked."""
    simple = {plan.relation.oid: plan for plan in plans if _is_simple(plan)}
    found = dict[int, dict[str, str]]()
    for row in session.rows(_OF_MANY.format(oids=",".join(map(str, simple)))) if simple else ():
        values, names = json.loads(row["columns"] or "{}"), [column.name for column in simple[row["oid"]].columns]
        found[row["oid"]] = {f"column {name}": values[name] for name in names if name in values} | {
            "row security": "off"
        }
    return found


def _is_simple(plan: Plan) -> bool:
    """Whether its rows depend on its columns only."""
    has_own_types = any(column.type_oid >= _OWN_TYPES for column in plan.columns)
    return plan.has_heap and not (has_own_types or plan.relation.row_security or plan.relation.query)


def _facts_of_query(session: Any, plan: Plan) -> dict[str, str]:
    """Of all that a name in it could mean: what it does not read makes a cursor expire once too often, at most."""
    query = plan.relation.query
    names, words = (", ".join(map(literal, some)) for some in names_in(query))
    sql = _GRAPH + _OWN + _TYPES + _BELOW + _OF_QUERY + _SHORT
    sql = sql.replace("{roots}", _ROOTS_OF_QUERY).replace("{types}", _TYPES_OF_QUERY)
    oids = ", ".join(str(column.type_oid) for column in plan.columns)
    asked = sql.format(oid=0, columns="''", names=names, words=words, oids=oids, all="*" in query)
    return {row["part"]: row["value"] for row in session.rows(asked, where=plan.table.name)}


def depended(session: Any, plan: Plan, saved: Mapping[str, str] | None) -> dict[str, str]:
    """What the rows depend on now, and what is remembered of columns that are gone; it goes into the cursor.

    Args:
        session: of the reader.
        plan: of the table.
        saved: what the cursor says of it; ``None`` of a new one, and of one of a version that kept none.

    Raises:
        CursorExpiredError: what the cursor's rows depended on has changed.
    """
    now = facts(session, plan)
    # what is in one of them only is new, and no row of before depended on it
    if changed := list(dict.fromkeys(_named(saved or {}, now))):
        more = f" and {len(changed) - _NAMED_MAX} more" if len(changed) > _NAMED_MAX else ""
        raise CursorExpiredError(
            f"table {plan.table.name!r}: what its rows depend on has changed since the last sync, though no row was written: "
            f"{', '.join(changed[:_NAMED_MAX])}{more}"
        )
    return {**(saved or {}), **now}


def _named(saved: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for part, value in now.items():
        if saved.get(part, value) != value:
            yield _told(part, saved[part], value)


def _told(part: str, before: str, after: str) -> str:
    """A fact that changed, in words."""
    kind, _, rest = part.partition(" ")
    if part == "row security":
        return "row security was switched " + (
            "on" if before == "off" else "off" if after == "off" else "to other policies"
        )
    if kind == "type" and ": " in rest:
        return f"{before!r} of type {rest.rpartition(': ')[0]} is called {after!r}"
    words = {
        "column": f"column {rest!r} is another one",
        "type": f"type {rest} has other attributes",
        "view": f"view {rest} was redefined",
        "function": f"function {rest} was redefined",
    }
    return words.get(kind, f"{part} changed")
