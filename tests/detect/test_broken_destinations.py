"""The destination suite finds what it is there to find: each broken destination fails the case that is named for it."""

import uuid

import broken_destinations as broken
import pyarrow as pa
import pytest

from strandline.connectors.memory.destination import MemoryDestination
from strandline.destination import WriteMode
from strandline.testing.destination import DestinationConformance
from strandline.testing.destination_fixtures import orders
from strandline.testing.windows import Lineage

SUITE = DestinationConformance
OVERWRITE, APPEND = WriteMode.OVERWRITE, WriteMode.APPEND

BREAKS = {
    broken.CollapsesEqualRows: ("P7", "rows of equal content are stored as one"),
    broken.NumbersEveryWindowFromZero: ("P7", "equal rows are numbered from zero in every window"),
    broken.NullsAbsentColumns: ("P31", "a column that a batch has not is set to null"),
    broken.KeepsTheFirstOfABatch: ("P33", "of several rows of a key in a batch the first is kept"),
    broken.KeepsTheLatestTimestamp: ("P9", "the last writer wins by a time in the row, not by the order of the stream"),
    broken.IgnoresTheVersionOrder: ("P9", "a row that comes late replaces a newer one"),
    broken.TakesStaleRowsForNewer: ("P14", "a row loses to one that is deleted as stale at the end of the pass"),
    broken.SkipsNullKeys: ("P33", "rows with a null in the primary key are skipped"),
    broken.IgnoresDeletes: ("P11", "deletes of the source are ignored"),
    broken.KeepsOldChildren: ("P11", "children that a parent has no more stay"),
    broken.ReplacesChildrenOnceAWindow: ("P9", "children are replaced whatever comes before in the stream"),
    broken.DeletesWhenAppending: ("P11", "a truncated source empties an appended table"),
    broken.StoresHalfOfAFailedStream: ("P7", "half of a stream that failed is stored"),
    broken.KeepsTheStageOfAFailure: ("P7", "what was staged before a failure is written with the next window"),
    broken.SwallowsARejectedBatch: ("P11", "a batch that is rejected is skipped"),
    broken.AcceptsNullKeys: ("P33", "a null is a key like others"),
    broken.KeepsBothRowsOfAKey: ("P33", "of several rows of a key in a batch all are kept"),
    broken.CountsKeys: ("P11", "a receipt counts keys, not rows"),
    broken.TrimsTooEarly: ("P5", "the delivered set is trimmed at the end of each window"),
    broken.RemembersAFailedWindow: ("P5", "the delivered set is not in the rows' transaction"),
    broken.LeavesTheHiddenTable: ("P29", "the hidden table of a full refresh is not dropped"),
    broken.LosesTheSignOfZero: ("P31", "minus zero becomes zero"),
    broken.ReadsAnotherType: ("P31", "a long text is read back in another type"),
    broken.ForgetsWhatItDelivered: ("P5", "what was delivered is not remembered"),
    broken.NeverForgets: ("P5", "the delivered set is never trimmed"),
    broken.ForgetsAtTheSwap: ("P5", "a full refresh ends without the delivered set that it made"),
    broken.RemembersADroppedTable: ("P5", "the delivered set outlives its table"),
    broken.ChangesColumnsBeforeTheSwap: (
        "P50",
        "a full refresh changes the columns of a table before its rows are there",
    ),
    broken.KeepsTheOldColumns: ("P31", "a full refresh leaves the types and the key of a table as they were"),
    broken.ChangesWhatOthersUse: ("P43", "a full refresh changes columns that hold rows of others"),
    broken.IgnoresTheToken: ("P17", "a window is committed whatever state is stored"),
    broken.DropsTheState: ("P7", "rows are committed without their state"),
    broken.IgnoresTheFence: ("P17", "the epoch is not compared when rows are written"),
    broken.LooksAtFenceAndTokenFirst: (
        "P17",
        "the epoch is compared before the rows are read, and not when they are committed",
    ),
    broken.IgnoresTheFenceWhenMigrating: ("P17", "the epoch is not compared when a table is changed"),
    broken.TakesThePresentPassForStale: ("P15", "rows of the present pass are taken for stale"),
    broken.DoesNotSayThatNothingIsLeft: ("P21", "a table that its source has emptied looks like one that was lost"),
    broken.TakesWhatIsThere: ("P43", "a table that somebody made is taken for ours"),
    broken.RegistersNobody: ("P43", "who writes a table is not registered"),
    broken.WritesWhatWasTakenOver: ("P43", "a run writes on into a table that another source has taken over"),
    broken.LeavesTheOldNameAlive: ("P43", "a source goes on from the cursor of a name that it had before"),
    broken.SweepsOneWay: ("P46", "keys of a sweep that are not stored are not told"),
    broken.TakesRowsOfAnyoneForEvidence: ("P49", "rows of another source are taken for rows of this one"),
    broken.SweepsAsMuchAsItLikes: ("P16", "a sweep of keys, or a delete by age, is not limited"),
    broken.ForgetsTheScope: ("P14", "rows of other partitions and sources are deleted"),
    broken.SweepsTheFirstKeysOnly: ("P11", "a sweep looks at the first batch of keys only"),
    broken.MigratesWhenAsked: ("P31", "asking what a table needs changes it"),
    broken.MarksEveryTableAlike: ("P21", "a table that was created again has the same mark"),
    broken.CutsLongNames: ("P37", "long names are cut, so that two tables are one"),
}

DETECTED = [
    (broken.CollapsesEqualRows, SUITE.test_equal_rows_are_numbered, {"mode": APPEND}),
    (broken.CollapsesEqualRows, SUITE.test_equal_rows_without_a_key_are_counted, {}),
    (broken.NumbersEveryWindowFromZero, SUITE.test_numbers_go_on_in_the_next_window_of_the_pass, {"mode": OVERWRITE}),
    (broken.NullsAbsentColumns, SUITE.test_an_absent_column_leaves_what_is_stored, {}),
    (broken.KeepsTheFirstOfABatch, SUITE.test_the_last_of_a_key_in_a_batch_wins, {"mode": OVERWRITE}),
    (broken.KeepsTheLatestTimestamp, SUITE.test_the_last_in_the_stream_wins_whatever_its_values_say, {}),
    (broken.IgnoresTheVersionOrder, SUITE.test_an_older_row_never_replaces_a_newer_one, {"kind": "int64"}),
    (
        broken.TakesStaleRowsForNewer,
        SUITE.test_after_a_pass_from_nothing_there_is_the_newest_of_what_it_delivered,
        {},
    ),
    (
        broken.TakesStaleRowsForNewer,
        SUITE.test_a_key_of_a_pass_from_nothing_is_not_lost_where_the_mode_changes,
        {},
    ),
    (broken.SkipsNullKeys, SUITE.test_a_null_in_the_primary_key_fails_the_window, {"mode": OVERWRITE}),
    (broken.SkipsNullKeys, SUITE.test_a_null_in_the_primary_key_fails_the_window, {"mode": APPEND}),
    (broken.IgnoresDeletes, SUITE.test_a_deleted_row_is_gone_and_a_missing_one_is_no_error, {}),
    (broken.KeepsOldChildren, SUITE.test_a_parent_without_children_has_none_left, {}),
    (broken.ReplacesChildrenOnceAWindow, SUITE.test_children_are_replaced_in_the_order_of_the_stream, {}),
    (broken.DeletesWhenAppending, SUITE.test_appending_ignores_what_is_gone, {}),
    (broken.StoresHalfOfAFailedStream, SUITE.test_a_stream_that_fails_midway_leaves_nothing, {}),
    (broken.KeepsTheStageOfAFailure, SUITE.test_a_stream_that_fails_midway_leaves_nothing, {}),
    (broken.SwallowsARejectedBatch, SUITE.test_a_null_in_the_primary_key_fails_the_window, {"mode": OVERWRITE}),
    (broken.AcceptsNullKeys, SUITE.test_a_null_in_the_primary_key_fails_the_window, {"mode": OVERWRITE}),
    (broken.KeepsBothRowsOfAKey, SUITE.test_the_last_of_a_key_in_a_batch_wins, {"mode": OVERWRITE}),
    (broken.CountsKeys, SUITE.test_the_receipt_counts_the_rows_that_were_taken, {}),
    (
        broken.TrimsTooEarly,
        SUITE.test_what_a_pass_did_not_read_again_is_forgotten_when_it_is_complete,
        {"table": orders(name=pa.string())},
    ),
    (
        broken.RemembersAFailedWindow,
        SUITE.test_a_window_that_failed_has_delivered_nothing,
        {"table": orders(name=pa.string())},
    ),
    (broken.LeavesTheHiddenTable, SUITE.test_the_table_stays_the_same_and_the_hidden_one_is_dropped, {}),
    (broken.LosesTheSignOfZero, SUITE.test_values_at_the_edges_of_a_type, {"name": "float64"}),
    (broken.ReadsAnotherType, SUITE.test_a_type_alone, {"name": "large_string"}),
    (
        broken.ForgetsWhatItDelivered,
        SUITE.test_a_row_that_is_read_again_is_stored_once,
        {"table": orders(name=pa.string())},
    ),
    (broken.NeverForgets, SUITE.test_there_and_back_are_three_versions, {"table": orders(name=pa.string())}),
    (broken.ForgetsAtTheSwap, SUITE.test_what_the_refresh_delivered_is_known_afterwards, {"unique": True}),
    (
        broken.RemembersADroppedTable,
        SUITE.test_a_table_that_is_created_again_has_been_delivered_nothing,
        {"table": orders(name=pa.string())},
    ),
    (broken.IgnoresTheToken, SUITE.test_a_stale_token_changes_nothing, {}),
    (broken.DropsTheState, SUITE.test_the_state_of_the_window_is_committed_with_the_rows, {"reopen": None}),
    (broken.IgnoresTheFence, SUITE.test_a_fenced_run_writes_nothing, {}),
    (broken.LooksAtFenceAndTokenFirst, SUITE.test_a_run_that_is_fenced_while_it_reads_writes_nothing, {}),
    (broken.LooksAtFenceAndTokenFirst, SUITE.test_a_state_that_changes_while_the_window_is_read_changes_nothing, {}),
    (broken.IgnoresTheFenceWhenMigrating, SUITE.test_a_fenced_run_changes_no_table, {}),
    (broken.TakesThePresentPassForStale, SUITE.test_only_rows_of_an_older_pass_are_stale, {}),
    (broken.SweepsAsMuchAsItLikes, SUITE.test_too_large_a_share_of_stale_rows_stays, {}),
    (
        broken.DoesNotSayThatNothingIsLeft,
        SUITE.test_whatever_removes_the_last_rows_says_so_before_the_state_is_kept,
        {},
    ),
    (
        broken.ChangesColumnsBeforeTheSwap,
        SUITE.test_a_column_takes_any_other_type_with_the_new_rows,
        {"mode": OVERWRITE, "change": "text to number"},
    ),
    (broken.KeepsTheOldColumns, SUITE.test_the_primary_key_becomes_another, {"mode": OVERWRITE}),
    (broken.ChangesWhatOthersUse, SUITE.test_rows_of_others_keep_their_columns, {"other": "partition"}),
    (broken.TakesWhatIsThere, SUITE.test_a_full_table_that_nobody_registered_is_not_touched, {}),
    (broken.RegistersNobody, SUITE.test_another_ones_table_is_not_touched, {"full": True}),
    (broken.WritesWhatWasTakenOver, SUITE.test_who_has_lost_a_table_to_another_one_writes_no_more_of_it, {}),
    (broken.LeavesTheOldNameAlive, SUITE.test_the_old_name_is_over, {}),
    (broken.SweepsOneWay, SUITE.test_keys_that_the_destination_lacks_are_told, {}),
    (broken.TakesRowsOfAnyoneForEvidence, SUITE.test_rows_of_one_scope_are_no_evidence_of_another, {}),
    (broken.SweepsAsMuchAsItLikes, SUITE.test_a_sweep_of_too_large_a_share_fails_the_window, {}),
    (broken.ForgetsTheScope, SUITE.test_a_sweep_leaves_other_partitions_and_sources_alone, {}),
    (broken.ForgetsTheScope, SUITE.test_children_of_other_partitions_sources_and_tables_are_left_alone, {}),
    (broken.ForgetsTheScope, SUITE.test_truncating_leaves_other_partitions_and_sources_alone, {}),
    (broken.ForgetsTheScope, SUITE.test_stale_rows_of_other_partitions_and_sources_stay, {}),
    (broken.ForgetsTheScope, SUITE.test_rows_of_other_partitions_and_sources_stay, {"mode": OVERWRITE}),
    (broken.SweepsTheFirstKeysOnly, SUITE.test_exactly_what_is_missing_is_removed, {}),
    (broken.MigratesWhenAsked, SUITE.test_asking_creates_nothing, {}),
    (broken.MarksEveryTableAlike, SUITE.test_another_primary_key_is_refused_or_the_table_created_again, {}),
    (
        broken.CutsLongNames,
        SUITE.test_names_that_look_alike_are_kept_apart_or_refused,
        {"names": ("x" * 99 + "y", "x" * 100)},
    ),
]


def run(cls, case, arguments) -> None:
    name = uuid.uuid4().hex
    spec = cls.Spec(name=name)
    if "reopen" in arguments:
        arguments = arguments | {"reopen": lambda: cls(spec)}
    try:
        case(SUITE(), lineage=Lineage(cls(spec)), **arguments)
    finally:
        cls.reset(name)


@pytest.mark.parametrize(
    ("cls", "case", "arguments"),
    [
        pytest.param(cls, case, arguments, marks=pytest.mark.detects(*BREAKS[cls], by=case.__name__))
        for cls, case, arguments in DETECTED
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_destination_fails_its_case(cls, case, arguments):
    run(MemoryDestination, case, arguments)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(cls, case, arguments)
