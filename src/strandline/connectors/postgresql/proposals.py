"""How the tables of a PostgreSQL database are read best: by transaction id, unless somebody knows better."""

from collections.abc import Iterable, Iterator, Sequence

from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.server import Session
from strandline.connectors.postgresql.types_read import TIMES
from strandline.connectors.sql.key_names import says_changed
from strandline.proposal import Proposal

__all__ = ["other_schemas", "propose"]

_ROWS_COUNTED = 10_000
_BYTES_LARGE = 10**9
"""Of a table of this size, a scan at every sync takes seconds."""
_SCHEMAS = (
    "SELECT n.nspname::text AS name, count(*)::int8 AS tables FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' "
    "AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') GROUP BY 1 ORDER BY 1"
)


def other_schemas(session: Session, schemas: Sequence[str]) -> dict[str, int]:
    """Schemas beside ``schemas`` that have tables for this role, with how many."""
    return {row["name"]: row["tables"] for row in session.rows(_SCHEMAS) if row["name"] not in schemas}


def propose(session: Session, plans: Iterable[tuple[str, Plan]]) -> Iterator[Proposal]:
    """A proposal for each table, given with its name in the spec. The default is the right one: it misses nothing."""
    for name, one in plans:
        yield Proposal(one.table.name, name, _rows(session, one), one.table.guarantee.name, notes=tuple(_notes(one)))


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
    else:
        if one.relation.bytes_estimated >= _BYTES_LARGE:
            gigabytes = one.relation.bytes_estimated / 1e9
            yield f"every sync scans about {gigabytes:.1f} GB"
        for column in one.columns:
            if says_changed(column.name) and column.type_oid in TIMES and column.name in one.relation.indexed:
                yield (
                    f"incremental_key: {column.name} would read by its index, not by a scan of the table; only if every "
                    "change sets it, by the server's clock, and with `deletes: sweep` if rows are deleted"
                )
