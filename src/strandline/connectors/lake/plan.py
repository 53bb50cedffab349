"""How a window meets the rows that are stored: which files lose rows, and are rewritten without them.

First the columns that decide are read, of the files that may be concerned: so it is known how many rows go before anything is
written. Then those files alone are rewritten, one batch at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from strandline.connectors.lake.kept_values import KeptValues
from strandline.connectors.lake.lake_table import DataFile, LakeTable, Snapshot
from strandline.connectors.lake.overlay import Overlay, concat
from strandline.connectors.lake.refresh import Hidden, converted
from strandline.connectors.lake.rows import Form, RawFile, Writer, in_scope, keys_of
from strandline.destination import LACKING_MAX, Scope
from strandline.errors import MassDeleteError
from strandline.lazy import pa, pc
from strandline.table import CLIENT_ID, SOURCE_NAME, SYNC_TIME

__all__ = ["Plan", "Planner", "rewritten"]

Added = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Plan:
    """What becomes of a table."""

    adds: Added = ()
    rewrites: dict[str, Added] = field(default_factory=dict)
    gone: "pa.Array | None" = None
    """The keys of stored rows that go."""
    keys: str = ""
    """The file that has them."""
    scopes: list[tuple[str, str | None]] = field(default_factory=list)
    removed: int = 0
    lacking: tuple[int, ...] = ()
    empty: bool = False
    """The scope has no rows any more."""


@dataclass(slots=True)
class _Marks:
    """Which rows of a file go, and which are another source's from now on."""

    gone: "pa.Array"
    kept_values: "pa.Array"
    """Of rows that go because others take their place: whether those may take values from them."""
    moved: "pa.Array | None"


class Planner:
    """Makes the plan of one table. Used once.

    Args:
        stored: the table.
        form: as it is stored.
        found: what is there.
        overlay: what the window says.
        scope: of the window.
        hidden: the rows that take the place of the scope's.
        after: as it is stored after a full refresh.
    """

    def __init__(
        self,
        stored: LakeTable,
        form: Form,
        found: Snapshot,
        overlay: Overlay,
        scope: Scope,
        hidden: Hidden | None = None,
        after: Form | None = None,
    ) -> None:
        self._stored, self._form, self._found, self._overlay, self._scope = stored, form, found, overlay, scope
        self._hidden, self._after = hidden, after or form
        self._final = overlay.final()
        self._key = form.table.primary_key
        self._taken = concat(overlay.taken)
        self._deleted = concat(overlay.deleted)
        self._marks: dict[str, _Marks] = {}
        self._gone: list[pa.Array] = []
        self._whole = self._swept = self._left = self._stale = self._replaced = self._mine = 0
        self._appeared: pa.Array | None = None

    def plan(self, *, appends: bool) -> Plan:
        """See ``Plan``.

        Args:
            appends: whether rows of one key stand beside each other.

        Raises:
            MassDeleteError: too many rows would go. Nothing was written.
        """
        if appends:
            self._taken = None
        elif self._hidden is not None:
            self._taken = self._hidden.keys(self._form, self._after)
        everywhere = self._overlay.looks_everywhere or (self._overlay.removes and self._final is None)
        if self._overlay.present is not None:
            self._appeared = pa.repeat(pa.scalar(False), len(self._overlay.present))
        if everywhere or self._taken is not None or self._deleted is not None:
            for file in self._found.files.values():
                if everywhere or self._may_meet(file):
                    self._look(file)
        self._guard()
        plan = Plan(gone=concat(self._gone), removed=self._swept + self._overlay.swept + self._stale + self._replaced)
        plan.lacking = self._lacking()
        rows = len(self._final.keys) if self._final is not None else 0
        plan.empty = everywhere and not (self._left or rows or (self._hidden is not None and self._hidden.count))
        if self._hidden is not None:
            plan.scopes.append((self._scope.source_name, self._scope.partition))
        if self._overlay.former:
            plan.scopes.append((self._overlay.former, self._scope.partition))
        self._write(plan)
        return plan

    # which rows go ---------------------------------------------------------------------------------------------------

    def _may_meet(self, file: DataFile) -> bool:
        """Whether a file may have rows with keys of the window."""
        arrays = [one for one in (self._taken, self._deleted) if one is not None and len(one)]
        if not arrays:
            return False
        if len(self._key) > 1 or self._key[0] not in file.low:
            return True
        low, high = file.low[self._key[0]], file.high[self._key[0]]
        for array in arrays:
            bounds = pc.min_max(array).as_py()
            if type(bounds["min"]) is not type(low) or (bounds["min"] <= high and bounds["max"] >= low):
                return True
        return False

    def _look(self, file: DataFile) -> None:
        overlay = self._overlay
        parents = [name for names, _ in overlay.replaced for name in names]
        columns = list(dict.fromkeys([*self._key, SOURCE_NAME, CLIENT_ID, SYNC_TIME, *parents]))
        marks = [self._mark(batch) for batch in self._form.stored(self._stored, file, columns)]
        if any(pc.any(one.gone).as_py() or (one.moved is not None and pc.any(one.moved).as_py()) for one in marks):
            self._marks[file.path] = _Marks(
                pa.concat_arrays([one.gone for one in marks]),
                pa.concat_arrays([one.kept_values for one in marks]),
                pa.concat_arrays([one.moved for one in marks if one.moved is not None]) if overlay.former else None,
            )

    def _mark(self, batch: "pa.RecordBatch") -> _Marks:
        overlay, none = self._overlay, pa.repeat(pa.scalar(False), batch.num_rows)
        keys = keys_of(batch, self._key) if self._key else None
        mine = in_scope(batch, self._scope)
        taken = _is_in(keys, self._taken) if keys is not None else none
        doomed = mine if overlay.truncated or self._hidden is not None else none
        if self._deleted is not None:
            doomed = pc.or_(doomed, pc.and_(mine, _is_in(keys, self._deleted)))
        for names, values in overlay.replaced:
            children = pc.and_(mine, _is_in(keys_of(batch, names), values))
            doomed = pc.or_(doomed, children)
            again = _is_in(keys, self._final.keys if self._final is not None else None)
            self._replaced += _count(pc.and_(children, pc.invert(again)))
        gone = pc.or_(taken, doomed)
        self._mine += _count(mine)
        if overlay.present is not None:
            gone = self._sweep(keys, mine, gone)
        left = pc.and_(mine, pc.invert(gone))
        self._left += _count(left)
        if overlay.stale:
            old = pc.less(batch.column(SYNC_TIME).cast(pa.int64()), self._scope.sync_time_us)
            old = pc.and_(left, pc.fill_null(old, fill_value=False))
            self._stale += _count(old)
            self._left -= _count(old)
            gone = pc.or_(gone, old)
        if keys is not None:
            self._gone.append(keys.filter(gone))
        moved = in_scope(batch, _named(self._scope, overlay.former)) if overlay.former else None
        return _Marks(gone, pc.invert(doomed), moved)

    def _sweep(self, keys: "pa.Array", mine: "pa.Array", gone: "pa.Array") -> "pa.Array":
        left = pc.and_(mine, pc.invert(gone))
        missing = pc.and_(left, pc.invert(_is_in(keys, self._overlay.present)))
        self._whole += _count(left)
        self._swept += _count(missing)
        gone = pc.or_(gone, missing)
        there = keys.filter(pc.invert(gone))
        self._appeared = pc.or_(self._appeared, _is_in(self._overlay.present, there))
        return gone

    def _guard(self) -> None:
        """Whether too many rows would go.

        Raises:
            MassDeleteError: too many.
        """
        overlay, rows = self._overlay, len(self._final.keys) if self._final is not None else 0
        if overlay.present is not None:
            self._check(self._swept + overlay.swept, self._whole + overlay.before_sweep)
        if overlay.stale:
            self._check(self._stale, self._left + self._stale + rows)
        if self._hidden is not None:
            self._check(self._mine - self._hidden.count, self._mine)

    def _check(self, doomed: int, whole: int) -> None:
        if self._scope.share_max is not None and doomed > self._scope.share_max * whole:
            raise MassDeleteError(
                f"{self._form.table.name}: {doomed} of {whole} rows of {self._scope.source_name} would be deleted, more than a "
                f"share of {self._scope.share_max}",
                hint="if that is right: strandline sync --allow-mass-delete",
            )

    def _lacking(self) -> tuple[int, ...]:
        present = self._overlay.present
        if present is None:
            return ()
        found = self._appeared
        if self._final is not None:
            found = pc.or_(found, _is_in(present, self._final.keys))
        return tuple(pc.indices_nonzero(pc.invert(found)).to_pylist()[: LACKING_MAX + 1])

    # what is written -------------------------------------------------------------------------------------------------

    def _write(self, plan: Plan) -> None:
        others = [one["name"] for one in self._found.columns if one["name"] not in self._form.written]
        writer, values = Writer(self._stored, self._after), KeptValues(self._final, others)
        reshapes = self._after is not self._form and self._after.written != self._form.written
        written: list[RawFile] = []
        try:
            for path in self._found.files if reshapes else self._marks:
                file, marks = self._found.files[path], self._marks.get(path)
                plan.rewrites[path] = self._rewrite(file, marks, values, written, reshapes=reshapes)
            for rows in self._hidden.rows() if self._hidden is not None else ():
                writer.write(rows)
            if self._final is not None:
                writer.write(values.filled(self._final))
            plan.adds = writer.finish()
        except BaseException:
            writer.discard()
            for one in written:
                one.discard()
            raise

    def _rewrite(
        self, file: DataFile, marks: _Marks | None, values: KeptValues, written: list[RawFile], *, reshapes: bool
    ) -> Added:
        """A file without the rows that go."""
        if (
            marks is not None
            and marks.moved is None
            and not values.wanted
            and not pc.any(pc.invert(marks.gone)).as_py()
        ):
            return ()
        out = RawFile(self._stored, self._after, file.partition)
        written.append(out)
        at = 0
        for batch in self._batches(file, reshapes=reshapes):
            count = batch.num_rows
            if marks is None:
                out.write(batch)
                continue
            gone = marks.gone.slice(at, count)
            if values.wanted:
                kept = pc.and_(gone, marks.kept_values.slice(at, count))
                values.add(batch.filter(kept), self._form, file)
            rows = batch
            if marks.moved is not None:
                rows = _renamed(rows, marks.moved.slice(at, count), self._scope.source_name)
            out.write(rows.filter(pc.invert(gone)))
            at += count
        return out.finish()

    def _batches(self, file: DataFile, *, reshapes: bool) -> "Iterator[pa.Table]":
        if not reshapes:
            yield from (pa.table(batch) for batch in self._stored.batches(file))
            return
        for batch in self._stored.batches(file):
            rows = converted(self._form.of_raw(batch, file, list(self._form.written)), self._form, self._after)
            others = [name for name in batch.schema.names if name not in self._form.written]
            for name in others:
                rows = rows.append_column(name, batch.column(name))
            yield rows.select([name for name in rows.schema.names if name not in self._after.outside])


def rewritten(
    stored: LakeTable, form: Form, file: DataFile, gone: "pa.Array | None", scopes: Sequence[Scope]
) -> Added | None:
    """What stays of a file that somebody else has written, without these keys and scopes; ``None``: all of it."""
    columns = list(dict.fromkeys([*form.table.primary_key, SOURCE_NAME, CLIENT_ID]))
    masks = []
    for batch in form.stored(stored, file, columns):
        mask = pa.repeat(pa.scalar(False), batch.num_rows)
        if gone is not None:
            mask = _is_in(keys_of(batch, form.table.primary_key), gone)
        for scope in scopes:
            mask = pc.or_(mask, in_scope(batch, scope))
        masks.append(mask)
    if not any(pc.any(mask).as_py() for mask in masks):
        return None
    out, stays, at = RawFile(stored, form, file.partition), pc.invert(pa.concat_arrays(masks)), 0
    for batch in stored.batches(file):
        out.write(pa.table(batch).filter(stays.slice(at, batch.num_rows)))
        at += batch.num_rows
    return out.finish()


def _named(scope: Scope, source: str) -> Scope:
    return Scope(source, scope.partition, scope.sync_time_us, scope.share_max)


def _renamed(rows: "pa.Table", moved: "pa.Array", source: str) -> "pa.Table":
    place = rows.schema.get_field_index(SOURCE_NAME)
    named = pc.if_else(moved, pa.scalar(source, pa.string()), rows.column(SOURCE_NAME).cast(pa.string()))
    return rows.set_column(place, SOURCE_NAME, named)


def _is_in(keys: "pa.Array", among: "pa.Array | None") -> "pa.Array":
    if among is None or not len(among):
        return pa.repeat(pa.scalar(False), len(keys))
    return pc.is_in(keys, value_set=among)


def _count(mask: "pa.Array") -> int:
    return int(pc.sum(mask).as_py() or 0)
