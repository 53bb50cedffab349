"""Whether the values of an incremental key have an order of change, and up to where they lie in the past.

A type alone does not tell: a number may be an id or a time, and a text may be either, or have no order at all ('10' sorts
below '9'). So texts and UUIDs are taken only where their values begin with a time, all in one form, whose order is the same
in every collation; and no high-water mark passes the greatest time that is not in the future (``key_times``).
"""

from decimal import Decimal
from typing import Any

from strandline.connectors.postgresql.catalog import Column
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.plan import Plan, typed
from strandline.connectors.postgresql.types_read import NUMBERS
from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.key_times import IDS_MIN, Form, form_of
from strandline.errors import TaskError

__all__ = ["check_values", "past"]

_UUID = 2950
_DIGITS = {"epoch", "packed"}
_ALPHABETS = {"ulid": "0-9A-HJKMNP-TV-Z", "uuid7": "0-9a-f-"}
"""Of texts, by their form, as the form itself writes them."""


def past(session: Any, plan: Plan, top: str) -> str | None:
    """Up to where keys lie in the past, as SQL, if the greatest finite key ``top`` is a time. ``None``: they are ids."""
    key = _key(plan)
    if not (key.is_text or key.type_oid in NUMBERS or key.type_oid == _UUID):
        return None
    form = form_of(_value(top, key))
    if form is None or (form.floor is not None and _are_ids(session, plan, form.floor)):
        return None
    now_s = session.row("SELECT floor(extract(epoch FROM clock_timestamp()))::int8 AS now_s")["now_s"]
    return typed(str(form.ceiling(now_s)), key)


def check_values(session: Any, plan: Plan, lowest: str | None) -> None:
    """Whether the texts or UUIDs of the key, from ``lowest`` on, have an order of change.

    Raises:
        TaskError: they have none.
    """
    key = _key(plan)
    if not key.is_text and key.type_oid != _UUID:
        return
    sql = f"t.{quote(key.name)}"
    above = "TRUE" if lowest is None else f"{sql} >= {lowest}"
    first = f"SELECT {sql}::text AS value FROM {plan.source} WHERE {sql} IS NOT NULL AND {above} AND {plan.where}"
    rows = session.rows(f"{first} ORDER BY {sql} DESC LIMIT 1", where=plan.table.name)
    if not rows:
        return
    form = form_of(_value(rows[0]["value"], key))
    if form is not None:
        rows = session.rows(f"{first} AND NOT ({_is_like(sql, form)}) LIMIT 1", where=plan.table.name)
    if rows:
        raise TaskError(
            f"table {plan.table.name!r}: the incremental key {key.name!r} holds {rows[0]['value'][:40]!r}, and texts and UUIDs "
            "have an order of change only if all of them begin with a time in one form: numbers since 1970, 20261231, "
            "ULIDs, UUIDs of version 7",
            hint="leave `incremental_key` out to read the table by xid; numbers or times that are kept as texts can be cast by "
            "a view",
        )


def _key(plan: Plan) -> Column:
    assert plan.key is not None
    return plan.key


def _value(text: str, key: Column) -> object:
    if key.is_text or key.type_oid == _UUID:
        return text
    return Decimal(text)


def _are_ids(session: Any, plan: Plan, floor: int) -> bool:
    """Whether so many keys lie where there are no times that a sequence has come all the way."""
    sql = f"t.{quote(_key(plan).name)}"
    low = f"SELECT DISTINCT {sql} FROM {plan.source} WHERE {sql} > 0 AND {sql} < {floor} LIMIT {IDS_MIN}"
    return bool(session.row(f"SELECT count(*) >= {IDS_MIN} AS ids FROM ({low}) AS low", where=plan.table.name)["ids"])


def _is_like(sql: str, form: Form) -> str:
    """The condition that a key is of the form, as its sample is: as long, and in the same case."""
    sample = str(form.sample)
    text = f'({sql}::text COLLATE "C")'
    if form.name in _DIGITS and sample.isdigit():
        pattern = f"^[0-9]{{{len(sample)}}}$"
    elif form.name in _ALPHABETS:
        letters = _ALPHABETS[form.name]
        cased = letters.lower() if sample == sample.lower() else letters.upper()
        pattern = f"^[{cased}]{{{len(sample)}}}$"
    else:  # 20261231T2359Z
        pattern = "^" + "".join("[0-9]" if one.isdigit() else one for one in sample) + "$"
    return f"{text} ~ {literal(pattern)}" + (f" AND substr({text}, 15, 1) = '7'" if form.name == "uuid7" else "")
