"""What ``files`` in an object store promises beyond the contract: what a glob sees there, whatever becomes of runs and replies."""

import gzip
import io
import random
from collections import Counter
from contextlib import closing
from datetime import timedelta

import obstore
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from lakes import SALES, lineage, sale
from pydantic import ValidationError

from services.s3 import S3
from strandline.connectors.files import stored_objects
from strandline.connectors.files.destination import FilesDestination
from strandline.connectors.lake import journal
from strandline.connectors.lake.store import ObjectStore
from strandline.destination import MigrateMode, Scope
from strandline.errors import StateConflictError, StateError, TaskError, UsageError
from strandline.probe import Verdict
from strandline.testing.destination_fixtures import same

KILLS, LOSSES = 5, 3
"""How many of some fifty points are tried; which ones, the seed of pytest-randomly says."""


class Bucket:
    """One bucket, and what is in sight in it."""

    def __init__(self, s3):
        self.s3 = s3
        self.store = obstore.store.S3Store("bucket", client_options={"allow_http": True}, **s3.options)

    def lake(self, **settings):
        return FilesDestination(FilesDestination.Spec(path="s3://bucket/lake", options=self.s3.options, **settings))

    def names(self, below=""):
        found = (one["path"] for some in obstore.list(self.store, prefix=f"lake/{below}") for one in some)
        return sorted(name.removeprefix("lake/") for name in found)

    def data(self, suffix=".parquet"):
        """By a glob of data files, wherever they are."""
        return [name for name in self.names() if suffix in name]

    def content(self, name):
        return bytes(obstore.get(self.store, f"lake/{name}").bytes())

    def put(self, name, content=b"theirs"):
        obstore.put(self.store, f"lake/{name}", content)

    def remove(self, *names):
        for name in names:
            obstore.delete(self.store, f"lake/{name}")

    def seen(self):
        tables = [pq.read_table(io.BytesIO(self.content(name)), columns=["id"]) for name in self.data()]
        return sorted(one for table in tables for one in table["id"].to_pylist())


@pytest.fixture(scope="module")
def s3():
    with S3() as server:
        yield server


@pytest.fixture
def bucket(s3):
    s3.empty()
    s3.lost.clear()
    yield Bucket(s3)
    s3.ignore_conditions(ignores=False)


@pytest.fixture
def one(bucket):
    with closing(bucket.lake()) as destination:
        yield lineage(destination)


def unzipped(raw):
    return pyarrow.csv.read_csv(io.BytesIO(gzip.decompress(raw.read())))


# what is in sight ----------------------------------------------------------------------------------------------------


def test_a_window_is_one_object_of_each_table_and_nothing_else_is_in_sight(bucket, one):
    one.write(sale(one, 1, 2))
    first = bucket.data()
    one.write(sale(one, 3), sale(one, 4))
    assert len(first) == 1
    assert len(bucket.data()) == len(bucket.names("sales")) == 2
    assert first[0] in bucket.data()
    assert bucket.seen() == [1, 2, 3, 4]
    assert bucket.names("_strandline/staged") == []
    assert len(bucket.names("_strandline/tables")) == 1


@pytest.mark.parametrize(
    ("settings", "suffix", "read"),
    [
        ({"format": "csv"}, ".csv", pyarrow.csv.read_csv),
        ({"format": "csv", "compression": "gzip"}, ".csv.gz", unzipped),
        ({"format": "jsonl"}, ".jsonl", pyarrow.json.read_json),
        ({"format": "parquet", "compression": "snappy"}, ".parquet", pq.read_table),
    ],
    ids=["csv", "csv, compressed", "jsonl", "parquet"],
)
def test_an_object_is_what_its_name_says(bucket, settings, suffix, read):
    with closing(bucket.lake(**settings)) as destination:
        one = lineage(destination)
        batch = sale(one, 1, 2)
        one.write(batch)
        (name,) = bucket.names("sales")
        assert name.endswith(suffix)
        assert read(io.BytesIO(bucket.content(name)))["id"].to_pylist() == [1, 2]
        same(one, SALES, batch.batch)


def test_partitions_are_directories_whatever_their_names(bucket):
    strange = ["a b", "100%", "%20", "ü/ö", "x=y", "~", None, "a?b#c", "."]
    with closing(bucket.lake(partition_by=["country", "day"])) as destination:
        one = lineage(destination)
        batches = [sale(one, at, country=value, day=at) for at, value in enumerate(strange)]
        one.write(*batches)
        assert bucket.data()[0].startswith("sales/country=")
        assert len({name.rpartition("/")[0] for name in bucket.data()}) == len(strange)
        same(one, SALES, pa.concat_batches([batch.batch for batch in batches]))
        with pytest.raises(TaskError, match="more than 200 different values of country, day"):
            one.write(*[sale(one, at, day=at) for at in range(201)])
    assert bucket.names("_strandline/staged") == []


def test_objects_that_a_user_removes_stay_away_and_a_table_without_any_is_empty(bucket, one):
    one.write(sale(one, 1))
    one.write(sale(one, 2))
    bucket.remove(bucket.data()[1])
    with closing(bucket.lake()) as one.destination:
        one.write(sale(one, 3))
        assert bucket.seen() == [1, 3]
        bucket.remove(*bucket.data())
        assert one.destination.migrate(SALES, mode=MigrateMode.SAFE, fence=one.fence).empty
        assert not one.destination.holds(SALES, scope=Scope("shop", None, 0)).rows


# whose it is ---------------------------------------------------------------------------------------------------------


def test_a_prefix_with_objects_of_others_is_refused(bucket):
    bucket.put("sales/a.parquet")
    with closing(bucket.lake()) as destination, pytest.raises(TaskError, match="was not made here"):
        lineage(destination)
    assert bucket.data() == ["sales/a.parquet"]


@pytest.mark.parametrize("schema_first", [True, False])
def test_a_prefix_is_a_table_or_a_schema(bucket, schema_first):
    kinds = [{"schema": "sales"}, {}] if schema_first else [{}, {"schema": "sales"}]
    first, second = (bucket.lake(**kind) for kind in kinds)
    with closing(first), closing(second):
        one = lineage(first)
        one.write(sale(one, 1))
        with pytest.raises((TaskError, UsageError), match=r"was not made here|has the files of a table"):
            lineage(second)
        same(one, SALES, sale(one, 1).batch)


def test_another_format_or_other_partitions_need_a_new_table(bucket, one):
    one.write(sale(one, 1))
    for settings in ({"format": "csv"}, {"partition_by": ["country"]}):
        with closing(bucket.lake(**settings)) as destination:
            with pytest.raises(TaskError, match="cannot be changed in place: it is parquet, partitioned by"):
                destination.migrate(SALES, mode=MigrateMode.SAFE, fence=one.fence)
            assert bucket.seen() == [1]
    with closing(bucket.lake(format="csv")) as one.destination:
        one.destination.migrate(SALES, mode=MigrateMode.FORCED, fence=one.fence)
        assert bucket.names("sales") == []
        one.write(sale(one, 2))
        same(one, SALES, sale(one, 2).batch)
    assert len(bucket.data(".csv")) == 1


# two runs, and stores ------------------------------------------------------------------------------------------------


def test_of_two_runs_that_commit_at_once_both_are_stored(bucket, one, monkeypatch):
    create, others = ObjectStore.create, []
    with closing(bucket.lake()) as destination:
        other = lineage(destination)
        other.task = "other"

        def late(self, name, content):
            if "_strandline/log" in name and not others:
                others.append(name)
                other.write(sale(other, 2))
            return create(self, name, content)

        monkeypatch.setattr(ObjectStore, "create", late)
        one.write(sale(one, 1))
        assert bucket.seen() == [1, 2]


def test_a_run_that_was_overtaken_while_it_wrote_leaves_nothing(bucket, one, monkeypatch):
    one.take_over()
    one.write(sale(one, 1))
    create, taken = ObjectStore.create, []
    with closing(bucket.lake()) as destination:
        other = lineage(destination)

        def late(self, name, content):
            if "_strandline/log" in name and not taken:
                taken.append(name)
                other.take_over()
            return create(self, name, content)

        monkeypatch.setattr(ObjectStore, "create", late)
        with pytest.raises(StateConflictError):
            one.write(sale(one, 2))
    assert taken
    assert bucket.seen() == [1]
    assert bucket.names("_strandline/staged") == []


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_kept(bucket):
    bucket.s3.ignore_conditions()
    with closing(bucket.lake()) as destination:
        with pytest.raises(UsageError, match="ignores conditions"):
            lineage(destination)
        assert [probe.verdict for probe in destination.probes()] == [Verdict.PROBLEM]
    assert bucket.names() == []


def test_credentials_are_not_shown(bucket):
    with closing(bucket.lake()) as destination:
        shown = [repr(destination.spec), *destination.places(), *(probe.found for probe in destination.probes())]
    assert shown
    assert not [one for one in shown if "s3cret-word" in one]


@pytest.mark.parametrize(
    "spec",
    [
        {"path": "ftp://bucket/lake"},
        {"path": "s3://user:word@bucket/lake"},
        {"path": "s3://bucket/lake?x=1"},
        {"path": "s3://bucket/*"},
        {"path": "s3://bucket/lake", "allow_network": True},
        {"path": "lake", "options": {"region": "x"}},
    ],
    ids=lambda spec: spec["path"],
)
def test_settings_that_fit_no_store_are_refused(spec):
    with pytest.raises(ValidationError):
        FilesDestination.Spec(**spec)


# killed, and lost ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is no more."""


class Killer:
    """Kills at one call of a store, before or after it is done."""

    CALLS = ("create", "copy", "size", "get", "delete", "names")

    def __init__(self, patch, at, *, after):
        self.calls, self._at, self._after = [], at, after
        for name in self.CALLS:
            patch.setattr(ObjectStore, name, self._struck(name, getattr(ObjectStore, name)))
        sink = type(ObjectStore("s3://bucket", {}).sink("x"))
        patch.setattr(sink, "keep", self._struck("keep", sink.keep))

    def _struck(self, name, call):
        def struck(*arguments):
            self.calls.append(name)
            due = len(self.calls) == self._at
            if (due and not self._after) or len(self.calls) > self._at:
                raise Killed
            done = call(*arguments)
            if due:
                raise Killed
            return done

        return struck


def calls_of_a_window(bucket, monkeypatch):
    with closing(bucket.lake()) as destination, monkeypatch.context() as patch:
        one = lineage(destination)
        one.write(sale(one, 1, 2))
        killer = Killer(patch, 10**9, after=False)
        one.write(sale(one, 3, 4))
    return killer.calls


def test_a_run_that_is_killed_at_any_call_of_the_store_leaves_whole_windows_once(bucket, monkeypatch):
    calls = calls_of_a_window(bucket, monkeypatch)
    assert {"create", "copy", "keep", "delete"} <= {*calls}
    found = Counter()
    points = [(at, after) for at in range(1, len(calls) + 1) for after in (False, True)]
    for at, after in random.sample(points, KILLS):
        bucket.s3.empty()
        with closing(bucket.lake()) as destination, monkeypatch.context() as patch:
            one = lineage(destination)
            one.write(sale(one, 1, 2))
            Killer(patch, at, after=after)
            with pytest.raises(Killed):
                one.write(sale(one, 3, 4))
        assert bucket.seen() in ([1, 2], [1, 2, 3, 4])
        with closing(bucket.lake()) as one.destination:
            one.take_over()
            committed = one.stored().sequence > one.state.sequence
            assert committed or bucket.seen() == [1, 2]
            one.migrate(SALES)
            assert bucket.seen() == ([1, 2, 3, 4] if committed else [1, 2])
            one.state = one.stored()
            one.write(sale(one, *([5] if committed else [3, 4])))
            assert bucket.seen() == ([1, 2, 3, 4, 5] if committed else [1, 2, 3, 4])
            assert one.stored() == one.state
        found[committed] += 1
    assert found.total() == KILLS


def test_a_reply_that_is_lost_is_read_back(bucket, monkeypatch):
    """Of any request, after the store has done it."""
    with closing(bucket.lake()) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
        before = len(bucket.s3.asked)
        one.write(sale(one, 2))
        asked = bucket.s3.asked[before:]
    assert ("PUT", "*") in [(method, condition) for method, _, condition in asked]
    for at in random.sample(range(len(asked)), LOSSES):
        bucket.s3.empty()
        with closing(bucket.lake()) as destination:
            one = lineage(destination)
            one.write(sale(one, 1))
            bucket.s3.lost[len(bucket.s3.asked) + at] = random.choice(["503", "reset"])
            one.write(sale(one, 2))
            assert not bucket.s3.lost
            assert bucket.seen() == [1, 2]
            assert one.stored() == one.state


def test_what_a_dead_run_has_staged_is_removed_a_week_later(bucket, one, monkeypatch):
    one.write(sale(one, 1))
    bucket.put("_strandline/staged/sales/00ff")
    with closing(bucket.lake()) as destination:
        one.destination = destination
        one.write(sale(one, 2))
        assert len(bucket.names("_strandline/staged")) == 1
    monkeypatch.setattr(stored_objects, "_LEFT", timedelta(0))
    with closing(bucket.lake()) as one.destination:
        one.write(sale(one, 3))
        assert bucket.names("_strandline/staged") == []
        assert bucket.seen() == [1, 2, 3]


def interrupted(bucket, one, monkeypatch):
    """A window is committed, and its run killed before anything of it is in sight."""
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "copy", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            one.write(sale(one, 2))
    one.state = one.stored()


def test_a_committed_object_that_is_lost_stops_the_table(bucket, one, monkeypatch):
    one.write(sale(one, 1))
    interrupted(bucket, one, monkeypatch)
    bucket.remove(*bucket.names("_strandline/staged"))
    for _ in range(2):
        with closing(bucket.lake()) as destination, pytest.raises(StateError, match="its rows are lost"):
            destination.migrate(SALES, mode=MigrateMode.SAFE, fence=one.fence)


def test_a_run_that_wakes_up_late_brings_nothing_back(bucket, one, monkeypatch):
    """It was to copy what others have copied meanwhile, and a user has removed."""
    one.write(sale(one, 1))
    interrupted(bucket, one, monkeypatch)
    copy, woken = ObjectStore.copy, []

    def late(self, old, new, size):
        if not woken:
            woken.append(new)
            with closing(bucket.lake()) as other:
                other.migrate(SALES, mode=MigrateMode.SAFE, fence=one.fence)
            assert bucket.seen() == [1, 2]
            bucket.remove(bucket.data()[1])
        return copy(self, old, new, size)

    monkeypatch.setattr(ObjectStore, "copy", late)
    with closing(bucket.lake()) as one.destination:
        one.write(sale(one, 3))
    assert woken
    assert bucket.seen() == [1, 3]


def test_the_log_is_shortened_and_rows_and_states_stay(bucket, one, monkeypatch):
    monkeypatch.setattr(journal, "_SNAPSHOT_EVERY", 3)
    for at in range(7):
        one.write(sale(one, at))
    assert len(bucket.names("_strandline/log")) < 5
    with closing(bucket.lake()) as one.destination:
        assert one.stored() == one.state
        assert bucket.seen() == [*range(7)]
