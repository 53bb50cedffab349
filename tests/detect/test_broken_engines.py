"""Engines that are broken on purpose, each as somebody might have written it: a check that the sound one passes notices."""

from dataclasses import replace

import checks
import pyarrow as pa
import pytest
import test_claims
import test_engine
import test_engine_borders
import test_ownership
import test_partitions
import test_plan
import test_table_rules
import test_window
from changed import Replayed
from checks import OVERWRITE, Broken, kills, syncs, the_test

import strandline.connectors.memory.source as memory_module
import strandline.engine.job as job_module
import strandline.engine.owners as owners_module
import strandline.engine.plan as plan_module
from strandline.destination import Held
from strandline.engine.acknowledgement import Acknowledgements
from strandline.engine.feed import Feed
from strandline.engine.into import Into
from strandline.engine.ledger import Ledger
from strandline.engine.lineage import Decorator
from strandline.engine.pipeline import Pipeline
from strandline.engine.project import Project
from strandline.engine.window import StreamWindow
from strandline.errors import RetryableError
from strandline.message import Insert
from strandline.runs import RunReport, Status
from strandline.table import CQ_ID

pytestmark = pytest.mark.crash

broken = Broken()

plain = syncs("keyed", OVERWRITE)
loose = syncs("keyed", OVERWRITE, loose=True)


# rows and cursor -------------------------------------------------------------------------------------------------------


def before_writing(patch, act):
    """Let something happen when a window was pulled, before the destination writes it."""
    deliver = Pipeline.deliver

    class Early:
        def __init__(self, inner, pipeline):
            self._inner, self._pipeline = inner, pipeline

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def write(self, window, *, mode, fence):
            pulled = Replayed(window)
            act(self._pipeline, pulled)
            return self._inner.write(pulled, mode=mode, fence=fence)

    def delivers(self, feed, following=None):
        sound = self.into
        self.into = replace(sound, destination=Early(sound.destination, self))
        try:
            return deliver(self, feed, following)
        finally:
            self.into = sound

    patch.setattr(Pipeline, "deliver", delivers)


@broken(
    "P17",
    "a lineage is not claimed before its first row",
    the_test(test_claims.test_once_a_row_is_written_no_earlier_run_saves, inner=checks.new_store),
)
def claims_nothing(patch):
    patch.setattr(Pipeline, "_claim", lambda _: None)


@broken(
    "P17",
    "what an earlier run saved last is held against the one that overtook it",
    the_test(
        test_claims.test_a_run_that_is_overtaken_before_its_first_row_cannot_hold_up_the_later_one,
        inner=checks.new_store,
    ),
)
def gives_way(patch):
    patch.setattr(Ledger, "claim", Ledger.save)


@broken("P2", "the state is saved before its rows", loose)
def saves_first(patch):
    save = Ledger.save
    before_writing(patch, lambda pipeline, window: pipeline.ledger.save(window.key, window.state))
    patch.setattr(
        Ledger, "save", lambda self, key, state: state if self.stored(key) is state else save(self, key, state)
    )


@broken("P1", "the mirror is written before the destination", plain)
def mirrors_first(patch):
    def mirror(pipeline, window):
        ledger, key = pipeline.ledger, window.key
        token = ledger._mirror.save(key, window.state, expected=ledger._mirror_tokens.get(key))
        ledger._mirror_tokens[key] = token

    before_writing(patch, mirror)


@broken("P2", "the source is told before the cursor is saved", plain)
def acknowledges_first(patch):
    before_writing(
        patch,
        lambda pipeline, window: window.checkpoint and pipeline.acknowledge(window.checkpoint),
    )


@broken(
    "P1",
    "of two states the newer one is believed, not the destination's",
    the_test(test_plan.test_a_restored_destination_is_believed_with_a_warning),
)
def believes_the_newer(patch):
    sound = plan_module._authoritative

    def authoritative(lineage, *, anew):
        stored, mirrored = lineage.stored, lineage.mirrored
        if stored and mirrored and mirrored.version > stored.version:
            return mirrored, ("the destination was restored",), True
        return sound(lineage, anew=anew)

    patch.setattr(plan_module, "_authoritative", authoritative)


@broken(
    "P2",
    "rows after the last checkpoint are committed",
    the_test(test_window.test_rows_without_a_checkpoint_after_them_are_never_committed),
)
def ends_anywhere(patch):
    patch.setattr(StreamWindow, "_end", lambda self: setattr(self, "ended", True))


@broken("P5", "a source reads > its cursor, not >=", plain)
def reads_greater(patch):
    sound = memory_module._by_key

    def by_key(table, rows, place, horizon):
        column, start = table.incremental_key[0], place.get("key") if place else None
        if start is not None:
            rows = [row for row in rows if row.values.get(column) is None or row.values[column] != start]
        return sound(table, rows, place, horizon)

    patch.setattr(memory_module, "_by_key", by_key)


@broken(
    "P5",
    "a first load goes on behind the rows that tie with its last one",
    kills("keyed", OVERWRITE, steps=(0,), share=0.15),
)
def skips_ties(patch):
    sound = memory_module._by_key

    def by_key(table, rows, place, horizon):
        if place and "after" in place:
            place = {**place, "after": [place["after"][0], 1 << 60]}
        return sound(table, rows, place, horizon)

    patch.setattr(memory_module, "_by_key", by_key)


@broken("P4", "the cursor moves past the horizon, as with a row dated in the future", plain)
def has_no_horizon(patch):
    sound = memory_module._by_key
    patch.setattr(memory_module, "_by_key", lambda table, rows, place, _: sound(table, rows, place, None))


@broken("P32", "rows without a key are skipped", plain)
def skips_nulls(patch):
    sound = memory_module._by_key

    def by_key(table, rows, place, horizon):
        column = table.incremental_key[0]
        return sound(table, [row for row in rows if row.values.get(column) is not None], place, horizon)

    patch.setattr(memory_module, "_by_key", by_key)


@broken("P7", "rows of equal content get one id", kills("bare", OVERWRITE, share=0.05))
def collapses_equal_rows(patch):
    sound = Decorator.insert

    def insert(self, message):
        out = sound(self, message)
        if out.version is None or self.stored[out.table].primary_key != (CQ_ID,):
            return out
        ids = pa.ExtensionArray.from_storage(pa.uuid(), out.version)
        return Insert(out.table, out.batch.append_column(CQ_ID, ids), out.reread)

    patch.setattr(Decorator, "insert", insert)


@broken("P10", "a lost reply is taken for a lost commit, and the window written again", checks.lost_replies)
def writes_again(patch):
    def resolve(self, key, state, unknown):
        found = self._authority.load(self.source).get(key)
        self._tokens[key] = found.token if found else None
        raise RetryableError("no reply") from unknown

    patch.setattr(Ledger, "resolve", resolve)


@broken("P10", "a lost commit is taken for a lost reply", checks.lost_commit)
def believes_it_was_committed(patch):
    def resolve(self, key, state, unknown):
        return replace(state, token=self._authority.load(self.source)[key].token)

    patch.setattr(Ledger, "resolve", resolve)


@broken("P11", "the destination's count of rows is ignored", checks.dropped_row)
def ignores_receipts(patch):
    sound = Pipeline._account
    patch.setattr(
        Pipeline,
        "_account",
        lambda self, window, receipt: sound(self, window, replace(receipt, rows=dict(window.counts.rows))),
    )


@broken("P31", "columns that the table does not have are left out", checks.a_strange_column)
def leaves_columns_out(patch):
    sound = Decorator.insert

    def insert(self, message):
        known = [name for name in message.batch.schema.names if name in self.tables[message.table].schema.names]
        return sound(self, replace(message, batch=message.batch.select(known)))

    patch.setattr(Decorator, "insert", insert)


@broken("P39", "batches of a plugin are cast to what their table says", checks.a_strange_type)
def casts(patch):
    sound = Decorator.insert

    def insert(self, message):
        fields = [self.tables[message.table].schema.field(name) for name in message.batch.schema.names]
        columns = [column.cast(one.type, safe=False) for column, one in zip(message.batch, fields, strict=True)]
        return sound(self, replace(message, batch=pa.record_batch(columns, schema=pa.schema(fields))))

    patch.setattr(Decorator, "insert", insert)


# the borders ---------------------------------------------------------------------------------------------------------


@broken(
    "P1",
    "rows after a Schema are made to fit the table before it",
    the_test(
        test_engine_borders.test_a_column_that_first_appears_in_mid_stream_is_stored,
        store=checks.new_store,
        rows_max=lambda: 1000,
    ),
)
def decorates_too_late(patch):
    patch.setattr(Decorator, "change", lambda self, table, stored: None)


@broken(
    "P1",
    "a source is told what one of its destinations has saved",
    the_test(
        test_engine_borders.test_a_queue_keeps_what_a_destination_that_is_down_has_not_stored,
        store=checks.new_store,
        request=checks.new_request,
    ),
)
def acknowledges_each(patch):
    sound = Acknowledgements.__init__

    def init(self, source, destinations):
        sound(self, source, ())

    patch.setattr(Acknowledgements, "__init__", init)


@broken(
    "P44",
    "a task that cannot be read is left out",
    the_test(
        test_partitions.test_an_account_that_cannot_be_read_fails_alone_and_keeps_its_rows_and_its_state,
        store=checks.new_store,
        mode=lambda: OVERWRITE,
    ),
)
def leaves_out_what_fails(patch):
    sound = job_module._offer
    patch.setattr(job_module, "_offer", lambda job: replace(sound(job), failed=()))


@broken(
    "P49",
    "rows without a state are a first sync",
    the_test(
        test_engine_borders.test_a_state_that_was_lost_beside_full_tables_is_no_first_sync,
        store=checks.new_store,
        mode=lambda: OVERWRITE,
    ),
)
def takes_no_evidence(patch):
    patch.setattr(Into, "holds", lambda self, table, task, key: Held(rows=False))


@broken(
    "P46",
    "keys that only the source has are ignored",
    the_test(
        test_engine_borders.test_rows_that_a_sweep_shows_to_be_missing_are_read_by_their_keys,
        store=checks.new_store,
        own=lambda: True,
    ),
)
def sweeps_one_way(patch):
    patch.setattr(Pipeline, "_fetch", lambda self, table, places: None)


@broken(
    "P43",
    "nobody asks whose a table is before the first is written",
    the_test(
        test_ownership.test_full_tables_of_others_are_refused_before_anything_is_touched,
        store=checks.new_store,
        mode=lambda: OVERWRITE,
        refresh=lambda: False,
    ),
)
def asks_nobody(patch):
    patch.setattr(owners_module, "refusal", lambda *_, **__: None)


@broken(
    "P43",
    "a source with a new name is a first sync into its own full table",
    the_test(
        test_ownership.test_another_name_is_no_first_sync,
        store=checks.new_store,
        mode=lambda: OVERWRITE,
        outside=lambda: False,
        what=lambda: "source",
    ),
)
def knows_no_former_name(patch):
    patch.setattr(owners_module, "_former", lambda *_: None)


@broken(
    "P43",
    "two projects of equal names are one",
    the_test(test_ownership.test_two_projects_of_equal_names_do_not_write_one_table, store=checks.new_store),
)
def knows_no_project(patch):
    patch.setattr(Project, "is_same", lambda self, other: True)


@broken(
    "P22",
    "a cursor does not know which columns were chosen",
    the_test(test_table_rules.test_other_columns_of_an_incremental_table_need_a_full_refresh, store=checks.new_store),
)
def knows_no_columns(patch):
    patch.setattr("strandline.engine.job.selecting", lambda table, columns: table)


@broken(
    "P49",
    "a table that has another name is taken for one that was never there",
    the_test(
        test_table_rules.test_another_name_is_neither_a_first_sync_nor_goes_into_another_table,
        store=checks.new_store,
        incremental=lambda: False,
    ),
)
def begins_under_another_name(patch):
    patch.setattr("strandline.engine.plan._check_tables", lambda lineage, stored: None)


# the process -----------------------------------------------------------------------------------------------------------


@broken(
    "P28",
    "the exit code is 0 when some table was completed",
    the_test(test_engine.test_a_failed_table_leaves_the_others_alone, store=checks.new_store),
)
def exits_with_0(patch):
    def exit_code(self):
        return 0 if any(task.status is Status.COMPLETED for task in self.tasks) else 1

    patch.setattr(RunReport, "exit_code", property(exit_code))


@broken(
    "P25",
    "a signal cuts a window between two checkpoints",
    the_test(test_window.test_a_stop_ends_the_window_at_the_next_checkpoint),
)
def stops_anywhere(patch):
    sound = StreamWindow.__iter__

    def messages(self):
        for message in sound(self):
            yield message
            if self._stop.requested:
                break
        self.exhausted = True

    patch.setattr(StreamWindow, "__iter__", messages)


@broken("P26", "the reader does not wait for a slow destination", checks.greedy_reader)
def reads_on(patch):
    sound = Feed.__init__
    patch.setattr(
        Feed, "__init__", lambda self, messages, *, bytes_max, name: sound(self, messages, bytes_max=1 << 60, name=name)
    )


@broken("P27", "a source that hangs is waited for, for ever", checks.silent_source)
def waits_for_ever(patch):
    patch.setattr(StreamWindow, "_check_stall", lambda self: None)


@pytest.mark.parametrize(("check", "breaks"), broken)
def test_a_broken_engine_is_noticed(check, breaks, monkeypatch):
    assert check.passes()
    breaks(monkeypatch)
    assert check.findings()
