"""How the source finds what changed in a table, in words: by which index, or by reading how much."""

from strandline.connectors.postgresql.catalog import Relation
from strandline.disk import size_in_words

__all__ = ["access"]

_LARGE_BYTES = 5_000_000_000
"""Of a table of this size, a scan at every sync is worth a word."""


def access(relation: Relation, key: str | None, *, by_xid: bool, whole: bool) -> str:
    """See ``Table.access``.

    Args:
        relation: the table.
        key: its incremental key.
        by_xid: whether what changed is told by transactions.
        whole: whether all of its rows are offered.
    """
    if relation.query:
        return "a query"
    if not relation.tells:
        return f"a query of the whole {relation.kind_name}"
    size = (
        f"about {size_in_words(relation.bytes_estimated)}"
        if relation.bytes_estimated > 0
        else "of a size not known yet"
    )
    scan = f"a scan of the table, {size}"
    if by_xid:
        less = "; an `incremental_key` with an index would read less" * (relation.bytes_estimated >= _LARGE_BYTES)
        spared = "no row is read and no key compared" if whole else "no row is read"
        return f"{scan}{less}; {spared} where no transaction has ended on the server since the last sync"
    if key is None:
        return scan
    return f"an index on {key!r}" if key in relation.indexed else f"{scan}: {key!r} has no index"
