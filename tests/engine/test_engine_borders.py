"""What the engine does at the borders: tables that change while they are read, cursors that JSON changes, and the like."""

from dataclasses import replace

import pyarrow as pa
import pytest
from test_engine import Numbers, backend, destination, ids, job

from strandline.destination import Delivery, WriteMode
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.errors import RetryableError, StateConflictError, StateError, TaskError
from strandline.message import Checkpoint, Complete, Insert, Present, Schema
from strandline.plugins import load_plugin
from strandline.runs import Status
from strandline.state import StateKey
from strandline.table import Table


@pytest.fixture
def store(request):
    return destination(request.node.nodeid)


class Growing(Numbers):
    """After its first row, the table has one more column, and again after the second."""

    def read(self, task, reading):
        cursor = reading.cursor
        table, start = task.tables[0], 0 if cursor is None else cursor["next"]
        for number in range(start, self.count):
            fields = {"id": pa.int64()} | {f"new{n}": pa.string() for n in range(number)}
            schema = pa.schema(fields)
            if number:
                yield Schema(Table(table.name, schema, ("id",), ("id",), incremental=True))
            row = {"id": number} | dict.fromkeys(list(fields)[1:], "x")
            yield Insert(table.name, pa.RecordBatch.from_pylist([row], schema))
            yield Checkpoint({"next": number + 1})
        yield Complete(table.name)
        yield Checkpoint({"next": self.count})


@pytest.mark.parametrize("rows_max", [1, 2, 1000])
def test_a_column_that_first_appears_in_mid_stream_is_stored(store, rows_max):
    report = sync(job(Growing("a", count=4), store, rows_max=rows_max))
    assert report.tasks[0].error is None
    fields = {"id": pa.int64(), "new0": pa.string(), "new2": pa.string()}
    rows = [row for batch in store.read(Table("a", pa.schema(fields), ("id",))) for row in batch.to_pylist()]
    assert sorted((row["id"], row["new0"], row["new2"]) for row in rows) == [
        (0, None, None),
        (1, "x", None),
        (2, "x", None),
        (3, "x", "x"),
    ]


class Strange(Numbers):
    """Its cursors are not what JSON gives back."""

    cursor = None

    def read(self, task, reading):
        for message in super().read(task, reading):
            yield Checkpoint(self.cursor) if isinstance(message, Checkpoint) and message.cursor["next"] > 4 else message


@pytest.mark.parametrize("cursor", [{"at": (1, 2)}, {1: 2}, {"at": float("nan")}, {"at": {1}}, {"at": b""}], ids=repr)
def test_a_cursor_that_json_changes_fails_before_a_row_of_its_window_is_durable(store, cursor):
    source = Strange("a")
    source.cursor = cursor
    report = sync(job(source, store))
    assert report.exit_code == 1
    assert "JSON" in report.tasks[0].error.message
    assert ids(store) == [0, 1, 2, 3]
    assert report.tasks[0].cursor_to == {"next": 4}


def refusing(name):
    """A destination that is down."""
    store = destination(name)

    def write(window, **_):
        raise TaskError("this destination is down")

    store.write = write
    return store


def test_a_queue_keeps_what_a_destination_that_is_down_has_not_stored(store, request):
    source, kept = Numbers("a"), backend()
    down = refusing(f"{request.node.nodeid} down")
    assert sync(job(source, store, down, backend=kept)).exit_code == 1
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    assert source.acknowledged == []
    del down.write
    assert sync(job(source, store, down, backend=kept)).exit_code == 0
    assert source.acknowledged[0] == ("a", {"d0": 6, "d1": 2})
    assert source.acknowledged[-1] == ("a", {"d0": 6, "d1": 6})


def test_a_source_hears_of_cursors_of_earlier_runs_too(store, request):
    source, kept, other = Numbers("a"), backend(), destination(f"{request.node.nodeid} other")
    sync(job(source, store, other, backend=kept))
    source.acknowledged.clear()
    source.count = 7
    sync(job(source, store, other, backend=kept))
    assert {"d0", "d1"} == set(source.acknowledged[0][1])


def test_a_full_refresh_that_may_still_be_given_up_acknowledges_nothing(store):
    source, kept = Numbers("a"), backend()
    sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
    source.acknowledged.clear()
    source.count, source.trouble = 9, lambda _, number: number < 8 or stop()
    report = sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE, refresh=lambda _: True))
    assert (report.exit_code, source.acknowledged) == (1, [])
    source.trouble = lambda *_: None
    assert sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE)).exit_code == 0
    assert source.acknowledged == [("a", {"d0": 9})]


def stop():
    raise TaskError("no more")


class Watched:
    """Notes the id of every window that its destination is handed, and can lose one."""

    def __init__(self, inner, lose=()):
        self.inner, self.lose, self.seen = inner, list(lose), []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def write(self, window, *, mode, fence):
        self.seen.append(window.id)
        if len(self.seen) in self.lose:
            raise RetryableError("the line dropped")
        return self.inner.write(window, mode=mode, fence=fence)


def test_a_window_that_begins_again_from_the_same_cursor_has_the_same_id_and_no_other_has(store):
    watched, kept = Watched(store, lose=[2, 3]), backend()
    source = Numbers("a", trouble=lambda _, number: number < 4 or stop())
    assert sync(job(source, watched, backend=kept)).exit_code == 1
    first, second, second_again, third_time = watched.seen
    assert second == second_again == third_time != first
    watched.seen.clear()
    watched.lose.clear()
    source.trouble = lambda *_: None
    assert sync(job(source, watched, backend=kept)).exit_code == 0  # it goes on in the same pass
    assert len({first, second, *watched.seen}) == 2 + len(watched.seen)


class Killed(Watched):
    """Stores what it is handed; the windows of ``lose`` are the last that its process does."""

    def write(self, window, *, mode, fence):
        self.seen.append(window.id)
        receipt = self.inner.write(window, mode=mode, fence=fence)
        if len(self.seen) in self.lose:
            raise TaskError("killed before the state was saved")
        return receipt


@pytest.mark.parametrize("incremental", [True, False], ids=["by key", "in full"])
def test_a_window_whose_state_was_not_saved_has_the_same_id_in_the_next_run(store, incremental):
    watched, kept, source = Killed(Plain(store)), backend(), Numbers("a", incremental=incremental)
    assert sync(job(source, watched, backend=kept)).exit_code == 0
    before, source.count, watched.lose = set(watched.seen), 8, [len(watched.seen) + 1]
    assert sync(job(source, watched, backend=kept)).exit_code == 1
    killed = watched.seen[-1]
    assert sync(job(source, watched, backend=kept)).exit_code == 0
    assert watched.seen.count(killed) == 2
    assert killed not in before


def test_a_destination_that_cannot_delete_is_not_asked_to_mirror(store):
    store.capabilities = replace(store.capabilities, deletes=False)
    report = sync(job(Numbers("a"), store, mode=WriteMode.OVERWRITE_DELETE_STALE))
    assert report.exit_code == 2
    assert "write_mode: overwrite" in report.error.hint


def damage(kept, task, destination="d0"):
    """As a careless hand would: the state is no state any more."""
    key = StateKey("numbers", task, destination)
    kept._commits[key] = ((kept._commits[key][0][0], "{}"), *kept._commits[key][1:])


@pytest.mark.parametrize("own", [True, False], ids=["mirror", "only states"])
def test_a_state_that_cannot_be_trusted_stops_its_table_and_no_other(store, own):
    kept, source = backend(), Numbers("a", "b")
    store = store if own else Plain(store)
    assert sync(job(source, store, backend=kept)).exit_code == 0
    damage(kept, "a")
    source.count = 8
    report = sync(job(source, store, backend=kept))
    assert report.exit_code == 3
    a, b = report.tasks
    assert isinstance(a.error, StateError)
    assert "--full-refresh 'a'" in a.error.hint
    assert b.status is Status.COMPLETED
    assert (len(ids(store, "a")), ids(store, "b")) == (6, [0, 1, 2, 3, 4, 5, 6, 7])
    again = sync(job(source, store, backend=kept, refresh=lambda task: task.id == "a"))
    assert again.exit_code == 0
    assert ids(store, "a") == ids(store, "b")
    assert sync(job(source, store, backend=kept)).exit_code == 0


def test_a_damaged_mirror_need_only_be_taken_away(store):
    kept, source = backend(), Numbers("a")
    assert sync(job(source, store, backend=kept)).exit_code == 0
    damage(kept, "a")
    report = sync(job(source, store, backend=kept))
    assert report.exit_code == 3
    assert "take this one out of the backend" in report.tasks[0].error.hint
    del kept._commits[StateKey("numbers", "a", "d0")]
    source.count = 8
    report = sync(job(source, store, backend=kept))
    assert (report.exit_code, report.tasks[0].cursor_from) == (0, {"next": 6})
    assert kept.load("numbers")[StateKey("numbers", "a", "d0")].cursor == {"next": 8}
    assert ids(store) == list(range(8))


def test_a_damaged_full_refresh_is_not_forgotten(store):
    kept, source = backend(), Numbers("a", "b")
    sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
    source.trouble = lambda table, number: table == "b" or number < 3 or stop()
    sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE, refresh=lambda task: task.id == "a"))
    damage(kept, "@refresh/a")
    source.trouble = lambda *_: None
    report = sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
    assert [report.exit_code, *(task.status for task in report.tasks)] == [3, Status.FAILED, Status.COMPLETED]
    assert (
        sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE, refresh=lambda task: task.id == "a")).exit_code
        == 0
    )


def test_a_fence_that_cannot_be_trusted_stops_its_destination_and_no_other(store, request):
    kept, source, other = backend(), Numbers("a"), destination(f"{request.node.nodeid} other")
    assert sync(job(source, store, other, backend=kept)).exit_code == 0
    damage(kept, "@run", "d1")
    source.count = 8
    report = sync(job(source, store, other, backend=kept))
    assert [report.exit_code, *(task.status for task in report.tasks)] == [3, Status.COMPLETED, Status.FAILED]
    assert (len(ids(store)), len(ids(other))) == (8, 6)


class Plain:
    """A destination that keeps no states: another one, of which nobody sees them."""

    def __init__(self, inner):
        self.inner, self.capabilities = inner, replace(inner.capabilities, delivery=Delivery.PLAIN)

    def __getattr__(self, name):
        if name == "states":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def write(self, window, *, mode, fence):
        kept = self.inner.states.load(window.key.source).get(window.key)
        window.expected = kept.token if kept else None
        receipt = self.inner.write(window, mode=mode, fence=replace(fence, epoch=10**9))
        return replace(receipt, state=None)


@pytest.mark.parametrize("mode", WriteMode)
def test_a_state_that_was_lost_beside_full_tables_is_no_first_sync(store, mode):
    store, source = Plain(store), Numbers("a")
    assert sync(job(source, store, mode=mode)).exit_code == 0
    source.count = 8
    lost = backend()
    assert "--full-refresh 'a'" in plan(job(source, store, mode=mode, backend=lost))[0].hint
    report = sync(job(source, store, mode=mode, backend=lost))
    assert report.exit_code == 3
    assert isinstance(report.tasks[0].error, StateError)
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    assert sync(job(source, store, mode=mode, backend=lost, refresh=lambda _: True)).exit_code == 0
    assert sync(job(source, store, mode=mode, backend=lost)).exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_first_sync_that_was_killed_after_its_first_rows_goes_on(store):
    """Rows are durable before their cursor, where a destination keeps no states."""
    kept, store, source = backend(), Plain(store), Numbers("a")
    sound, saves = kept.save, []

    def save(key, state, *, expected):
        if state.cursor and key.task == "a":
            saves.append(state)
            raise RuntimeError("killed")
        return sound(key, state, expected=expected)

    kept.save = save
    assert sync(job(source, store, backend=kept)).exit_code == 70
    assert ids(store) == [0, 1]
    kept.save = sound
    assert sync(job(source, store, backend=kept)).exit_code == 0
    assert ids(store) == [0, 0, 1, 1, 2, 3, 4, 5]  # of one window twice, as is said


def test_without_a_state_backend_rows_are_no_sign_of_a_lost_state(store):
    none = load_plugin("state_backend", "none")
    store, source = Plain(store), Numbers("a")
    for _ in range(2):
        assert (
            sync(job(source, store, mode=WriteMode.OVERWRITE, backend=none(none.Spec()), stateless=True)).exit_code == 0
        )
    assert ids(store) == [0, 1, 2, 3, 4, 5]


class Epochs(Plain):
    """It remembers the epoch with the rows, and takes nothing older."""

    def __init__(self, inner):
        super().__init__(inner)
        self.capabilities, self.epoch = replace(inner.capabilities, delivery=Delivery.IDEMPOTENT), 0

    def holds(self, table, *, scope):
        return replace(self.inner.holds(table, scope=scope), epoch=self.epoch)

    def write(self, window, *, mode, fence):
        if fence.epoch < self.epoch:
            raise StateConflictError("a later run has written here")
        self.epoch = fence.epoch
        return super().write(window, mode=mode, fence=fence)


def test_an_epoch_that_only_the_destination_remembers_is_not_taken_for_another_run(store):
    store, source = Epochs(store), Numbers("a")
    kept = backend()
    for _ in range(3):
        sync(job(source, store, backend=kept))
    report = sync(job(source, store, backend=backend(), refresh=lambda _: True))
    assert report.exit_code == 0, report
    assert ids(store) == [0, 1, 2, 3, 4, 5]


class Swept(Numbers):
    """Every sync sends what is new, and all keys. Rows whose numbers are in `late` appear below the cursor."""

    def __init__(self, *names, **more):
        super().__init__(*names, **more)
        self.late, self.asked = [], []

    def read(self, task, reading):
        (table,) = task.tables
        for message in super().read(task, reading):
            if isinstance(message, Complete):
                for some in (range(self.count), self.late):
                    yield Present(table.name, pa.record_batch({"id": pa.array(some, pa.int64())}))
            yield message

    def read_keys(self, task, table, keys, reading):
        self.asked += keys["id"].to_pylist()
        yield Insert(table, pa.record_batch({"id": keys["id"]}))


@pytest.mark.parametrize("own", [True, False], ids=["keeps states", "plain"])
def test_rows_that_a_sweep_shows_to_be_missing_are_read_by_their_keys(store, own):
    store, kept, source = store if own else Plain(store), backend(), Swept("a")
    assert sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept)).exit_code == 0
    assert source.asked == []
    source.late = [101, 102, 103]
    report = sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept))
    assert (report.exit_code, source.asked) == (0, [101, 102, 103])
    assert ids(store) == [0, 1, 2, 3, 4, 5, 101, 102, 103]
    assert (report.tasks[0].rows_written, report.tasks[0].cursor_to) == (3, {"next": 6})
    assert "3 rows" in report.tasks[0].warnings[0]
    source.asked.clear()
    assert sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept)).exit_code == 0
    assert source.asked == []


class SweptOnly(Swept):
    read_keys = None


def test_a_source_that_cannot_look_rows_up_fails_where_some_are_missing(store):
    source, kept = SweptOnly("a"), backend()
    assert sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept)).exit_code == 0
    source.late = [101]
    for _ in range(2):
        report = sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept))
        assert report.exit_code == 1
        assert "1 rows" in report.tasks[0].error.message
        assert "--full-refresh 'a'" in report.tasks[0].error.hint


def test_more_missing_rows_than_are_read_at_once_are_not_passed_over(store, monkeypatch):
    for module in ("strandline.fold.window", "strandline.engine.pipeline"):
        monkeypatch.setattr(f"{module}.LACKING_MAX", 2)
    source, kept = Swept("a"), backend()
    assert sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept)).exit_code == 0
    source.late = [101, 102, 103]
    assert sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept)).exit_code == 1
    assert sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept)).exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5, 101, 102, 103]


def forbid(source, name):
    """The role may not read a table any more."""
    no = TaskError(f"the role may not read {name}", hint=f"GRANT SELECT ON {name} TO reader")
    source.offered = [replace(one, unreadable=no) if one.name == name else one for one in source.offered]


def test_a_table_that_the_role_may_not_read_is_named(store):
    source = Numbers("a", "b")
    forbid(source, "b")
    one = job(source, store)
    (shown,) = [planned for planned in plan(one) if planned.tables == ("b",)]
    assert (shown.exit_code, "GRANT" in shown.problem) == (0, True)
    report = sync(one)
    assert (report.exit_code, [task.task for task in report.tasks]) == (0, ["a"])
    assert "'b' is left out" in report.warnings[0]
    assert "GRANT SELECT ON b" in report.warnings[0]


def test_a_table_that_is_never_left_out_fails_though_only_a_glob_asks_for_it(store):
    source = Numbers("a", "b")
    forbid(source, "b")
    source.offered = [replace(one, never_left_out=True) for one in source.offered]
    report = sync(job(source, store))
    assert (report.exit_code, [task.task for task in report.tasks]) == (1, ["a", "b"])


def test_a_table_that_was_asked_for_by_name_and_may_not_be_read_fails(store):
    source = Numbers("a", "b")
    forbid(source, "b")
    one = job(source, store, names=lambda table: table.name == "b")
    assert [planned.exit_code for planned in plan(one)] == [0, 1]
    report = sync(one)
    assert (report.exit_code, report.tasks[1].error.hint) == (1, "GRANT SELECT ON b TO reader")


def test_a_table_that_was_read_once_and_may_not_be_read_any_more_fails(store):
    source, kept = Numbers("a", "b"), backend()
    assert sync(job(source, store, backend=kept)).exit_code == 0
    forbid(source, "b")
    for _ in range(2):
        report = sync(job(source, store, backend=kept))
        assert (report.exit_code, report.warnings) == (1, [])
        assert [(task.task, task.status) for task in report.tasks] == [("a", Status.COMPLETED), ("b", Status.FAILED)]
        assert report.tasks[1].cursor_to == {"next": 6}
    assert [planned.exit_code for planned in plan(job(source, store, backend=kept))] == [0, 1]


def widen(source, name):
    """The source's table has one more column from now on."""
    more = pa.schema({"id": pa.int64(), "more": pa.string()})
    source.offered = [replace(one, schema=more) if one.name == name else one for one in source.offered]


def test_a_new_column_without_values_is_said_until_the_table_was_read_again(store):
    source, kept = Numbers("a"), backend()
    sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
    widen(source, "a")
    for _ in range(3):
        (shown,) = plan(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
        assert "no value in more" in shown.warnings[0]
        report = sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
        assert "no value in more" in report.tasks[0].warnings[0]
        source.count += 1
    assert sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE, refresh=lambda _: True)).exit_code == 0
    report = sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
    assert report.tasks[0].warnings == []


def test_a_new_column_is_not_forgotten_by_a_sync_that_ends_after_it_was_added(store):
    source, kept = Numbers("a"), backend()
    sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
    widen(source, "a")
    source.count, source.trouble = 7, lambda *_: stop()
    assert sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE)).exit_code == 1
    source.trouble = lambda *_: None
    assert "no value in more" in sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE)).tasks[0].warnings[0]


def test_a_new_column_of_a_table_that_is_read_whole_is_filled_by_that(store):
    source, kept = Numbers("a", incremental=False), backend()
    sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
    widen(source, "a")
    for _ in range(2):
        assert sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE)).tasks[0].warnings == []


def test_a_column_that_old_rows_cannot_have_at_their_source_is_nothing_to_be_filled(store):
    source, kept = Numbers("a"), backend()
    sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE))
    widen(source, "a")
    source.offered = [replace(one, refills=False) for one in source.offered]
    assert sync(job(source, store, backend=kept, mode=WriteMode.OVERWRITE)).tasks[0].warnings == []


class Copied(Numbers):
    """Its table was written by a sync: it has columns that are called like ours."""

    def __init__(self, *names, **more):
        super().__init__(*names, **more)
        ours = {"_cq_sync_time": pa.timestamp("us", tz="UTC"), "_cq_source_name": pa.string(), "_cq_id": pa.string()}
        self.schema = pa.schema(ours | {"id": pa.int64(), "source_cq_id": pa.string()})
        self.offered = [replace(one, schema=self.schema) for one in self.offered]

    def read(self, task, reading):
        for message in super().read(task, reading):
            if isinstance(message, Insert):
                number = message.batch["id"][0].as_py()
                row = {"_cq_sync_time": 5, "_cq_source_name": "first", "_cq_id": f"u{number}", "id": number}
                batch = pa.RecordBatch.from_pylist([row | {"source_cq_id": "mine"}], self.schema)
                yield replace(message, batch=batch, reread=True)
            else:
                yield message


@pytest.mark.parametrize("mode", WriteMode)
@pytest.mark.parametrize("keyed", [True, False])
def test_columns_of_the_source_that_are_called_like_ours_keep_their_values(store, mode, keyed):
    source, kept = Copied("a", incremental=keyed), backend()
    if not keyed:
        source.offered = [replace(one, primary_key=()) for one in source.offered]
    for _ in range(2):
        assert sync(job(source, store, backend=kept, mode=mode)).exit_code == 0
    wanted = ["source_cq_sync_time", "source_cq_source_name", "source_source_cq_id", "source_cq_id", "id"]
    kinds = [*list(source.schema.types)[:3], pa.string(), pa.int64()]
    table = Table("a", pa.schema([*zip(wanted, kinds, strict=True), ("_cq_source_name", pa.string())]), ("id",))
    rows = [row for batch in store.read(table) for row in batch.to_pylist()]
    assert {row["_cq_source_name"] for row in rows} == {"numbers"}
    assert {(row["source_cq_source_name"], row["source_cq_id"]) for row in rows} == {("first", "mine")}
    assert {(row["id"], row["source_source_cq_id"]) for row in rows} == {(n, f"u{n}") for n in range(6)}
    assert {row["source_cq_sync_time"].microsecond for row in rows} == {5}
    assert len(rows) == 6
