"""What a store that folds windows has to be able to rely on, and the suites cannot see from outside."""

import json

import pyarrow as pa
import pytest

from strandline.destination import Fence, Scope, WriteMode
from strandline.errors import TaskError
from strandline.fold import Delivered, Fold, Rows, batch_of
from strandline.message import Checkpoint, Delete, Insert
from strandline.state import Pass, StateKey
from strandline.table import CQ_ID, SOURCE_NAME, Table
from strandline.testing.windows import ListWindow, versions_of

KEY = StateKey("shop", "t", "store")
BARE = Table("t", pa.schema([(SOURCE_NAME, pa.string()), (CQ_ID, pa.uuid()), ("v", pa.string())]), (CQ_ID,))
KEYED = Table("t", pa.schema([(SOURCE_NAME, pa.string()), ("id", pa.int64()), ("v", pa.string())]), ("id",))


def window(table, number, *messages):
    """The ``number``-th of a pass."""
    current = Pass(1_700_000_000_000_000, full=True, windows=number)
    of = {"key": KEY, "before": None, "tables": {"t": table}, "fence": Fence("shop", "store", 1, "run")}
    scope = Scope("shop", None, current.sync_time_us)
    return ListWindow([*messages, Checkpoint(None)], scope=scope, pass_=current, **of)


def insert(**columns):
    count = len(next(iter(columns.values())))
    batch = pa.record_batch({SOURCE_NAME: ["shop"] * count, **columns})
    return Insert("t", batch, version=versions_of(batch, *columns))


def folded(one, rows, delivered, mode=WriteMode.APPEND, **options):
    fold = Fold(one, mode, {"t": rows}, delivered, before_swap=lambda *_: None, **options)
    fold.take(one)
    return fold


def test_a_window_that_comes_again_replaces_its_rows_and_their_numbers():
    """Also where what was counted has been written down as JSON in between; and with other rows than before."""
    rows, delivered = Rows(Table("t", BARE.schema.append(pa.field("w", pa.string())), (CQ_ID,))), {}
    folded(window(BARE, 0, insert(v=["a", "a"])), rows, delivered, stamp="w")
    folded(window(BARE, 1, insert(v=["a", "b", "torn"])), rows, delivered, stamp="w")
    first = {name: one.numbers() for (_, name), one in delivered.items()}
    delivered = {(KEY, name): Delivered.of_numbers(json.loads(json.dumps(one))) for name, one in first.items()}
    folded(window(BARE, 1, insert(v=["b", "a"])), rows, delivered, stamp="w")
    folded(window(BARE, 2, insert(v=["a"])), rows, delivered, stamp="w")
    assert sorted(batch_of(list(rows), BARE.schema)["v"].to_pylist()) == ["a", "a", "a", "a", "b"]
    assert len(rows.rows) == 5, "equal rows are several rows, by their numbers"


def test_a_store_that_is_not_idempotent_takes_nothing_back():
    rows, delivered = Rows(Table("t", KEYED.schema.append(pa.field("w", pa.string())), ("id",))), {}
    for _ in range(2):
        folded(window(KEYED, 0, insert(id=[1], v=["a"])), rows, delivered, stamp="w", replaces=False)
    assert len(list(rows)) == 2


def test_the_last_message_about_a_key_wins_and_columns_that_did_not_come_stay():
    rows = Rows(KEYED)
    rows.add(insert(id=[1, 2], v=["a", "b"]).batch)
    keys = pa.record_batch({"id": [2, 3]})
    one = window(KEYED, 0, insert(id=[3], v=["c"]), Delete("t", keys), insert(id=[1]), insert(id=[3], v=["d"]))
    receipt = folded(one, rows, {}, WriteMode.OVERWRITE).receipt()
    found = batch_of(list(rows), KEYED.schema).to_pylist()
    assert sorted((row["id"], row["v"]) for row in found) == [(1, "a"), (3, "d")]
    assert receipt.rows == {"t": 3}


def test_a_table_that_is_not_there_is_an_error():
    with pytest.raises(TaskError, match="no table 't'"):
        Fold(window(KEYED, 0), WriteMode.APPEND, {}, {}, before_swap=lambda *_: None).take([insert(id=[1], v=["a"])])
