"""How the tables of a PostgreSQL database are read best: by transaction id, unless somebody knows better."""

from collections.abc import Iterable, Iterator

from strandline.connectors.postgresql.catalog import Column
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.server import Session
from strandline.connectors.postgresql.types_read import NUMERIC, TIMES
from strandline.connectors.sql.key_names import says_changed
from strandline.proposal import Proposal, Setting

__all__ = ["propose", "with_tables"]

_ROWS_COUNTED = 10_000
_BYTES_LARGE = 10**9
"""Of a table of this size, a scan at every sync takes seconds."""
_SCHEMAS = (
    "SELECT n.nspname::text AS name, count(*)::int8 AS tables, bool_or(c.relname = 'cq_tables') AS is_written FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' "
    "AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') "
    "AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') "
    "GROUP BY 1 ORDER BY 1"
)


def with_tables(session: Session) -> tuple[list[str], list[str]]:
    """Schemas that have tables for this role, by name; and those of them that a destination of Strandline's writes."""
    found = session.rows(_SCHEMAS)
    return [row["name"] for row in found if not row["is_written"]], [row["name"] for row in found if row["is_written"]]


def propose(session: Session, plans: Iterable[tuple[str, Plan]]) -> Iterator[Proposal]:
    """A proposal for each table, given with its name in the spec. The default is the right one: it misses nothing."""
    for name, one in plans:
        rows, guarantee = _rows(session, one), one.table.guarantee.name
        yield Proposal(one.table.name, name, rows, guarantee, options=tuple(_options(one)), notes=tuple(_notes(one)))


def _rows(session: Session, one: Plan) -> str:
    estimated = one.relation.rows_estimated
    if not one.has_heap:
        return ""
    if estimated > _ROWS_COUNTED:
        return f"about {estimated:,}"
    # never analyzed, or small enough to be counted
    counted = session.row(
        f"SELECT count(*)::int8 AS n FROM (SELECT 1 FROM {one.source} LIMIT {_ROWS_COUNTED + 1}) AS counted"
    )["n"]
    return f"{counted:,}" if counted <= _ROWS_COUNTED else f"more than {_ROWS_COUNTED:,}"


def _notes(one: Plan) -> Iterator[str]:
    if not one.has_heap:
        yield "a view or a foreign table: an `incremental_key` would be needed to read only what changed"
    elif not one.table.primary_key:
        yield "no primary key: read in full at every sync; name its `primary_key` to read it by xid"
    elif one.relation.bytes_estimated >= _BYTES_LARGE:
        yield f"every sync scans about {one.relation.bytes_estimated / 1e9:.1f} GB"


def _options(one: Plan) -> Iterator[Setting]:
    names = {column.name.lower(): column.name for column in one.columns}
    if not one.table.primary_key and "id" in names:
        yield Setting("primary_key", [names["id"]], "if it is another one in every row")
    keyed = one.table.primary_key or "id" in names
    for column in [column for column in one.columns if keyed and _may_be_key(one, column)][:1]:
        how = "reads by its index, not by a scan of the table" if one.has_heap else "reads only what changed"
        yield Setting("incremental_key", column.name, f"{how}; only if every change sets it, by the server's clock")
        if TIMES[column.type_oid] in {"timestamp", "date"}:
            yield Setting("timezone", "UTC", "or another, as Europe/Berlin: its times carry none")
        if one.has_heap:
            yield Setting("deletes", "sweep", "if rows are deleted", overwrites_only=True)
    loose = [one.name for one in one.columns if one.type_oid == NUMERIC and one.type_name == "numeric"]
    if types := {name: "decimal(38, 4)" for name in loose if name not in one.table.keys}:
        yield Setting(
            "types", types, "numeric without a precision is decimal(38, 18), with which a larger number fails"
        )


def _may_be_key(one: Plan, column: Column) -> bool:
    known = not one.has_heap or column.name in one.relation.indexed
    return known and says_changed(column.name) and column.type_oid in TIMES
