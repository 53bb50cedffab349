"""What the destination SQLite makes of values: at their limits, and as a person sees them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from strandline.connectors.sqlite.destination import SQLiteDestination
from strandline.errors import TaskError
from strandline.message import Insert
from strandline.table import SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.destination_fixtures import orders, same
from strandline.testing.windows import Lineage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.sqlite"


@pytest.fixture
def lineage(path: Path) -> Iterator[Lineage]:
    with closing(SQLiteDestination(SQLiteDestination.Spec(path=str(path)))) as destination:
        yield Lineage(destination)


def sql(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    """As a user would, with another connection."""
    with closing(sqlite3.connect(path)) as connection, connection:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def ints(*values: int) -> pa.Array:
    return pa.array(values, pa.int64())


INT64 = (2**63 - 1, -(2**63), 0)
KEPT = {
    **{f"duration_{unit}": ints(*INT64).view(pa.duration(unit)) for unit in ("s", "ms", "us", "ns")},
    "timestamp_ns": ints(2**63 - 1, -(2**63) + 10**9, -1, 0).view(pa.timestamp("ns", "Europe/Berlin")),
    "year_0": ints(-62_167_219_200).view(pa.timestamp("s")),
    "time32": pa.array([0, 86_399_999], pa.int32()).view(pa.time32("ms")),
    "interval": pa.array(
        [(2**31 - 1, -(2**31), 2**63 - 1), (-(2**31), 2**31 - 1, -(2**63)), None], pa.month_day_nano_interval()
    ),
    "float": pa.array([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 5e-324, None]),
    "half": pa.array([float("nan"), float("inf"), 65504.0, -0.0], pa.float16()),
    "uint64": pa.array([2**64 - 1, 2**63, 2**63 - 1, 0, None], pa.uint64()),
    "decimal128": pa.array([Decimal("9" * 38), Decimal("-" + "9" * 38)], pa.decimal128(38, 0)),
    "decimal256": pa.array([Decimal("9" * 76), Decimal(-1)], pa.decimal256(76, 0)),
    "decimal_tiny": pa.array([Decimal("1E-38"), Decimal(0)], pa.decimal128(38, 38)),
    "decimal_thousands": pa.array([Decimal("12E3"), Decimal(0)], pa.decimal128(5, -3)),
    "string": pa.array(["a\0b", "", "\0", "\U0010ffff", "\ufffe", "1e5", "NaN"]),
    "binary": pa.array([b"\0\xff", b""]),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1e5", "12", '{"a": 1}', "{a"])),
    "map_with_a_key_twice": pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
    "nested": pa.array(
        [[{"a": 2**64 - 1, "b": b"\xff", "c": -0.0}], [None], [], None],
        pa.list_(pa.struct([("a", pa.uint64()), ("b", pa.binary()), ("c", pa.float64())])),
    ),
    "large_list": pa.array([[1] * 10_000, [], None], pa.large_list(pa.int8())),
    "dictionary_of_numbers": pa.array([7, None, 7]).dictionary_encode(),
    "sliced_view": pa.array([[1], [2, 3], None, []], pa.list_view(pa.int16())).slice(1),
    "sliced_struct": pa.array([{"a": 1}, None, {"a": 2}], pa.struct([("a", pa.duration("s"))])).slice(1),
    "sliced_uuid": pa.array([b"0" * 16, None, b"a" * 16], pa.uuid()).slice(1),
    "sliced_nulls": pa.nulls(5).slice(2),
}
REFUSED = {
    "date64_with_a_time": ints(86_400_001).view(pa.date64()),
    "date_before_year_0": pa.array([-719_529], pa.int32()).view(pa.date32()),
    "date_after_9999": pa.array([2_932_897], pa.int32()).view(pa.date32()),
    "time_before_year_0": ints(-62_167_219_201).view(pa.timestamp("s")),
    "time_after_9999": ints(253_402_300_800_000_000).view(pa.timestamp("us", "UTC")),
    "text_that_is_not_utf8": pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    ),
}


class TestValues:
    """The suite has every type; here are values at their limits, and how a person sees them."""

    @pytest.mark.parametrize("label", KEPT)
    def test_a_value_at_the_limit_is_kept(self, lineage: Lineage, label: str) -> None:
        values = KEPT[label]
        table = orders(value=values.type)
        lineage.migrate(table)
        rows = lineage.insert(table, id=list(range(len(values))), value=values)
        lineage.write(rows)
        same(lineage, table, rows.batch)

    @pytest.mark.parametrize("label", REFUSED)
    def test_a_value_that_has_no_place_fails_the_window(self, lineage: Lineage, label: str) -> None:
        table = orders(value=REFUSED[label].type)
        lineage.migrate(table)
        bad = Insert(table.name, lineage.batch(table, id=[1], value=REFUSED[label]))
        with pytest.raises(TaskError, match=r"orders\.value"):
            lineage.write(lineage.insert(table, id=[0], value=[None]), bad)
        same(lineage, table)
        assert lineage.stored() is None

    @pytest.mark.parametrize(
        ("values", "seen"),
        [
            (ints(1_709_208_000_123_456).view(pa.timestamp("us", "Europe/Berlin")), "2024-02-29 12:00:00.123456Z"),
            (ints(1_709_208_000).view(pa.timestamp("s")), "2024-02-29 12:00:00"),
            (ints(-1).view(pa.timestamp("ns", "UTC")), "1969-12-31 23:59:59.999999999Z"),
            (pa.array([19_782], pa.int32()).view(pa.date32()), "2024-02-29"),
            (pa.array([43_200_001], pa.int32()).view(pa.time32("ms")), "12:00:00.001"),
            (pa.array([Decimal("-10.50")], pa.decimal128(9, 2)), "-10.50"),
            (pa.array([True]), 1),
            (pa.array([2**40], pa.uint64()), 2**40),
            (pa.array([2**63], pa.uint64()), "09223372036854775808"),
            (pa.array([1.5], pa.float32()), 1.5),
            (pa.array([float("nan")]), "NaN"),
            (pa.array([b"\0\1"]), b"\0\1"),
            (pa.array([bytes(range(16))], pa.uuid()), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
            (pa.array([90], pa.duration("s")), 90),
            (pa.array([[1, None]]), "[1,null]"),
            (pa.array([{"a": "é"}]), '{"a":"é"}'),
            (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())), '{"k":1}'),
            (
                pa.array([(1, -2, 3)], pa.month_day_nano_interval()),
                '{"months":1,"days":-2,"nanoseconds":3}',
            ),
        ],
        ids=str,
    )
    def test_a_person_sees(self, lineage: Lineage, path: Path, values: pa.Array, seen: object) -> None:
        table = orders(value=values.type)
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1], value=values))
        assert sql(path, "SELECT value FROM orders") == [(seen,)]

    def test_times_are_what_sqlite_s_own_functions_take(self, lineage: Lineage, path: Path) -> None:
        table = orders(at=pa.timestamp("us", "UTC"))
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 2], at=[1_709_208_000_000_000, 1_709_294_400_000_000]))
        assert sql(path, "SELECT strftime('%s', at) FROM orders WHERE at < '2024-03-01'") == [("1709208000",)]
        assert sql(path, "SELECT id FROM orders WHERE at >= datetime('2024-02-29', '+1 day')") == [(2,)]

    @pytest.mark.parametrize(
        "values",
        [
            ints(-62_135_596_800, -1, 0, 1, 253_402_300_799).view(pa.timestamp("s")),
            pa.array([0, 1, 2**63 - 1, 2**63, 10**19 - 1, 10**19, 2**64 - 1], pa.uint64()),
            pa.array([-float("inf"), -1.5, 0.0, 5e-324, 7.0, float("inf")]),
            pa.array(["", "A", "a", "é", "\uffff", "\U0001faa3"]),
            pa.array([b"", b"\0", b"\0\0", b"\xff"]),
        ],
        ids=lambda values: str(values.type),
    )
    def test_values_are_ordered_as_they_are_by_arrow(self, lineage: Lineage, path: Path, values: pa.Array) -> None:
        table = Table("orders", orders(value=values.type).schema, ("value",))
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=list(range(len(values))), value=values))
        assert sql(path, "SELECT id FROM orders ORDER BY value") == [(at,) for at in range(len(values))]

    def test_a_pass_before_1970_is_older_than_one_after_it(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        for later_us in (-1_700_000_000_000_001, 1, 1):
            lineage.next_pass(later_us=later_us)
            row = lineage.insert(orders(), id=[lineage.pass_.sync_time_us], name=["a"], note=["x"])
            lineage.write(row)
        assert lineage.delete_stale(orders()) == 2
        same(lineage, orders(), row.batch)

    @pytest.mark.parametrize(
        ("extension", "values", "seen"),
        [
            ("uuid", pa.array([bytes(16)], pa.binary(16)), "00000000-0000-0000-0000-000000000000"),
            ("json", pa.array([b'{"a": 1}']), '{"a": 1}'),
            ("inet", pa.array([b"192.0.2.0/24"]), "192.0.2.0/24"),
            ("mac", pa.array([b"\0\1\2\3\4\5"]), b"\0\1\2\3\4\5"),
        ],
    )
    def test_the_extension_types_of_cloudquery(
        self, lineage: Lineage, path: Path, extension: str, values: pa.Array, seen: object
    ) -> None:
        field = pa.field("value", values.type, metadata={b"ARROW:extension:name": extension.encode()})
        fields = [(SYNC_TIME, sync_time_type()), (SOURCE_NAME, pa.string()), ("id", pa.int64())]
        table = Table("orders", pa.schema([*map(pa.field, *zip(*fields, strict=True)), field]), ("id",))
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1], value=values)
        lineage.write(rows)
        same(lineage, table, rows.batch)
        assert sql(path, "SELECT value FROM orders") == [(seen,)]

    def test_a_value_that_the_user_put_there_and_no_type_holds_is_an_error(self, lineage: Lineage, path: Path) -> None:
        table = orders(value=pa.int64())
        lineage.migrate(table)
        sql(path, "INSERT INTO orders (id, value) VALUES (1, 'many')")
        with pytest.raises(TaskError, match=r"orders\.value"):
            lineage.read(table)

    def test_types_that_cannot_be_stored_are_refused_with_a_reason(self, lineage: Lineage, path: Path) -> None:
        for kind, reason in (
            (pa.sparse_union([pa.field("a", pa.int8())]), "sparse_union"),
            (pa.list_(pa.dense_union([pa.field("a", pa.int8())])), "dense_union"),
            (pa.struct([pa.field("a", pa.int8()), pa.field("a", pa.int8())]), "two fields of one name"),
            (pa.map_(pa.list_(pa.int8()), pa.int8()), "map whose keys"),
        ):
            with pytest.raises(TaskError, match=reason):
                lineage.migrate(orders(value=kind))
        assert not path.exists()
