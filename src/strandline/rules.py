"""What the engine itself is told about single tables, whatever source they come from: ``TableRules``.

::

    rules = source_spec.rules                       # PerTable[TableRules]
    rules.of(table.name, table.spec_name).adopt     # or rules_of(rules, table)
    rules_of(rules, table).stored_name(table)       # "shop_orders"
    stored_names(rules, tables)                     # {"sales_orders": "shop_orders", …}
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from strandline.destination import WriteMode
from strandline.errors import Problem, UsageError, raise_problems
from strandline.selection import chosen_columns, matches, names_of, spoken
from strandline.settings import parse_type
from strandline.table import Table
from strandline.table_settings import PerTable

__all__ = ["NameTemplate", "TableRules", "check_rules", "fitting", "may_share", "rules_of", "stored_names"]

_LENGTH_MAX = 200
_PLACES = ("{schema}", "{table}", "{source}")


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


def _template(text: str) -> str:
    unknown = re.sub("|".join(map(re.escape, _PLACES)), "", text)
    if "{" in unknown or "}" in unknown:
        raise ValueError(f"{text!r} may have {', '.join(_PLACES[:-1])} and {_PLACES[-1]} in braces, and no other")
    if "{table}" not in text:
        raise ValueError(f"{text!r} gives every table one name: it has no {{table}}")
    return text


NameTemplate = Annotated[str, AfterValidator(_template)]
"""How tables are called at the destination: ``{schema}_{table}``, or ``shop_{table}``."""


class TableRules(BaseModel):
    """How the rows of one table are stored; every source takes these settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_possible)] | None = Field(
        default=None, description="Name of the table at the destination. Default: its name at the source."
    )
    names: NameTemplate | None = Field(
        default=None,
        description="As `names` of the source, for the tables that a glob means. A `name` comes before it.",
    )
    write_mode: WriteMode | None = Field(
        default=None,
        description="How its rows are written; its child tables are written so, too. Default: the destination's.",
    )
    columns: list[str] | None = Field(
        default=None,
        min_length=1,
        description='Columns that are stored, by name or glob, with `-` before those that are left out: `["*", "-internal_*"]`; '
        "the last one that matches decides, and keys come along. Default: all. To change it for an incremental table needs `--full-refresh`.",
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
    latest_view: bool = Field(
        default=False,
        description="Whether a view, `NAME_latest`, shows the last version of each row; for a table with a primary key, to which rows "
        "are appended.",
    )
    backfill: bool = Field(
        default=False,
        description="Whether the table is read again to fill a new column; not in append mode. It deletes no row.",
    )

    def stored_name(self, table: Table) -> str:
        """What ``table`` is called at the destination.

        Raises:
            UsageError: `names` makes no name of it.
        """
        if self.name is not None or self.names is None:
            return self.name or table.name
        schema, own = _parts(table)
        if "{schema}" in self.names and not schema:
            raise UsageError(
                f"`names: {self.names}`: table {table.name!r} has no schema",
                hint="leave out {schema}, or give it a `name`",
            )
        try:
            return _possible(_filled(self.names, schema, own))
        except ValueError as error:
            raise UsageError(
                f"`names: {self.names}`: table {table.name!r}: {error}",
                hint="give the table a `name` in table_settings",
            ) from None


def _filled(template: str, schema: str, table: str) -> str:
    values = {"{schema}": schema, "{table}": table}
    return re.sub(r"\{schema\}|\{table\}", lambda found: values[found[0]], template)


def _parts(table: Table) -> tuple[str, str]:
    """Its schema, or nothing, and its name in there."""
    whole = table.spec_name
    for at, character in enumerate(whole):
        if character == "." and table.name in {f"{whole[:at]}_{whole[at + 1 :]}", whole[at + 1 :]}:
            return whole[:at], whole[at + 1 :]
    return "", table.name


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
    tables = list(tables)
    rules.check(
        {table.name: table.spec_name for table in tables},
        where=f"source {source!r}",
        columns={table.name: table.schema.names for table in tables if table.unreadable is None},
    )


def fitting(rules: PerTable[TableRules], table: Table) -> Table:
    """The table; unreadable, where what the spec says of its columns does not fit."""
    try:
        chosen_columns(rules_of(rules, table).columns, table.schema.names, table.keys, where=f"table {table.name!r}")
    except UsageError as error:
        return replace(table, unreadable=table.unreadable or rules.under_globs(error, table.name, table.spec_name))
    return table


def may_share(rules: PerTable[TableRules], stored: str) -> bool:
    """Whether a table that may be stored under this name is shared. Nobody has looked what tables the source has."""
    return any(
        matches(name, stored) and rules.of(entry.key).shared
        for entry in rules.entries
        for name in _possible_names(rules.of(entry.key), entry.key)
        if name
    )


def _possible_names(rules: TableRules, key: str) -> Iterator[str]:
    """As what the tables that a key of a spec means may be stored: globs."""
    schema, _, own = key.rpartition(".")
    if rules.name is not None:
        yield rules.name
    elif rules.names is not None:
        yield _filled(rules.names, schema or "*", own)
        yield _filled(rules.names, "*", "*") if "_" in key else ""  # sales_orders may be that of a schema
    else:  # sales.orders is stored as sales_orders, and public.orders as orders
        yield from (key, key.replace(".", "_", 1), key.partition(".")[2])


def stored_names(rules: PerTable[TableRules], tables: Sequence[Table]) -> dict[str, str]:
    """What each of the chosen ``tables`` is called at the destination, by its name at the source.

    Raises:
        UsageError: two of them would be one.
    """
    stored, problems = dict[str, str](), []
    for table in tables:
        try:
            stored[table.name] = rules_of(rules, table).stored_name(table)
        except UsageError as error:
            raise_problems(
                [replace(_naming(rules, table)[-1], message=error.message, hint=error.hint)], "`names` fits no table"
            )
    taken: dict[str, Table] = {}
    for table in tables:
        name = stored[table.name]
        other = taken.setdefault(name.casefold(), table)  # to some destinations a name is one in any case
        given = [one for one in (table, other) if stored[one.name] != one.name]
        if other is table or not given:
            continue
        place = _naming(rules, given[0])
        message = f"tables {spoken(other.name, other.spec_name)!r} and {spoken(table.name, table.spec_name)!r} would both be {name!r} at the destination"
        problems.append(replace(place[-1], message=message, hint="give one of them another `name`"))
    problems += _of_views(rules, tables, stored)
    if problems:
        raise_problems(problems, "several tables of the source have one name at the destination")
    return stored


def _naming(rules: PerTable[TableRules], table: Table) -> list[Problem]:
    """Where it stands what a table is called, the last one last."""
    return [
        entry.place
        for entry in rules.entries
        if entry.settings.keys() & {"name", "names"} and entry.fits(names_of(table))
    ]


def _of_views(rules: PerTable[TableRules], tables: Sequence[Table], stored: Mapping[str, str]) -> Iterator[Problem]:
    views = {f"{stored[one.name]}_latest".casefold(): one for one in tables if rules_of(rules, one).latest_view}
    for table in tables:
        if (of := views.get(stored[table.name].casefold())) is None:
            continue
        places = [one.place for one in rules.entries if one.settings.get("latest_view") and one.fits(names_of(of))]
        message = f"table {spoken(table.name, table.spec_name)!r} and the `latest_view` of {of.name!r} would both be {stored[table.name]!r}"
        yield replace(places[-1], message=message, hint="give one of the tables another `name`")
