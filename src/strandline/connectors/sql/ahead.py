"""What is there of many stored tables, asked at once before each is looked at: one question instead of one for each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from strandline.connectors.sql.dialect import Statement
from strandline.own_tables import REGISTER
from strandline.ownership import Owner

if TYPE_CHECKING:
    from strandline.connectors.sql.session import Session

__all__ = ["Ahead", "look_ahead"]

_AT_ONCE = 250
"""Tables in one statement, which locks all of them."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What was found, by table; of others nothing is known."""

    full: Mapping[str, bool] = field(default_factory=dict)
    """Whether it has a row."""
    owners: Mapping[str, tuple[Owner, ...]] = field(default_factory=dict)
    """Who is registered, sorted."""


def look_ahead(session: "Session", names: Sequence[str]) -> Ahead:
    """Look at tables, some of which may not be there."""
    there, full, owners = session.there(names), dict[str, bool](), dict[str, tuple[Owner, ...]]()
    registers = bool(session.columns(REGISTER))
    for start in range(0, len(there), _AT_ONCE):
        some = there[start : start + _AT_ONCE]
        full |= _full(session, some)
        owners |= _owners(session, some) if registers else {}
    return Ahead(full, owners)


def _full(session: "Session", some: Sequence[str]) -> dict[str, bool]:
    each = (
        f"SELECT {at} AS place, EXISTS (SELECT 1 FROM {session.relation(name)}) AS filled"
        for at, name in enumerate(some)
    )
    return {some[int(at)]: bool(filled) for at, filled in session.ask(" UNION ALL ".join(each))}


def _owners(session: "Session", some: Sequence[str]) -> dict[str, tuple[Owner, ...]]:
    sql, found = session.dialect, dict[str, list[Owner]]((name, []) for name in some)
    table, wanted = sql.quote("table"), ", ".join([sql.parameter] * len(some))
    text = f"SELECT {table}, source, {sql.quote('destination')}, shared FROM {session.relation(REGISTER)} WHERE {table} IN ({wanted})"
    for name, source, destination, shared in session.fetch(Statement(text, tuple(some))):
        found[str(name)].append(Owner(source, destination, bool(shared)))
    return {name: tuple(sorted(owners)) for name, owners in found.items()}
