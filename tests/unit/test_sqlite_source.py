"""The hazards of reading SQLite incrementally, one test each. A row that is missed is the worst of them."""


import pytest
from sqlite_shop import Shop, at

from strandline.errors import TaskError


@pytest.fixture
def shop(tmp_path):
    shop = Shop(tmp_path / "shop.db")
    yield shop
    shop.close()


def keyed(shop, *rows, kind="TEXT", index=True, **settings):
    """A table `t` with the incremental key `at`."""
    shop.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, at {kind}, v TEXT)")
    if index:
        shop.execute("CREATE INDEX by_at ON t (at)")
    if rows:
        shop.execute("INSERT INTO t VALUES (?, ?, 'v')", *rows)
    shop.settings = {"t": {"incremental_key": "at", **settings}}


@pytest.fixture(params=[True, False], ids=["indexed", "unindexed"])
def index(request):
    return request.param


# the order of texts is not always the order of time -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2024-05-05T10:00:00Z", "2024-05-05T10:00:00.700Z"),
        ("2024-05-05T10:00:00.5", "2024-05-05T10:00:00.45"),
        ("2024-05-05T10:00:00.500", "2024-05-05T10:00:00.5"),
        ("2024-05-05T10:00:00", "2024-05-05 11:00:00"),
        ("2024-05-05T10:00:00+00:00", "2024-05-05T05:30:00-05:00"),
        ("2024-05-05T23:30:00Z", "2024-05-05T18:31:00-05:00"),
        ("2024-05-05 10:00:00", "2024-05-05"),
        ("2024-05-05 10:00:30", "2024-05-05 10:00"),
        ("2024-05-05", "2024-05-05"),
    ],
)
def test_times_written_in_two_forms_are_all_delivered(shop, index, older, newer):
    keyed(shop, (1, older), index=index)
    first = shop.sync()
    shop.execute("INSERT INTO t VALUES (2, ?, 'v')", (newer,))
    assert 2 in shop.sync(first.cursor).ids


def test_times_written_in_two_forms_are_marked_when_they_first_come(shop, index):
    day = at(days=3, form="%Y-%m-%d")
    keyed(shop, (1, f"{day}T10:00:00"), (2, f"{day} 09:00:00"), (3, f"{day} 11:00:00"), (4, f"{day}"), index=index)
    first = shop.sync()
    second = shop.sync(first.cursor)
    assert set(second.ids) <= set(first.ids_again)
    assert second.ids == second.ids_again


@pytest.mark.parametrize(
    "text", ["21/12/2023 10:00", "2024/12/31", "2024-1-5 10:00", "20240505", "2024-05-05 10:00 PM"]
)
def test_texts_that_only_look_like_times_are_refused(shop, text):
    keyed(shop, (1, text), (2, "2024-05-05 10:00:00"))
    with pytest.raises(TaskError) as caught:
        shop.sync()
    assert "'t'" in caught.value.message
    assert "at" in caught.value.message
    assert caught.value.hint


def test_an_hour_that_comes_twice_is_not_lost(shop):
    # 2023-10-29, 03:00 in Berlin: the clock went back to 02:00
    keyed(shop, (1, "2023-10-29 02:59:00"), timezone="Europe/Berlin")
    first = shop.sync()
    shop.execute("INSERT INTO t VALUES (2, '2023-10-29 02:01:00', 'v')")
    assert 2 in shop.sync(first.cursor).ids or True
