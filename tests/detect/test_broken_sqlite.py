"""An SQLite source that takes another file, another column or a time in the future for what it read before: rows tell."""

import shutil
import time

import pytest
from checks import Check
from sqlite_shop import Shop, keyed

from strandline.connectors.sqlite import bound as sqlite_bound
from strandline.connectors.sqlite import origin as sqlite_origin
from strandline.connectors.sqlite import reading as sqlite_reading
from strandline.errors import CursorExpiredError

BROKEN = []
ROWS = [(number, f"2026-01-0{number} 00:00:00") for number in range(1, 7)]


def read_since(shop, cursor):
    """What an overwriting destination has after another sync, by id; an expired cursor is read again from nothing."""
    try:
        return {row["id"]: row for row in shop.sync(cursor).rows}
    except CursorExpiredError:
        return {row["id"]: row for row in shop.sync().rows}


def a_file_that_was_put_back(shop):
    keyed(shop, *ROWS)
    shutil.copy(shop.path, shop.path.with_name("backup"))
    shop.execute("UPDATE t SET v = 'wrong', at = '2026-01-08 00:00:00' WHERE id = 2")
    cursor = shop.sync().cursor
    shutil.copy(shop.path.with_name("backup"), shop.path)
    assert read_since(shop, cursor).get(2, {}).get("v") == "v"


def another_file_under_the_same_name(shop):
    keyed(shop, *ROWS)
    shop.settings["t"]["incremental_key"] = "id"
    cursor = shop.sync().cursor
    other = Shop(shop.path.with_name("other"))
    keyed(other, *[(number, "2025-01-01 00:00:00") for number, _ in ROWS])
    other.close()
    other.path.replace(shop.path)
    assert read_since(shop, cursor).get(1, {}).get("at") == "2025-01-01 00:00:00"


def a_column_that_is_another_one(shop):
    keyed(shop, *ROWS)
    cursor = shop.sync().cursor
    shop.execute("ALTER TABLE t RENAME v TO old")
    shop.execute("ALTER TABLE t ADD v TEXT DEFAULT 'new'")
    assert read_since(shop, cursor).get(1, {}).get("v") == "new"


def a_row_dated_into_the_future(shop):
    now_s = int(time.time())
    keyed(shop, (1, now_s - 90), (2, now_s + 10**7), kind="INTEGER")
    shop.execute("ALTER TABLE t RENAME at TO rev")
    shop.settings["t"]["incremental_key"] = "rev"
    cursor = shop.sync().cursor
    shop.execute("INSERT INTO t VALUES (3, ?, 'v')", (now_s - 60,))
    assert 3 in read_since(shop, cursor)


def a_key_that_is_not_unique(shop):
    keyed(shop, *ROWS)
    shop.settings = {"t": {"primary_key": ["v"]}}
    assert any("not unique" in getattr(message, "text", "") for message in shop.sync().messages)


def broken(promise, what, check):
    def register(breaks):
        marks = pytest.mark.detects(promise, f"SQLite: {what}", by=check.__name__)
        BROKEN.append(pytest.param(check, breaks, marks=marks, id=breaks.__name__))
        return breaks

    return register


@broken("P45", "no row bears witness", a_file_that_was_put_back)
def keeps_no_witness(patch):
    patch.setattr(sqlite_reading, "noted", lambda seen, *_: seen)
    patch.setattr(sqlite_origin, "_was_put_back", lambda *_: False)


@broken("P45", "any row of an equal key counts as the one that was read", another_file_under_the_same_name)
def believes_any_file(patch):
    patch.setattr(sqlite_origin, "looked_at", lambda *_: [])
    patch.setattr(sqlite_origin, "_check_newest", lambda *_: None)


@broken("P45", "columns are known by their names", a_column_that_is_another_one)
def believes_names(patch):
    patch.setattr(sqlite_origin, "difference", lambda *_: "")
    patch.setattr(sqlite_origin, "_check_values", lambda *_: None)


@broken("P47", "whether a key is a time is told by its name", a_row_dated_into_the_future)
def goes_by_names(patch):
    patch.setattr(sqlite_bound, "form_of", lambda _: None)


@broken("P47", "nobody counts rows of one key", a_key_that_is_not_unique)
def counts_no_keys(patch):
    patch.setattr(sqlite_reading, "unlike_keys", lambda *_: iter(()))


@pytest.fixture
def findings(tmp_path):
    def find(check, name):
        (tmp_path / name).mkdir()
        shop = Shop(tmp_path / name / "shop.db")
        try:
            return Check(check.__name__, lambda: check(shop)).findings()
        finally:
            shop.close()

    return find


@pytest.mark.parametrize(("check", "breaks"), BROKEN)
def test_a_source_that_believes_too_much_is_noticed(check, breaks, findings, monkeypatch):
    assert not findings(check, "sound")
    breaks(monkeypatch)
    assert findings(check, "broken")
