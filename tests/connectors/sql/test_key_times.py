"""Which values of an incremental key are times, and where the present lies among them."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from strandline.connectors.sql.key_times import form_of, unit_of

NOW_S = int(datetime(2026, 11, 29, 21, 5, 7, tzinfo=UTC).timestamp())
NOW_MS_HEX = f"{NOW_S * 1000:012x}"


@pytest.mark.parametrize(
    ("value", "name", "ceiling"),
    [
        (NOW_S + 10**6, "epoch", NOW_S),
        (NOW_S + 0.25, "epoch", NOW_S),
        (Decimal(NOW_S * 1000) + Decimal("0.5"), "epoch", NOW_S * 10**3),
        (NOW_S * 10**3, "epoch", NOW_S * 10**3),
        (NOW_S * 10**6 + 1, "epoch", NOW_S * 10**6),
        (NOW_S * 10**9, "epoch", NOW_S * 10**9),
        (253402300799, "epoch", NOW_S),
        (2**63 - 1, "epoch", NOW_S * 10**9),
        (str(NOW_S + 5), "epoch", str(NOW_S)),
        (str(NOW_S * 1000), "epoch", str(NOW_S * 1000)),
        (20301231, "packed", 20261129),
        (99991231, "packed", 20261129),
        (20301231235959, "packed", 20261129210507),
        (20301231235959123, "packed", 20261129210507000),
        ("20301231", "packed", "20261129"),
        ("203012312359", "packed", "202611292105"),
        ("20301231T235959Z", "packed", "20261129T210507Z"),
        ("20301231T235959123", "packed", "20261129T210507000"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "ulid", None),
        ("018f0000-0000-7000-8000-000000000000", "uuid7", f"{NOW_MS_HEX[:8]}-{NOW_MS_HEX[8:]}-7000-0000-000000000000"),
    ],
)
def test_times(value, name, ceiling):
    form = form_of(value)
    assert form.name == name
    if ceiling is not None:
        assert form.ceiling(NOW_S) == ceiling
        assert type(form.ceiling(NOW_S)) is (str if isinstance(value, str) else int)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, 1, -5, 12_345_678, 20_261_331, 19_791_231, 2.5, float("inf"), Decimal("NaN"), b"x", ""),
        *("9", "123456789", "abc", "2026-12-31", "d9428888-122b-41e1-b85c-61ad82f09c8d", "20261331", "not a time"),
    ],
)
def test_no_times(value):
    assert form_of(value) is None


def test_a_ulid_of_now_is_at_the_ceiling():
    ceiling = form_of("01ARZ3NDEKTSV4RRFFQ69G5FAV").ceiling(NOW_S)
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    moment = 0
    for digit in ceiling[:10]:
        moment = moment * 32 + digits.index(digit)
    assert moment == NOW_S * 1000
    assert form_of(ceiling.lower()).ceiling(NOW_S) == ceiling.lower()


def test_what_tells_ids_from_times():
    assert form_of(NOW_S).floor == 315_532_800
    assert form_of(NOW_S * 1000).floor == 315_532_800
    assert form_of(20301231).floor == 19800101
    assert form_of(20301231235959).floor == 19800101000000
    assert form_of("20301231").floor is None


def test_units():
    assert [unit_of(NOW_S * per_s) for per_s in (1, 10**3, 10**6, 10**9)] == [1, 10**3, 10**6, 10**9]
    assert unit_of(253402300799) == 1


@pytest.mark.parametrize(
    "value", [NOW_S, NOW_S + 10**9, NOW_S * 1000, 253402300799, 253402214400000, 20301231, "2000000000"]
)
def test_values_that_show_alone_that_they_are_times(value):
    assert form_of(value).is_certain(NOW_S)


@pytest.mark.parametrize("value", [2 * 10**18, 2**63 - 1, 112_000_000_000_000_000, 10**11, "1950000000000000000"])
def test_long_identifiers_are_times_only_beside_times_of_the_past(value):
    form = form_of(value)
    assert not form.is_certain(NOW_S)
    least, greatest = form.past(NOW_S)
    assert type(least) is type(greatest) is type(value)
    assert least < greatest < value


def test_nanoseconds_of_the_past_are_times():
    assert form_of(NOW_S * 10**9 - 1).is_certain(NOW_S)
    assert form_of(NOW_S * 10**9 + 1).past(NOW_S) == (315_532_800 * 10**9, NOW_S * 10**9)
