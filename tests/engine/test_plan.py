"""Who is right when two states differ, and from where a task goes on."""

from dataclasses import replace

import pyarrow as pa
import pytest

from strandline.destination import Migration, WriteMode
from strandline.engine.plan import Lineage, basis, fingerprint, hidden_name, next_pass, open_lineage
from strandline.errors import StateError
from strandline.state import Pass, Phase, State, StateKey, TableState
from strandline.table import Table

KEY = StateKey("shop", "orders", "warehouse")
TABLE = Table("orders", pa.schema({"id": pa.int64(), "at": pa.string()}), ("id",), ("at",), incremental=True)
NOW = 1_000_000
THERE = Migration((), "mark", empty=False)


def state(epoch=1, sequence=1, *, cursor=None, rows=10, phase=Phase.DONE, mode=WriteMode.OVERWRITE, at=500):
    known = {"orders": TableState(fingerprint(TABLE, mode), "mark", rows)}
    return State(
        {"at": "x"} if cursor is None else cursor, epoch, sequence, "run", Pass(at, full=True, phase=phase), known
    )


def found(stored, mirrored=None, *, mirrors=True, there=THERE, table=TABLE, mode=WriteMode.OVERWRITE):
    return Lineage(KEY, (table,), mode, stored, mirrored, mirrors, {table.name: there})


def test_nothing_anywhere_is_a_first_sync():
    opening = open_lineage(found(None), now_us=NOW)
    assert opening.cursor is None
    assert opening.current == Pass(NOW, full=True)
    assert not opening.fix


def test_equal_states_go_on_from_the_cursor_in_a_new_pass():
    stored = state()
    opening = open_lineage(found(stored, stored), now_us=NOW)
    assert opening.cursor == {"at": "x"}
    assert opening.current == Pass(NOW, full=False)
    assert not opening.fix
    assert not opening.resumed


def test_a_mirror_that_is_behind_is_fixed():
    opening = open_lineage(found(state(1, 2), state(1, 1)), now_us=NOW)
    assert opening.fix
    assert opening.cursor == {"at": "x"}
    assert not opening.warnings


def test_a_mirror_that_is_lost_is_written_again():
    assert open_lineage(found(state()), now_us=NOW).fix


def test_a_restored_destination_is_believed_with_a_warning():
    opening = open_lineage(found(state(1, 1), state(1, 2, cursor={"at": "y"})), now_us=NOW)
    assert opening.cursor == {"at": "x"}
    assert "restored" in opening.warnings[0]
    assert opening.fix


def test_a_destination_that_knows_nothing_of_delivered_rows_stops_the_run():
    with pytest.raises(StateError, match="dropped, emptied or exchanged") as caught:
        open_lineage(found(None, state()), now_us=NOW)
    assert "--full-refresh" in caught.value.hint


def test_a_mirror_of_a_first_sync_that_never_wrote_is_no_contradiction():
    opening = open_lineage(found(None, replace(state(rows=0), cursor=None, epoch=7)), now_us=NOW)
    assert opening.cursor is None
    assert opening.state is not None
    assert opening.state.epoch == 7


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (Migration((), None, empty=True), "gone"),
        (Migration((), "mark", empty=True), "has none of them"),
        (Migration((), "another", empty=False), "created again"),
    ],
)
@pytest.mark.parametrize("mirrors", [True, False])
def test_a_table_that_lost_its_rows_stops_the_run(there, says, mirrors):
    stored = state()
    with pytest.raises(StateError, match=says):
        open_lineage(found(stored, stored if mirrors else None, mirrors=mirrors, there=there), now_us=NOW)


def test_a_full_refresh_goes_past_every_contradiction():
    gone = Migration((), None, empty=True)
    assert open_lineage(found(state(), state(), there=gone), now_us=NOW, anew=True)
    assert open_lineage(found(None, state(), there=gone), now_us=NOW, anew=True).cursor is None


def test_an_empty_table_that_never_had_rows_is_fine():
    stored = state(rows=0)
    assert open_lineage(found(stored, stored, there=Migration((), "mark", empty=True)), now_us=NOW).cursor


@pytest.mark.parametrize(
    "table",
    [
        replace(TABLE, primary_key=("id", "at")),
        replace(TABLE, incremental_key=("id",)),
        replace(TABLE, schema=pa.schema({"id": pa.int64(), "at": pa.timestamp("us")})),
        replace(TABLE, selection="where x"),
    ],
)
def test_a_cursor_made_for_another_key_type_or_filter_is_refused(table):
    with pytest.raises(StateError, match="filter"):
        open_lineage(found(state(), state(), table=table), now_us=NOW)


@pytest.mark.parametrize(
    ("table", "mode", "says"),
    [
        (
            replace(TABLE, incremental_key=("id",)),
            WriteMode.OVERWRITE,
            r"incremental_key was at \(.*\) when the cursor was made, and is id \(int64\);",
        ),
        (replace(TABLE, selection='{"where": "x"}'), WriteMode.OVERWRITE, "where was none when .*, and is x;"),
        (TABLE, WriteMode.APPEND, "write_mode was overwrite when .*, and is append;"),
    ],
)
def test_the_setting_that_no_longer_fits_a_cursor_is_named_with_its_old_and_new_value(table, mode, says):
    stored = state()
    known = replace(stored.tables["orders"], basis=basis(TABLE, WriteMode.OVERWRITE))
    stored = replace(stored, tables={"orders": known})
    with pytest.raises(StateError, match=says):
        open_lineage(found(stored, stored, table=table, mode=mode), now_us=NOW)


def test_a_new_column_does_not_matter_to_a_cursor():
    wider = replace(TABLE, schema=TABLE.schema.append(pa.field("more", pa.int64())))
    stored = state()
    assert open_lineage(found(stored, stored, table=wider), now_us=NOW).cursor == {"at": "x"}


def test_appending_and_overwriting_are_not_mixed_in_one_table():
    appended, over = state(mode=WriteMode.APPEND), state()
    with pytest.raises(StateError, match="write mode"):
        open_lineage(found(appended, appended), now_us=NOW)
    with pytest.raises(StateError, match="write mode"):
        open_lineage(found(over, over, mode=WriteMode.APPEND), now_us=NOW)
    assert open_lineage(found(over, over, mode=WriteMode.OVERWRITE_DELETE_STALE), now_us=NOW).cursor


def test_an_interrupted_pass_goes_on_with_its_own_sync_time():
    stored = state(phase=Phase.READING, at=123)
    opening = open_lineage(found(stored, stored), now_us=NOW)
    assert opening.resumed
    assert opening.current.sync_time_us == 123
    assert opening.cursor == {"at": "x"}


def test_a_pass_that_has_read_everything_still_has_its_stale_rows_to_delete():
    stored = state(phase=Phase.READ, at=123)
    opening = open_lineage(found(stored, stored), now_us=NOW)
    assert opening.sweep is not None
    assert opening.sweep.sync_time_us == 123
    assert opening.current.sync_time_us == NOW


def test_a_clock_that_went_backwards_changes_nothing():
    stored = state(at=NOW + 5)
    assert open_lineage(found(stored, stored), now_us=NOW).current.sync_time_us == NOW + 6


def test_without_a_backend_everything_is_read_in_a_new_pass():
    stored = state(phase=Phase.READING)
    opening = open_lineage(found(stored, None), now_us=NOW, stateless=True)
    assert opening.cursor is None
    assert opening.current == Pass(NOW, full=True)


def test_a_table_read_in_full_may_change_its_primary_key_between_passes():
    plain = replace(TABLE, incremental=False, incremental_key=())
    other = replace(plain, primary_key=("at",))
    stored = replace(state(), cursor=None, tables={"orders": TableState(plain.fingerprint, "mark", 3)})
    opening = open_lineage(found(stored, stored, table=other), now_us=NOW)
    assert opening.cursor is None
    assert opening.current.full


def test_every_refresh_has_a_hidden_table_of_its_own():
    names = {
        hidden_name(KEY, "orders", Pass(1, full=True)),
        hidden_name(KEY, "orders", Pass(2, full=True)),
        hidden_name(KEY, "other", Pass(1, full=True)),
        hidden_name(replace(KEY, source="b"), "orders", Pass(1, full=True)),
    }
    assert len(names) == 4
    assert next_pass(None, 5, full=True).sync_time_us == 5
