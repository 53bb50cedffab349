"""What the engine itself is told about single tables, whatever source they come from: ``TableRules``.

::

    rules = source_spec.rules                       # PerTable[TableRules]
    rules.of(table.name, table.spec_name).adopt     # or rules_of(rules, table)
    stored_names(rules, tables)                     # {"sales_orders": "shop_orders", …}
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from strandline.errors import raise_problems
from strandline.selection import matches, names_of, spoken
from strandline.settings import parse_type
from strandline.table import Table
from strandline.table_settings import PerTable

__all__ = ["TableRules", "check_rules", "may_share", "rules_of", "stored_names"]

_LENGTH_MAX = 200


def _possible(name: str) -> str:
    if not name.strip():
        raise ValueError("a table needs a name")
    if name != name.strip() or not name.isprintable():
        raise ValueError(f"{name!r} cannot be the name of a table: it has spaces at its ends, or control characters")
    if len(name) > _LENGTH_MAX:
        raise ValueError(f"a name has {_LENGTH_MAX} characters at most")
    if name.casefold().startswith("cq_"):
        raise ValueError(f"{name!r} cannot be the name of a table: `cq_` begins the names of Strandline's own")
    return name


def _parsed(types: dict[str, str]) -> dict[str, str]:
    for name in types.values():
        parse_type(name)
    return types


class TableRules(BaseModel):
    """How the rows of one table are stored; every source takes these settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_possible)] | None = Field(
        default=None, description="Name of the table at the destination. Default: its name at the source."
    )
    adopt: bool = Field(
        default=False, description="Whether a table that exists there, and is not registered, is taken over."
    )
    shared: bool = Field(
        default=False, description="Whether several sources write the table, each of them other primary keys."
    )
    allow_cascade: bool = Field(
        default=False, description="Whether a delete may reach rows of other tables, by their foreign keys."
    )
    types: Annotated[dict[str, str], AfterValidator(_parsed)] = Field(
        default_factory=dict,
        description="Types in which columns that are no keys are stored: `string`, `decimal(38, 4)`, `timestamp[us, UTC]`. A value "
        "that does not fit fails the table.",
    )
    backfill: bool = Field(
        default=False,
        description="Whether the table is read again to fill a new column; not in append mode. It deletes no row.",
    )


def rules_of(rules: PerTable[TableRules], table: Table) -> TableRules:
    """Those of one table.

    Raises:
        UsageError: two spellings of its name set the same.
    """
    return rules.of(table.name, table.spec_name)


def check_rules(rules: PerTable[TableRules], tables: Iterable[Table], *, source: str) -> None:
    """Whether each name and glob of ``rules`` means one of ``tables``, all that the source has.

    Raises:
        UsageError: one does not.
    """
    rules.check({table.name: table.spec_name for table in tables}, where=f"source {source!r}")


def may_share(rules: PerTable[TableRules], stored: str) -> bool:
    """Whether a table that may be stored under this name is shared. Nobody has looked what tables the source has."""
    for entry in rules.entries:
        key = entry.key
        # sales.orders is stored as sales_orders, and public.orders as orders
        names = [str(entry.settings.get("name", key)), key.replace(".", "_", 1), key.partition(".")[2]]
        if any(matches(name, stored) for name in names if name) and rules.of(key).shared:
            return True
    return False


def stored_names(rules: PerTable[TableRules], tables: Sequence[Table]) -> dict[str, str]:
    """What each of the chosen ``tables`` is called at the destination, by its name at the source.

    Raises:
        UsageError: two of them would be one.
    """
    stored = {table.name: rules_of(rules, table).name or table.name for table in tables}
    problems = []
    taken: dict[str, Table] = {}
    for table in tables:
        name = stored[table.name]
        other = taken.setdefault(name.casefold(), table)  # to some destinations a name is one in any case
        given = [one for one in (table, other) if stored[one.name] != one.name]
        if other is table or not given:
            continue
        place = [entry.place for entry in rules.entries if "name" in entry.settings and entry.fits(names_of(given[0]))]
        message = f"tables {spoken(other.name, other.spec_name)!r} and {spoken(table.name, table.spec_name)!r} would both be {name!r} at the destination"
        problems.append(replace(place[-1], message=message, hint="give one of them another `name`"))
    if problems:
        raise_problems(problems, "several tables of the source have one name at the destination")
    return stored
