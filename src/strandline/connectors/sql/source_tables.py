"""What SQL sources share: the settings of one table, and names that were mistyped."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field

from strandline.errors import UsageError, did_you_mean
from strandline.selection import columns_said
from strandline.settings import Duration, lasting
from strandline.table_settings import PerTable

__all__ = [
    "JOINED",
    "QueryableSettings",
    "TableSettings",
    "check_query",
    "known",
    "not_unique",
    "queries",
    "selection",
    "smallest_offset_s",
    "sweepable",
    "task_id",
]


class TableSettings(BaseModel):
    """How one table is read."""

    model_config = ConfigDict(extra="forbid")

    NEEDS: ClassVar[Mapping[str, str]] = dict.fromkeys(("lag", "start", "timezone"), "incremental_key")
    """Settings that mean nothing without another one; under a glob they are for the tables that have it."""

    incremental_key: str | None = Field(
        default=None, description="Column whose values grow with every change: a time of change, or an id."
    )
    primary_key: list[str] | None = Field(
        default=None, min_length=1, description="Columns that identify a row. Default: the database's own."
    )
    lag: Duration = lasting(
        "0",
        "Look-back window for rows that appear late, read again at every sync. "
        "It reaches back over rows that were read since it was set.",
    )
    start: datetime | date | int | float | str | None = Field(
        default=None, description="Rows whose incremental key is smaller are not read. A time, or a number."
    )
    columns: list[str] | None = Field(
        default=None,
        min_length=1,
        description='Columns to read, by name or glob, with `-` before those that are left out: `["*", "-internal_*"]`; the last '
        "one that matches decides, and keys come along. Default: all. To change it for an incremental table needs `--full-refresh`.",
    )
    where: str | None = Field(default=None, min_length=1, description="SQL condition that a row must meet to be read.")
    nulls: Literal["include", "exclude", "fail"] = Field(
        default="include",
        description="Rows whose incremental key is NULL: read them at every sync, leave them out, or fail the table.",
    )
    deletes: Literal["sweep", "ignore"] | None = Field(
        default=None,
        description="Rows deleted at the source: `sweep` reads all primary keys at every sync and removes the rest. "
        "Default: `ignore`.",
    )
    mode: Literal["full"] | None = Field(default=None, description="`full` reads the table in full at every sync.")
    timezone: str | None = Field(
        default=None, description="Zone of times that carry none, as `Europe/Berlin`. Default: UTC."
    )


class QueryableSettings(TableSettings):
    """How one table is read, which may be a query of the spec."""

    query: str | None = Field(
        default=None,
        min_length=1,
        description="A query whose rows are the table, which need not exist: one `SELECT`. It has no key unless `primary_key` names one, "
        "and is read in full unless it has an `incremental_key`.",
    )


JOINED = (
    "of a query, a change is seen only if it changes the key of the row: a row that appears, changes or goes because of another row, as "
    "in a join, keeps its key"
)
"""What cannot be promised of a query that is read by a key."""

Settings = TypeVar("Settings", bound=TableSettings)


def queries(tables: PerTable[Any]) -> dict[str, str]:
    """The tables that a query makes, by their key in the spec; a final semicolon is no part of it."""
    return {
        entry.key: str(query).strip().rstrip(";").rstrip()
        for entry in tables.entries
        if "*" not in entry.key and (query := entry.settings.get("query"))
    }


def check_query(settings: QueryableSettings, query: str, where: str) -> None:
    """Whether a table is made by a query just if its settings say so.

    Raises:
        UsageError: its query stands under a glob.
    """
    if settings.query and not query:
        raise UsageError(f"{where}: a `query` makes one table", hint="write it under the name of that table")


def sweepable(
    tables: PerTable[Settings], settings: Settings, primary_key: Sequence[str], name: str, spec_name: str = ""
) -> Settings:
    """Settings of a table as they are meant: a sweep under a glob is for those tables that have a primary key."""
    has_key = bool(settings.primary_key or primary_key)
    if has_key or settings.deletes != "sweep" or tables.says("deletes", name, spec_name):
        return settings
    return settings.model_copy(update={"deletes": "ignore"})


def selection(settings: TableSettings, *, incremental: bool, **more: object) -> str:
    """What restricts the rows, canonical: equal texts select the same rows. Empty when nothing does."""
    parts: dict[str, object] = {}
    if settings.where is not None:
        parts["where"] = settings.where.strip()
    if isinstance(settings, QueryableSettings) and settings.query:
        # not the text: a state is no place for what a variable may have brought into it
        parts["query"] = hashlib.sha256(settings.query.strip().rstrip(";").rstrip().encode()).hexdigest()[:16]
    if incremental:
        if settings.start is not None:
            parts["start"] = settings.start if isinstance(settings.start, int | float | str) else str(settings.start)
        if (columns := columns_said(settings.columns)) is not None:
            # rows that were read before would lack a new one, and versions of a row that is read again be others
            parts["columns"] = columns
        parts |= {name: value for name, value in more.items() if value}
        if settings.nulls == "exclude":
            parts["nulls"] = settings.nulls
        if settings.timezone is not None:
            parts["timezone"] = settings.timezone
    return json.dumps(parts, sort_keys=True) if parts else ""


def smallest_offset_s(name: str, now_s: int) -> int:
    """The smallest offset from UTC, in seconds, that the zone has in the years around ``now_s``.

    Raises:
        UsageError: there is no such zone.
    """
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"there is no time zone {name!r}", hint="write it like Europe/Berlin or UTC") from error
    now = datetime.fromtimestamp(now_s, UTC)
    offsets = [(now + timedelta(days=days)).astimezone(zone).utcoffset() for days in range(-400, 400, 7)]
    return int(min(offset for offset in offsets if offset is not None).total_seconds())


def known(kind: str, name: str, names: Iterable[str], *, where: str) -> None:
    """Refuse ``name`` unless it is one of ``names``.

    Raises:
        UsageError: with the nearest name as the hint.
    """
    choices = list(names)
    if name in choices:
        return
    there = f"the {kind}s are {', '.join(sorted(choices))}" if choices else f"it has no {kind}s"
    hint = did_you_mean(name, choices, there)
    raise UsageError(f"{where} has no {kind} {name!r}", hint=hint)


def task_id(name: str) -> str:
    """The name of the table, but that ``@`` must not come first. Distinct names have distinct ids."""
    return f"%{name}" if name.startswith(("@", "%")) else name


def not_unique(table: str, columns: Sequence[str], keys: int, rows: int) -> str:
    """What is said of a primary key that is on several rows."""
    return (
        f"{table}: its `primary_key` ({', '.join(columns)}) is not unique: {rows} rows share {keys} "
        f"key{'s' if keys > 1 else ''}, and only one row of each is stored; name columns that tell rows apart"
    )
