"""What the tables of a PostgreSQL database are, read from its catalogue in a few queries, however many there are."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.types_read import TEXTS, expression, field, was_text
from strandline.connectors.sql.dialect import quote
from strandline.lazy import pa

__all__ = ["QUERY", "Column", "Leaf", "Relation", "Tree", "column_of", "leaves", "relations", "trees"]

QUERY = "q"

_CHOSEN = (
    # also what the role may not read: nothing is left out silently
    "SELECT c.oid, n.oid AS schema_oid, n.nspname, c.relname, c.relkind FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND n.nspname IN ({schemas})"
)
_RELATIONS = (
    "WITH RECURSIVE chosen AS ({chosen}), tree AS (SELECT oid AS root, oid FROM chosen UNION ALL "
    "SELECT tree.root, i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid), "
    # pg_relation_size() would wait for whoever has locked the table; a partitioned table counts its partitions' rows
    "size AS (SELECT root, coalesce(sum(c.reltuples) FILTER (WHERE c.relkind <> 'p'), 0)::int8 AS tuples, "
    "coalesce(bool_or(c.reltuples < 0) FILTER (WHERE c.relkind <> 'p'), false) AS is_unknown, "
    "coalesce(sum(c.relpages) FILTER (WHERE c.relkind <> 'p'), 0)::int8 * current_setting('block_size')::int8 AS bytes, "
    "bool_or(c.relkind NOT IN ('r', 'p') OR c.oid <> root AND NOT c.relispartition) AS is_loose, bool_or(c.relkind = 'f') AS is_foreign "
    "FROM tree JOIN pg_class AS c ON c.oid = tree.oid GROUP BY root) "
    "SELECT c.oid::int8 AS oid, nspname::text AS schema, relname::text AS name, relkind::text AS kind, "
    "coalesce(obj_description(c.oid, 'pg_class'), '') AS description, row_security_active(c.oid) AS row_security, "
    "current_user::text AS role, "
    "has_schema_privilege(schema_oid, 'USAGE') AS reachable, has_table_privilege(c.oid, 'SELECT') AS whole, "
    "CASE WHEN is_unknown THEN -1 ELSE tuples END AS tuples, bytes, is_loose, is_foreign FROM chosen AS c JOIN size ON size.root = c.oid ORDER BY 2, 3"
)
_COLUMNS = (
    "WITH RECURSIVE chosen AS ({chosen}), base AS (SELECT a.attrelid, a.attnum, a.atttypid AS oid, a.atttypmod AS typmod, "
    "a.attnotnull AS not_null "
    "FROM pg_attribute AS a JOIN chosen AS c ON c.oid = a.attrelid "
    "WHERE a.attnum > 0 AND NOT a.attisdropped UNION ALL "
    "SELECT base.attrelid, base.attnum, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE base.typmod END, "
    # not its NOT NULL, which an outer join or an empty subquery gets around
    "base.not_null FROM base JOIN pg_type AS t ON t.oid = base.oid WHERE t.typtype = 'd') "
    "SELECT b.attrelid::int8 AS relation, a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type_name, "
    "t.oid::int8 AS type_oid, b.typmod AS typmod, t.typcategory::text AS category, t.typtype::text AS type_kind, "
    "b.not_null AS not_null, has_column_privilege(b.attrelid, b.attnum, 'SELECT') AS readable "
    "FROM base AS b JOIN pg_type AS t ON t.oid = b.oid AND t.typtype <> 'd' "
    "JOIN pg_attribute AS a ON a.attrelid = b.attrelid AND a.attnum = b.attnum ORDER BY b.attrelid, b.attnum"
)
_KEYS = (
    "WITH chosen AS ({chosen}) SELECT i.indrelid::int8 AS relation, i.indisprimary AS is_primary, k.place::int8 AS place, "
    "a.attname::text AS name FROM pg_index AS i JOIN chosen AS c ON c.oid = i.indrelid "
    "JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_am AS m ON m.oid = x.relam "
    "CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) "
    "JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number "
    "WHERE i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree' AND k.place <= i.indnkeyatts "
    "AND (i.indisprimary OR k.place = 1) ORDER BY 1, 3"
)
_LEAVES = (
    "WITH RECURSIVE tree AS (SELECT {oid}::oid AS oid, ''::text AS attached UNION ALL "
    "SELECT i.inhrelid, tree.attached || ' ' || i.xmin::text FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid "
    # what is being detached is out already; before version 14 that is done at once
    "WHERE to_jsonb(i) ->> 'inhdetachpending' IS DISTINCT FROM 'true') "
    "SELECT c.oid::int8 AS oid, string_agg(tree.attached, ',' ORDER BY tree.attached) AS attached, n.nspname::text AS schema, c.relname::text AS name, "
    "coalesce(pg_relation_filenode(c.oid), 0)::int8 AS relfilenode, "
    "(pg_relation_size(c.oid) / current_setting('block_size')::int8)::int8 AS pages, "
    # the policies of a partition hide rows from who asks it, and not from who asks its table
    "has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AND c.relkind = 'r' "
    "AND (c.oid = {oid} OR NOT row_security_active(c.oid)) AS readable, c.relpersistence <> 'u' AS logged "
    "FROM tree JOIN pg_class AS c ON c.oid = tree.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    # a child of two parents is in the tree twice
    "WHERE c.relkind <> 'p' GROUP BY c.oid, n.oid ORDER BY c.oid"
)
_TREES = (
    "WITH RECURSIVE tree AS (SELECT oid AS root, oid FROM unnest('{{{oids}}}'::oid[]) AS asked (oid) UNION ALL "
    "SELECT tree.root, i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid), "
    # whoever asks for the size of one that is locked, or that somebody waits to lock, waits, too
    "locked AS MATERIALIZED (SELECT DISTINCT relation AS oid FROM pg_locks WHERE mode = 'AccessExclusiveLock'), "
    "free AS MATERIALIZED (SELECT root FROM tree LEFT JOIN locked ON locked.oid = tree.oid GROUP BY root HAVING count(locked.oid) = 0) "
    "SELECT root::int8 AS oid, string_agg(DISTINCT c.oid::text, ' ') AS leaves, bool_and(c.relpersistence <> 'u') AS logged, "
    "sum(pg_relation_size(c.oid) / current_setting('block_size')::int8)::int8 AS pages "
    "FROM free JOIN tree USING (root) JOIN pg_class AS c ON c.oid = tree.oid WHERE c.relkind <> 'p' GROUP BY root"
)


H = TypeVar("H", bound=Hashable)


class Rows(Protocol):
    """What can be asked for rows."""

    def rows(self, sql: str, *, where: str = "") -> list[dict[str, Any]]:
        """All rows of a small query."""

    def each(self, sql: str) -> Iterator[dict[str, Any]]:
        """The rows of a look into the catalogue, some of them at a time."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column that is not dropped."""

    name: str
    type_name: str
    """As SQL has it."""
    type_oid: int
    """Of the base type, where it is a domain."""
    nullable: bool
    field: "pa.Field"
    """As Strandline offers it."""
    expression: str
    """What to select of ``t``."""
    readable: bool = True
    """The role may."""
    is_nested: bool = False
    """An array, or a composite."""
    former: "Column | None" = None
    """As older versions offered it, if that was PostgreSQL's own text."""

    def formerly(self) -> "Column":
        """As older versions offered it."""
        return self.former or self

    @property
    def is_text(self) -> bool:
        """Whether it holds text, whose order is its collation's."""
        return self.type_oid in TEXTS


@dataclass(frozen=True, slots=True)
class Relation:
    """What can be read by a name."""

    oid: int
    schema: str
    name: str
    kind: str
    """``relkind``: r a table, p a partitioned one, v a view, m a materialized one, f a foreign one, also in part; or ``QUERY``."""
    primary_key: tuple[str, ...]
    """Empty also where tables that inherit may hold its values again."""
    description: str
    columns: tuple[Column, ...]
    indexed: frozenset[str]
    """Columns that come first in a btree."""
    row_security: bool
    """Policies hide rows from this role."""
    rows_estimated: int
    """As of the last ANALYZE; -1 where there was none."""
    bytes_estimated: int
    role: str = ""
    """Who reads."""
    reachable: bool = True
    """The role may use its schema."""
    whole: bool = True
    """The role may read all of it: each column, also those that tell a row's transaction and address."""
    query: str = ""
    """What makes its rows, where it is a query of the spec."""

    @property
    def tells(self) -> bool:
        """Whether rows tell this role which transaction wrote them, and where they lie."""
        return self.has_heap and self.whole

    @property
    def kind_name(self) -> str:
        """What it is, for people."""
        return {"v": "view", "m": "materialized view", "f": "foreign table", QUERY: "query"}.get(self.kind, "table")

    @property
    def has_heap(self) -> bool:
        """Whether it stores rows, in heaps of its own or of its partitions."""
        return self.kind in ("r", "p")


@dataclass(frozen=True, slots=True)
class Leaf:
    """What really stores rows: the table itself, or a partition or child of it."""

    oid: int
    attached: str
    """By which transactions: another value, if it was detached and attached again."""
    schema: str
    name: str
    relfilenode: int
    pages: int
    readable: bool
    """It has pages, and the role may read all of it by its own name."""
    logged: bool = True
    """A crash of the server does not empty it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """All that stores the rows of a table, as a look at many tables tells it."""

    leaves: frozenset[int]
    """Oids; one that is being detached is among them."""
    logged: bool
    """A crash of the server empties no part of it."""
    pages: int


def relations(session: Rows, schemas: Sequence[str]) -> list[Relation]:
    """Everything in ``schemas``, also what the role may not read, by schema and name; partitions only as their table."""
    chosen = _CHOSEN.format(schemas=", ".join(literal(name) for name in schemas))
    found, one = session.rows(_RELATIONS.format(chosen=chosen)), _Once().of
    # a foreign table, and tables that inherit, may hold what the constraints of this one forbid: nulls, a key twice
    loose = {row["oid"] for row in found if row["is_loose"]}
    columns: dict[int, list[Column]] = defaultdict(list)
    made: dict[tuple[Any, ...], Column] = {}  # the tables of ten thousand tenants have the same columns
    for row in session.each(_COLUMNS.format(chosen=chosen)):
        relation = row.pop("relation")
        said = (*row.values(), relation in loose or not row["not_null"])
        if said not in made:
            made[said] = column_of(row, nullable=said[-1])
        columns[relation].append(made[said])
    keys: dict[int, list[str]] = defaultdict(list)
    indexed: dict[int, set[str]] = defaultdict(set)
    for row in session.each(_KEYS.format(chosen=chosen)):
        if row["is_primary"] and row["relation"] not in loose:
            keys[row["relation"]].append(row["name"])
        if row["place"] == 1:
            indexed[row["relation"]].add(row["name"])
    return [
        Relation(
            row["oid"],
            one(row["schema"]),
            row["name"],
            "f" if row["is_foreign"] else one(row["kind"]),
            one(tuple(keys[row["oid"]])),
            one(row["description"]),
            one(tuple(columns[row["oid"]])),
            one(frozenset(indexed[row["oid"]])),
            row["row_security"],
            row["tuples"],
            row["bytes"],
            one(row["role"]),
            row["reachable"],
            row["reachable"] and row["whole"],
        )
        for row in found
        if columns[row["oid"]]
    ]


class _Once:
    """Equal values as one object."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def of(self, value: H) -> H:
        """The first that was equal."""
        kept: H = self._kept.setdefault(value, value)
        return kept


def leaves(session: Rows, oid: int) -> list[Leaf]:
    """What stores the rows of a table, by oid."""
    return [Leaf(**row) for row in session.rows(_LEAVES.format(oid=int(oid)))]


def trees(session: Rows, oids: Sequence[int]) -> dict[int, Tree]:
    """What stores the rows of tables, by oid, in one query; without those that are gone, or locked by somebody."""
    found = session.rows(_TREES.format(oids=",".join(map(str, oids))))
    return {
        row["oid"]: Tree(frozenset(map(int, row["leaves"].split())), row["logged"], row["pages"] or 0) for row in found
    }


def column_of(row: Mapping[str, Any], *, nullable: bool) -> Column:
    """A column, by what the catalogue says of it and its type."""
    is_own = row["category"] == "A" or row["type_kind"] == "c"
    offered = field(row["name"], row["type_oid"], row["typmod"], nullable=nullable, is_nested=is_own)
    name = f"t.{quote(row['name'])}"
    column = Column(
        row["name"],
        row["type_name"],
        row["type_oid"],
        nullable,
        offered,
        expression(name, row["type_oid"], is_nested=is_own),
        row["readable"],
        is_own,
    )
    if is_own or not was_text(row["type_oid"], row["typmod"]):
        return column
    text = pa.field(row["name"], pa.string(), nullable)
    return replace(column, former=replace(column, field=text, expression=f"{name}::text"))
