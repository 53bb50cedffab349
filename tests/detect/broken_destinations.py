"""Destinations that are broken on purpose, all of them in memory."""

import uuid
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from changed import Changed, Replayed

from strandline.connectors.memory.destination import MemoryDestination
from strandline.destination import Held
from strandline.errors import StateConflictError, TaskError
from strandline.fold import rows as fold_rows
from strandline.fold import window as fold_window
from strandline.message import Complete, Delete, Insert, Present, Replace, Swap, Truncate
from strandline.table import CQ_ID


class Broken(MemoryDestination):
    def write(self, window, *, mode, fence):
        return super().write(self.changed(window), mode=mode, fence=fence)

    def changed(self, window):
        return Changed(window, lambda message: self.change(window, message))

    def change(self, window, message):
        return message


def with_rows(message: Insert, batch: pa.RecordBatch) -> Insert:
    return replace(message, batch=batch)


class CollapsesEqualRows(Broken):
    def change(self, window, message):
        if not isinstance(message, Insert) or message.version is None:
            return message
        versions = message.version.to_pylist()
        first = pa.array([at for at, version in enumerate(versions) if version not in versions[:at]], pa.int64())
        return replace(message, batch=message.batch.take(first), version=message.version.take(first))


class NumbersEveryWindowFromZero(Broken):
    def changed(self, window):
        return Changed(window, pass_=replace(window.pass_, sync_time_us=uuid.uuid4().int))


class NullsAbsentColumns(Broken):
    def change(self, window, message):
        if not isinstance(message, Insert):
            return message
        batch = message.batch
        for field in window.tables[message.table].schema:
            if field.name not in {*batch.schema.names, CQ_ID}:
                batch = batch.append_column(field, pa.nulls(batch.num_rows, field.type))
        return with_rows(message, batch)


class KeepsTheFirstOfABatch(Broken):
    def change(self, window, message):
        if not isinstance(message, Insert):
            return message
        backwards = pa.array(range(message.batch.num_rows)[::-1], pa.int64())
        return with_rows(message, message.batch.take(backwards))


class KeepsTheLatestTimestamp(Broken):
    def changed(self, window):
        def key(message):
            is_row = isinstance(message, Insert) and "updated_at" in message.batch.schema.names
            return pc.max(message.batch["updated_at"]).as_py().timestamp() if is_row else float("inf")

        return Changed(window, messages=lambda: sorted(window, key=key))


class IgnoresTheVersionOrder(Broken):
    def changed(self, window):
        tables = {name: replace(table, version_order="") for name, table in window.tables.items()}
        return Changed(window, tables=tables)


class TakesStaleRowsForNewer(Broken):
    def changed(self, window):
        return Changed(window, pass_=replace(window.pass_, full=False, stale_us=0))


class SkipsNullKeys(Broken):
    def change(self, window, message):
        if not isinstance(message, Insert):
            return message
        batch = message.batch
        for column in window.tables[message.table].primary_key:
            if column in batch.schema.names:
                batch = batch.filter(pc.is_valid(batch[column]))
        return with_rows(message, batch)


class IgnoresDeletes(Broken):
    def change(self, window, message):
        return None if isinstance(message, Delete) else message


class KeepsOldChildren(Broken):
    def change(self, window, message):
        return None if isinstance(message, Replace) else message


class ReplacesChildrenOnceAWindow(Broken):
    """At its begin, wherever in the stream that is said."""

    def changed(self, window):
        return Changed(window, messages=lambda: sorted(window, key=lambda message: not isinstance(message, Replace)))


class DeletesWhenAppending(MemoryDestination):
    def write(self, window, *, mode, fence):
        receipt = super().write(Changed(window, self.keep), mode=mode, fence=fence)
        for name in self.truncated:
            self._store.data.tables[name].rows.clear()
        return receipt

    def keep(self, message):
        self.truncated = getattr(self, "truncated", set()) | (
            {message.table} if isinstance(message, Truncate) else set()
        )
        return message


class StoresHalfOfAFailedStream(MemoryDestination):
    def write(self, window, *, mode, fence):
        failures = []

        def messages():
            try:
                yield from window
            except Exception as error:  # noqa: BLE001 -- raised again below
                failures.append(error)

        state = window._before.following(run_id="half", epoch=fence.epoch)
        receipt = super().write(Changed(window, messages=messages, state=state), mode=mode, fence=fence)
        if failures:
            raise failures[0]
        return receipt


class KeepsTheStageOfAFailure(MemoryDestination):
    """What was pulled before the failure is written with the next window."""

    def write(self, window, *, mode, fence):
        staged = self.__dict__.setdefault("staged", [])
        for message in window:
            staged.append(message)
        receipt = super().write(Changed(window, messages=staged.copy), mode=mode, fence=fence)
        staged.clear()
        return receipt


class SwallowsARejectedBatch(MemoryDestination):
    def write(self, window, *, mode, fence):
        insert = fold_window.Fold._insert

        def lenient(merge, message):
            with suppress(TaskError):
                insert(merge, message)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fold_window.Fold, "_insert", lenient)
            return super().write(window, mode=mode, fence=fence)


class AcceptsNullKeys(MemoryDestination):
    def write(self, window, *, mode, fence):
        def keys_of(table, batch):
            columns = [batch.column(name).to_pylist() for name in table.primary_key if name in batch.schema.names]
            return list(zip(*columns, strict=True))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fold_window, "keys_of", keys_of)
            return super().write(window, mode=mode, fence=fence)


class KeepsBothRowsOfAKey(MemoryDestination):
    """An insert that looks at what is stored, and not at what comes with it."""

    def write(self, window, *, mode, fence):
        keys_of = fold_window.keys_of

        def told_apart(table, batch):
            keys = keys_of(table, batch)
            return [key if keys[:at].count(key) == 0 else (*key, at) for at, key in enumerate(keys)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fold_window, "keys_of", told_apart)
            return super().write(window, mode=mode, fence=fence)


class CountsKeys(MemoryDestination):
    def write(self, window, *, mode, fence):
        keys = {}

        def counted(message):
            if isinstance(message, Insert):
                keys.setdefault(message.table, set()).update(message.batch["id"].to_pylist())
            return message

        receipt = super().write(Changed(window, counted), mode=mode, fence=fence)
        return replace(receipt, rows={table: len(some) for table, some in keys.items()})


class LosesTheSignOfZero(Broken):
    def change(self, window, message):
        if not isinstance(message, Insert) or "value" not in message.batch.schema.names:
            return message
        at = message.batch.schema.get_field_index("value")
        return with_rows(
            message, message.batch.set_column(at, message.batch.schema[at], pc.add(message.batch["value"], 0.0))
        )


class ReadsAnotherType(MemoryDestination):
    def read(self, table, *, columns=None):
        fields = [one.with_type(pa.string()) if one.type == pa.large_string() else one for one in table.schema]
        return super().read(replace(table, schema=pa.schema(fields)), columns=columns)


# the delivered set -----------------------------------------------------------------------------------------------------


class ForgetsWhatItDelivered(Broken):
    def change(self, window, message):
        return replace(message, reread=False) if isinstance(message, Insert) else message


class NeverForgets(Broken):
    def change(self, window, message):
        return None if isinstance(message, Complete) else message


class TrimsTooEarly(Broken):
    """At the end of each window, and not of the pass."""

    def changed(self, window):
        return Changed(window, messages=lambda: [*window, *map(Complete, window.tables)])


class RemembersAFailedWindow(MemoryDestination):
    """The delivered set is changed in a transaction of its own."""

    def write(self, window, *, mode, fence):
        pulled = Replayed(window)
        try:
            return super().write(pulled, mode=mode, fence=fence)
        except TaskError:
            data = self._store.data.copy(*(table.name for table in window.tables.values()))
            fold = fold_window.Fold(pulled, mode, data.tables, data.delivered, before_swap=lambda *_: None)
            for message in pulled:
                with suppress(TaskError):
                    fold.take([message])
            self._store.data.delivered.update(data.delivered)
            raise


class LeavesTheHiddenTable(MemoryDestination):
    def write(self, window, *, mode, fence):
        before = dict(self._store.data.tables)
        receipt = super().write(window, mode=mode, fence=fence)
        self._store.data.tables = before | self._store.data.tables
        return receipt


class ForgetsAtTheSwap(MemoryDestination):
    def write(self, window, *, mode, fence):
        swapped = []
        receipt = super().write(
            Changed(window, lambda message: swapped.append(isinstance(message, Swap)) or message),
            mode=mode,
            fence=fence,
        )
        if any(swapped):
            self._store.data.delivered.clear()
        return receipt


class ChangesColumnsBeforeTheSwap(MemoryDestination):
    """Or before anybody has read a row."""

    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        found = super().migrate(table, mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces)
        if apply and replaces is not None:
            data = self._store.data.copy(table.name)
            data.tables[table.name].table, data.tables[table.name].rows = table, {}
            self._store.data = data
        return found


class KeepsTheOldColumns(MemoryDestination):
    def write(self, window, *, mode, fence):
        names = [table.name for table in window.tables.values()]
        before = {name: self._store.data.tables[name].table for name in names if name in self._store.data.tables}
        receipt = super().write(window, mode=mode, fence=fence)
        for name, table in before.items():
            if name in self._store.data.tables:
                self._store.data.tables[name].table = table
        return receipt


class ChangesWhatOthersUse(MemoryDestination):
    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fold_rows.Rows, "strangers", lambda _stored, _scope: set())
            ownership = ownership and replace(ownership, adopt=True)
            return super().migrate(table, mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces)


class RemembersADroppedTable(MemoryDestination):
    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        delivered = dict(self._store.data.delivered)
        found = super().migrate(table, mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces)
        self._store.data.delivered.update(delivered)
        return found


# whose table it is -----------------------------------------------------------------------------------------------------


class TakesWhatIsThere(MemoryDestination):
    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        ownership = ownership and replace(ownership, adopt=True)
        return super().migrate(table, mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces)


class RegistersNobody(MemoryDestination):
    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        return super().migrate(table, mode=mode, fence=fence, apply=apply, replaces=replaces)


class WritesWhatWasTakenOver(MemoryDestination):
    def write(self, window, *, mode, fence):
        owners = dict(self._store.data.owners)
        self._store.data.owners.clear()
        receipt = super().write(window, mode=mode, fence=fence)
        self._store.data.owners.update(owners | self._store.data.owners)
        return receipt


class LeavesTheOldNameAlive(MemoryDestination):
    """It keeps the state of a lineage that another one follows."""

    def write(self, window, *, mode, fence):
        before = dict(self._store.data.commits)
        receipt = super().write(window, mode=mode, fence=fence)
        self._store.data.commits |= {key: kept for key, kept in before.items() if key != window.key}
        return receipt


class SweepsOneWay(MemoryDestination):
    """It does not say which keys of a sweep it lacks."""

    def write(self, window, *, mode, fence):
        return replace(super().write(window, mode=mode, fence=fence), lacking={})


# states and fences -----------------------------------------------------------------------------------------------------


class IgnoresTheToken(Broken):
    def changed(self, window):
        stored = self.states.load(window.key.source).get(window.key)
        return Changed(window, expected=stored.token if stored else None)


class DropsTheState(MemoryDestination):
    def write(self, window, *, mode, fence):
        receipt = super().write(window, mode=mode, fence=fence)
        del self._store.data.commits[window.key]
        return receipt


class IgnoresTheFence(MemoryDestination):
    def write(self, window, *, mode, fence):
        return super().write(window, mode=mode, fence=replace(fence, epoch=10**9))


class LooksAtFenceAndTokenFirst(MemoryDestination):
    """And not again when it commits."""

    def write(self, window, *, mode, fence):
        self._store.data.check(fence)
        if self.token(window.key) != window.expected:
            raise StateConflictError("another run has saved a state")

        def messages():
            yield from window
            changed.expected = self.token(window.key)

        changed = Changed(window, messages=messages)
        return super().write(changed, mode=mode, fence=replace(fence, epoch=10**9))

    def token(self, key):
        stored = self.states.load(key.source).get(key)
        return stored.token if stored else None


class IgnoresTheFenceWhenMigrating(MemoryDestination):
    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        return super().migrate(
            table, mode=mode, fence=replace(fence, epoch=10**9), apply=apply, ownership=ownership, replaces=replaces
        )


# deletes ---------------------------------------------------------------------------------------------------------------


class TakesThePresentPassForStale(Broken):
    def changed(self, window):
        return Changed(window, scope=replace(window.scope, sync_time_us=window.scope.sync_time_us + 1))


class DoesNotSayThatNothingIsLeft(Broken):
    def changed(self, window):
        changed = Changed(window)
        changed.emptied = lambda *_: None
        return changed


class TakesRowsOfAnyoneForEvidence(MemoryDestination):
    def holds(self, table, *, scope):
        stored = self._store.data.tables.get(table.name)
        return Held(stored is not None and bool(stored.rows))


class SweepsAsMuchAsItLikes(Broken):
    def changed(self, window):
        return Changed(window, scope=replace(window.scope, share_max=None))


class ForgetsTheScope(MemoryDestination):
    """Sweeps, truncates and deletes what is stale in every source and partition."""

    def everywhere(self, act):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fold_rows, "is_in", lambda _row, _scope: True)
            return act()

    def write(self, window, *, mode, fence):
        return self.everywhere(lambda: MemoryDestination.write(self, window, mode=mode, fence=fence))


class SweepsTheFirstKeysOnly(Broken):
    def changed(self, window):
        seen = set()

        def change(message):
            if isinstance(message, Present):
                if message.table in seen:
                    return None
                seen.add(message.table)
            return message

        return Changed(window, change)


# tables ----------------------------------------------------------------------------------------------------------------


class MigratesWhenAsked(MemoryDestination):
    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        return super().migrate(table, mode=mode, fence=fence, apply=True, ownership=ownership, replaces=replaces)


class MarksEveryTableAlike(MemoryDestination):
    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        found = super().migrate(table, mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces)
        return replace(found, mark=found.mark and "the one")


class CutsLongNames(MemoryDestination):
    """As PostgreSQL would, at 63 bytes."""

    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        return super().migrate(
            table.named(table.name[:63]), mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces
        )

    def write(self, window, *, mode, fence):
        tables = {name: table.named(table.name[:63]) for name, table in window.tables.items()}
        return super().write(Changed(window, tables=tables), mode=mode, fence=fence)

    def read(self, table, *, columns=None):
        return super().read(table.named(table.name[:63]), columns=columns)
