"""How PostgreSQL stores Arrow's types: in types of its own, to the last digit, or not at all."""

from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa
import pytest
from postgresql_warehouse import Sql, as_user, warehouse

from services.postgresql import PostgreSQLServer
from strandline.connectors.postgresql.destination import PostgreSQLDestination
from strandline.destination import MigrateMode, WriteMode
from strandline.errors import TaskError
from strandline.message import Complete, Insert
from strandline.table import SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.destination_fixtures import orders, same, unkeyed
from strandline.testing.windows import Lineage


@pytest.fixture
def lineage(postgresql: str) -> Iterator[Lineage]:
    with warehouse(postgresql) as one:
        yield one


@pytest.fixture
def sql(postgresql: str) -> Iterator[Sql]:
    with as_user(postgresql) as run:
        yield run


def ints(*values: int) -> pa.Array:
    return pa.array(values, pa.int64())


KEPT = {
    "integer_of_8_unsigned": ("smallint", pa.array([255, 0], pa.uint8())),
    "integer_of_64_unsigned": ("numeric(20,0)", pa.array([2**64 - 1, 0], pa.uint64())),
    "half": ("real", pa.array([float("nan"), float("inf"), 65504.0, -0.0], pa.float16())),
    "uuid": ("uuid", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16, None], pa.binary(16)))),
    "json": ("json", pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": [1, null]}', "7", None]))),
    "json_as_written": (
        "json",
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"b": "\\u0000", "a": 1, "a": 1e400000}', None])),
    ),
    "zoned_s": ("timestamp with time zone", ints(0, 253_402_300_800).view(pa.timestamp("s", "UTC"))),
    "naive_us": ("timestamp without time zone", ints(-1, 9_223_371_331_199_999_999).view(pa.timestamp("us"))),
    "naive_ns": ("bigint", ints(2**63 - 1, -(2**63)).view(pa.timestamp("ns"))),
    "duration_s": ("bigint", ints(2**63 - 1, -(2**63)).view(pa.duration("s"))),
    "time_ns": ("bigint", ints(86_399_999_999_999).view(pa.time64("ns"))),
    "interval": (
        "interval",
        pa.array([(2**31 - 1, -(2**31), 2**62 // 1000 * 1000), None, (1, 2, -3000)], pa.month_day_nano_interval()),
    ),
    "sliced_interval": ("interval", pa.array([(1, 1, 1), (1, 2, 3000)], pa.month_day_nano_interval()).slice(1)),
    "decimal_of_256_bits": ("numeric(76,38)", pa.array([10**30, None], pa.decimal256(76, 38))),
    "texts": ("text[]", pa.array([["a", None, 'b"c\\,{}'], [], None])),
    "zoned_list": (
        "timestamp with time zone[]",
        pa.array([[0, None], None, []], pa.list_(pa.timestamp("us", "UTC"))),
    ),
    "cents": ("numeric(10,2)[]", pa.array([[1, None], None], pa.list_(pa.decimal128(10, 2)))),
    "lists": ("json", pa.array([[[1], None], None, [[], [2, 3]]], pa.list_(pa.list_(pa.int64())))),
    "struct": ("json", pa.array([{"a": 2**63 - 1, "b\0": "\0"}], pa.struct([("a", pa.int64()), ("b\0", pa.string())]))),
    "floats": ("json", pa.array([{"a": [0.1, -0.0, float("nan"), -float("inf")]}])),
    "map_with_a_key_twice": ("json", pa.array([[("b", 1), ("a", 2), ("b", 3)]], pa.map_(pa.string(), pa.int64()))),
    "dictionary": ("text", pa.array(["a", None, "a"]).dictionary_encode()),
}
REFUSED = {
    "text_with_nul": pa.array(["a\0b"]),
    "text_that_is_not_utf8": pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    ),
    "json_that_is_none": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{a"])),
    "date_out_of_range": pa.array([2**31 - 1], pa.int32()).view(pa.date32()),
    "time_out_of_range": ints(-(2**63)).view(pa.timestamp("us")),
    "time_out_of_microseconds": ints(2**60).view(pa.timestamp("s", "UTC")),
    "interval_with_nanoseconds": pa.array([(1, 2, 3001)], pa.month_day_nano_interval()),
    "time_in_a_struct": pa.StructArray.from_arrays([ints(2**60).view(pa.timestamp("s"))], ["at"]),
}


@pytest.fixture(scope="module")
def shared(postgresql_server: PostgreSQLServer) -> Iterator[Lineage]:
    url = postgresql_server.create_database("values")
    destination = PostgreSQLDestination(PostgreSQLDestination.Spec(connection_string=url))
    yield Lineage(destination)
    destination.close()
    postgresql_server.execute('DROP DATABASE "values" WITH (FORCE)')


class TestTypes:
    """The suite has every type; here are how they are stored, and the values at their limits."""

    @pytest.mark.parametrize("label", KEPT)
    def test_a_value_is_kept_in_a_type_of_its_kind(
        self, shared: Lineage, postgresql_server: PostgreSQLServer, label: str
    ) -> None:
        kind, values = KEPT[label]
        table = orders(f"kept_{label}", value=values.type)
        lineage = Lineage(shared.destination, task=label)
        lineage.migrate(table)
        rows = lineage.insert(table, id=list(range(len(values))), value=values)
        lineage.write(rows)
        same(lineage, table, rows.batch)
        assert postgresql_server.execute(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = 'kept_{label}'::regclass AND attname = 'value'",
            "values",
        ) == [(kind,)]

    @pytest.mark.parametrize("label", REFUSED)
    def test_a_value_that_has_no_place_fails_the_window_and_is_named(self, shared: Lineage, label: str) -> None:
        values = REFUSED[label]
        table = orders(f"refused_{label}", value=values.type)
        lineage = Lineage(shared.destination, task=label)
        lineage.migrate(table)
        bad = Insert(table.name, lineage.batch(table, id=[1], value=values))
        for mode in (WriteMode.OVERWRITE, WriteMode.APPEND):
            lineage.mode = mode
            with pytest.raises(TaskError, match=f"{table.name}.value"):
                lineage.write(lineage.insert(table, id=[0], value=[None]), bad)
            same(lineage, table)
            assert lineage.stored() is None

    def test_what_has_no_equality_is_no_key(self, lineage: Lineage) -> None:
        for kind in (pa.struct([("a", pa.int8())]), pa.month_day_nano_interval()):
            plain = orders(code=kind)
            with pytest.raises(TaskError, match=r"orders.code: .* cannot be in a primary key"):
                lineage.migrate(Table("orders", plain.schema, ("code",)))

    def test_a_key_that_is_too_long_for_an_index_fails_the_window(self, lineage: Lineage) -> None:
        plain = orders(code=pa.string())
        table = Table("orders", plain.schema, ("code",))
        lineage.migrate(table)
        long = "".join(chr(0x4E00 + at) for at in range(3000))
        with pytest.raises(TaskError, match="index row") as raised:
            lineage.write(lineage.insert(table, id=[1], code=[long]))
        assert "shorter" in raised.value.hint
        same(lineage, table)

    @pytest.mark.parametrize(
        ("extension", "values", "kept_as"),
        [
            ("uuid", pa.array([b"0123456789abcdef", None], pa.binary(16)), "uuid"),
            ("json", pa.array([b'{"a": 1}', None]), "json"),
            ("inet", pa.array([b"192.0.2.0/24", None]), "text"),
            ("mac", pa.array([b"\0\1\2\3\4\5", None]), "bytea"),
        ],
    )
    def test_the_extension_types_of_cloudquery(
        self, lineage: Lineage, sql: Sql, extension: str, values: pa.Array, kept_as: str
    ) -> None:
        field = pa.field("value", values.type, metadata={b"ARROW:extension:name": extension.encode()})
        fields = [pa.field(SYNC_TIME, sync_time_type()), pa.field(SOURCE_NAME, pa.string()), pa.field("id", pa.int64())]
        table = Table("cloudquery", pa.schema([*fields, field]), ("id",))
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1, 2], value=values)
        lineage.write(rows)
        same(lineage, table, rows.batch)
        assert sql("SELECT DISTINCT pg_typeof(value)::text FROM cloudquery") == [(kept_as,)]

    def test_a_widened_column_keeps_its_values(self, lineage: Lineage, sql: Sql) -> None:
        before = orders(a=pa.int16(), b=pa.float32(), c=pa.decimal128(5, 2), d=pa.null(), e=pa.uint32())
        after = orders(a=pa.int64(), b=pa.float64(), c=pa.decimal128(12, 4), d=pa.string(), e=pa.uint64())
        lineage.migrate(before)
        lineage.write(lineage.insert(before, id=[1], a=[-7], b=[0.5], c=[None], d=[None], e=[2**32 - 1]))
        kinds = [change.kind for change in lineage.migrate(after).changes]
        assert kinds == ["widen_column"] * 5 + ["record"]
        assert lineage.migrate(after).changes == ()
        same(lineage, after, lineage.batch(after, id=[1], a=[-7], b=[0.5], c=[None], d=[None], e=[2**32 - 1]))

    def test_rows_that_are_read_again_are_counted_with_an_index(self, lineage: Lineage) -> None:
        lineage.mode, table = WriteMode.APPEND, unkeyed()
        lineage.migrate(table)
        first = lineage.insert(table, reread=True, id=[1, 2], name=["a", "b"])
        lineage.write(first, Complete(table.name))
        lineage.next_pass()
        assert lineage.write(lineage.insert(table, reread=True, id=[2, 3], name=["b", "c"])).known == {table.name: 1}


class TestCollations:
    def test_a_key_whose_collation_takes_two_for_one_is_refused(self, lineage: Lineage, sql: Sql) -> None:
        table = Table("orders", orders().schema, ("name",))
        sql("CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        sql("CREATE TABLE orders (name text COLLATE any_case PRIMARY KEY, id bigint, note text)")
        with pytest.raises(TaskError, match="'name' of its primary key has the collation any_case") as caught:
            lineage.migrate(table)
        assert "forced" in caught.value.hint
        lineage.migrate(table, mode=MigrateMode.FORCED)
        rows = lineage.insert(table, id=[1, 2], name=["a", "A"], note=["x", "x"])
        lineage.write(rows)
        same(lineage, table, rows.batch)
        sql('CREATE TABLE other (id bigint, name text COLLATE any_case, note text COLLATE "de-x-icu")')
        lineage.migrate(orders("other"), Table("by_note", orders().schema, ("note",)))


class TestDefaults:
    @pytest.mark.parametrize("staged_bytes_max", [1, 1 << 20])
    @pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
    def test_a_default_of_the_user_s_is_not_stored_for_what_is_absent(
        self, lineage: Lineage, sql: Sql, mode: WriteMode, staged_bytes_max: int
    ) -> None:
        lineage.destination.staged_bytes_max = staged_bytes_max
        table = orders(name=pa.string(), note=pa.string(), extra=pa.json_(), count=pa.int32())
        sql("CREATE TABLE orders (id bigint, name text, note text DEFAULT 'none', extra jsonb DEFAULT '1', own serial)")
        lineage.mode = mode
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1, 2], name=["a", "b"])
        lineage.write(rows)
        again = lineage.insert(table, id=[3], name=["c"], reread=True)
        lineage.write(again)
        same(lineage, table, rows.batch, again.batch)
        assert sql("SELECT own FROM orders ORDER BY id") == [(1,), (2,), (3,)]  # which is no column of ours

    @pytest.mark.parametrize("staged_bytes_max", [1, 1 << 20])
    @pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
    def test_nulls_without_a_type_are_staged_in_the_type_that_is_stored(
        self, lineage: Lineage, mode: WriteMode, staged_bytes_max: int
    ) -> None:
        lineage.destination.staged_bytes_max = staged_bytes_max
        table, nothing = orders(value=pa.decimal256(60, 10)), orders(value=pa.null())
        lineage.mode = mode
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1], value=[Decimal(1)])
        lineage.write(rows)
        lineage.migrate(nothing)
        nulls = [lineage.insert(nothing, id=[at, 4], value=[None, None]) for at in (2, 3)]
        lineage.write(*nulls)
        lineage.migrate(table)
        kept = [nulls[0].batch.slice(0, 1 if mode is WriteMode.OVERWRITE else 2), nulls[1].batch]
        same(lineage, table, rows.batch, *(batch.select(batch.schema.names[:-1]) for batch in kept))
