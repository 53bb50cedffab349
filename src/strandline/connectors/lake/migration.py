"""A stored table is made to fit."""

import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace

from strandline.connectors.arrow.changes import Looks, changes_with, left_as_stored
from strandline.connectors.arrow.widening import EXACT_MAX
from strandline.connectors.lake.lake import Lake, Opened, record_of
from strandline.connectors.lake.lake_table import LakeTable
from strandline.connectors.lake.log import Entry, Intent, Log, Record
from strandline.connectors.lake.overlay import Overlay
from strandline.connectors.lake.plan import Plan, Planner
from strandline.connectors.lake.rows import Form, in_scope
from strandline.connectors.lake.states import check_fence
from strandline.connectors.lake.types import decoded
from strandline.destination import RECREATE, Change, Fence, MigrateMode, Migration, Scope
from strandline.errors import RetryableError, TaskError
from strandline.lazy import pa, pc
from strandline.ownership import Ownership, claimed, refusal, row_owners
from strandline.table import CLIENT_ID, SOURCE_NAME, Table

__all__ = ["Wanted", "looks_of", "migrate"]

_ATTEMPTS_MAX = 50
_HINT = "choose another `path`; migrate_mode: forced creates it again, empty"


class _ChangedError(Exception):
    """Another commit has changed the table since it was looked at."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a table is to be."""

    table: Table
    partition_by: tuple[str, ...]
    mode: MigrateMode
    ownership: Ownership | None
    replaces: Scope | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is, and what it needs."""

    migration: Migration
    opened: Opened | None
    record: Record | None
    form: Form
    """As it is to be."""


def migrate(lake: Lake, wanted: Wanted, fence: Fence, *, apply: bool) -> Migration:
    """See ``Destination.migrate``."""
    name = wanted.table.name
    lake.form(wanted.table, wanted.partition_by).written  # noqa: B018 -- asked whether all of it can be stored
    with lake.alone([name]):
        for _ in range(_ATTEMPTS_MAX):
            log = lake.journal.look()
            if apply:
                check_fence(log, fence)
            found = _found(lake, log, wanted)
            if not apply:
                return found.migration
            with suppress(_ChangedError):
                return _applied(lake, log, wanted, fence, found)
    raise RetryableError(f"{lake.where}: other runs change {name!r} all the time")


def _found(lake: Lake, log: Log, wanted: Wanted) -> _Found:
    name, record, stored = wanted.table.name, log.tables.get(wanted.table.name), lake.table(wanted.table.name)
    there, opened = Migration((), None, empty=True, owners=()), None
    plain = lake.form(wanted.table, wanted.partition_by)
    if record is not None and lake.is_intact(name, record):
        opened = lake.opened(name, record)
        theirs = tuple(one["name"] for one in opened.found.columns if one["name"] not in opened.form.written)
        there = Migration((), record.mark, empty=opened.empty, owners=record.owners, theirs=theirs)
    elif _is_foreign(stored, log, name):
        there = Migration((), "", empty=False, owners=())
        record = None
    else:
        record = None
    ownership, exists = wanted.ownership, there.mark is not None
    refused = ownership and refusal(
        name, ownership, there.owners or (), exists=exists, empty=there.empty, recreates=False
    )
    if refused:
        return _Found(there, opened, record, plain)
    changes, kept, users = _changes(wanted, opened, there, record, plain)
    table = wanted.table.keeping(kept)
    after = lake.form(
        left_as_stored(opened.form.table, table, changes) if opened is not None else table, wanted.partition_by
    )
    return _Found(replace(there, changes=tuple(changes), kept=kept, users=users), opened, record, after)


def _is_foreign(stored: LakeTable, log: Log, name: str) -> bool:
    """Whether there is something that was not made here."""
    if not stored.anything():
        return False
    found = stored.snapshot()
    return found is None or found.id != log.dropped.get(name)


def _changes(
    wanted: Wanted, opened: Opened | None, there: Migration, record: Record | None, plain: Form
) -> "tuple[list[Change], dict[str, pa.DataType], tuple[str, ...]]":
    table, ownership = wanted.table, wanted.ownership
    if opened is None:
        return changes_with(None, table, wanted.mode, wanted.replaces, (), looks_of(None))
    if ownership is None or not ownership.adopt:
        stranger = next((one for one in there.theirs if one in table.schema.names and _is_strange(opened, one)), None)
        if stranger is not None:
            raise TaskError(
                f"table {table.name!r}: somebody else has added a column {stranger!r}, which the source has now, too",
                hint="leave it out by `columns`, or take it over with `adopt: true`",
            )
    if record is not None and record.partition_by != wanted.partition_by:
        problem = f"it is {opened.form.laid_out}, and would be {plain.laid_out}"
        if wanted.mode is MigrateMode.SAFE or wanted.replaces is not None:
            raise TaskError(f"table {table.name!r} cannot be changed in place: {problem}", hint=_HINT)
        return [Change(RECREATE, table.name, detail=problem)], {}, ()
    owners = there.owners or ()
    others = [str(one) for one in owners if ownership and not one.is_same(ownership.owner)]
    return changes_with(opened.form.table, table, wanted.mode, wanted.replaces, others, looks_of(opened))


def _is_strange(opened: Opened, name: str) -> bool:
    """Whether a column is none of ours; one of nothing but nulls is ours, and not in the table."""
    return name not in opened.form.table.schema.names


def looks_of(opened: Opened | None) -> Looks:
    """What has to be known of the rows of a table."""

    def are_doubles(column: str) -> bool:
        if opened is None:
            return True
        kind = opened.form.table.schema.field(column).type
        for file in opened.found.files.values():
            for batch in opened.form.stored(opened.stored, file, [column]):
                values = decoded(batch.column(0), kind, where=column).cast(pa.decimal128(20, 0))
                if pc.any(pc.greater(pc.abs(values), pa.scalar(EXACT_MAX).cast(pa.decimal128(20, 0)))).as_py():
                    return False
        return True

    def strangers(scope: Scope) -> set[str]:
        found: set[str] = set()
        for file in opened.found.files.values() if opened is not None else ():
            for batch in (
                opened.form.stored(opened.stored, file, [SOURCE_NAME, CLIENT_ID]) if opened is not None else ()
            ):
                others = pa.table(batch.filter(pc.invert(in_scope(batch, scope))))
                for row in others.group_by(others.schema.names).aggregate([]).to_pylist():
                    found.add(row_owners(row.get(SOURCE_NAME), row.get(CLIENT_ID)))
        return found

    return Looks(are_doubles, strangers)


def _applied(lake: Lake, log: Log, wanted: Wanted, fence: Fence, found: _Found) -> Migration:
    """Make it so."""
    name, migration, opened = wanted.table.name, found.migration, found.opened
    recreates = any(change.kind == RECREATE for change in migration.changes)
    owners = found.record.owners if found.record is not None else ()
    if wanted.ownership is not None:
        exists = migration.mark is not None
        owners = claimed(
            name, wanted.ownership, migration.owners or (), exists=exists, empty=migration.empty, recreates=recreates
        )
    if migration.mark == "":
        raise TaskError(
            f"table {name!r}: {lake.table(name).where} holds something that was not made here",
            hint="move it away, or choose another `path`",
        )
    creates = opened is None or recreates
    shaped = not creates and opened is not None and _is_shaped(opened.form, found.form)
    if not (creates or shaped or owners != (found.record.owners if found.record is not None else ())):
        return migration
    if opened is not None:
        opened.check_writable()
    if opened is None and name in log.dropped:
        lake.clear(name, log.dropped[name])
    plan = _reshaped(lake, opened, found.form) if shaped and opened is not None else Plan()
    record = found.record

    def entry(now: Log, number: int) -> Entry:
        check_fence(now, fence)
        if now.tables.get(name) != log.tables.get(name):
            raise _ChangedError
        mark, identity = secrets.token_hex(8), str(uuid.uuid4())
        if creates or record is None or opened is None:
            identity = opened.found.id if opened is not None else identity
            fresh = Intent(
                number,
                identity,
                columns=lake.table(name).columns(found.form),
                partition_by=found.form.partition_by,
                creates=True,
            )
            made = record_of(found.form, mark, owners, fresh)
            return Entry({name: made}, now.without_delivered(name), dropped={name: ""})
        if not shaped:
            return Entry({name: replace(record, owners=owners)})
        return Entry({name: record_of(found.form, record.mark, owners, lake.intent(number, opened, plan, found.form))})

    made = lake.journal.commit(entry).tables[name]
    after = lake.opened(name, made)
    return replace(migration, mark=made.mark, empty=after.empty)


def _is_shaped(before: Form, after: Form) -> bool:
    """Whether the stored table becomes another one, for us or in its own log."""
    return before.table.schema != after.table.schema or before.table.primary_key != after.table.primary_key


def _reshaped(lake: Lake, opened: Opened, after: Form) -> Plan:
    """All rows in columns of other types, where these are others in the files, too."""
    changed = any(after.written.get(name, kind) != kind for name, kind in opened.form.written.items())
    if not (changed and after.rewrites):
        return Plan()
    plan = Planner(
        opened.stored, opened.form, opened.found, Overlay(opened.form), Scope("", None, 0), None, after
    ).plan(appends=True)
    lake.keep(opened, plan)
    return plan
