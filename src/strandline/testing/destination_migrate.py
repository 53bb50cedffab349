"""Cases: tables that are created, and tables whose columns change."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import date, datetime
from typing import Any, ClassVar

import pytest

from strandline.destination import RECREATE, MigrateMode, WriteMode
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.message import Delete
from strandline.table import CQ_ID, Table
from strandline.testing.data import all_types_table
from strandline.testing.destination_fixtures import (
    REFUSALS,
    DestinationFixtures,
    Reopen,
    keys,
    needs,
    orders,
    refuses,
    refuses_type,
    same,
    unkeyed,
)
from strandline.testing.exact import assert_same_rows
from strandline.testing.windows import Lineage

__all__ = ["ChangeCases", "CreateCases"]

_SAMPLES = {
    "text": lambda: pa.array(["x"]),
    "number": lambda: pa.array([1], pa.int64()),
    "decimal": lambda: pa.array([1], pa.int64()).cast(pa.decimal128(19, 0)),
    "time": lambda: pa.array([1], pa.int64()).cast(pa.timestamp("us", "UTC")),
    "bytes": lambda: pa.array([b"x"]),
    "list": lambda: pa.array([[1]], pa.list_(pa.int64())),
    "struct": lambda: pa.array([{"a": 1}], pa.struct([("a", pa.int64())])),
    "uuid": lambda: pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16], pa.binary(16))),
}


_DRIFTS: Mapping[str, Callable[[], tuple[Any, list[Any], Any, Any]]] = {
    "a whole number becomes a fraction": lambda: (pa.int64(), [2**53, -7, None, 0], pa.float64(), 10.5),
    "a day becomes a moment": lambda: (
        pa.date32(),
        [date(2024, 2, 29), date(1900, 1, 1), None],
        pa.timestamp("us"),
        datetime(2024, 1, 1, 12, 30),  # noqa: DTZ001 -- of no zone
    ),
    "a struct has one more field": lambda: (
        pa.struct([("a", pa.int32())]),
        [{"a": 1}, None, {"a": None}],
        pa.struct([("a", pa.int32()), ("b", pa.string())]),
        {"a": 3, "b": "c"},
    ),
    "a struct in a list has one more field": lambda: (
        pa.list_(pa.struct([("a", pa.int32())])),
        [[{"a": 1}, {"a": 2}], None, []],
        pa.list_(pa.struct([("a", pa.int32()), ("b", pa.struct([("c", pa.string())]))])),
        [{"a": 3, "b": {"c": "x"}}],
    ),
}
"""What happens to the columns of files and APIs: the type, values of it, a type that holds them, a value of that."""


def _rows(lineage: Lineage, table: Table, first: int, count: int = 10) -> "pa.RecordBatch":
    """Rows that are written; each column holds a value of its type."""
    ids = list(range(first, first + count))
    values = {
        one.name: pa.array(ids, pa.int64())
        .cast(pa.int32() if pa.types.is_boolean(one.type) else pa.int64())
        .cast(one.type)
        for one in table.schema
        if one.name not in lineage.lineage_columns(table, 0) and one.name not in {"id", CQ_ID}
    }
    message = lineage.insert(table, id=ids, **values)
    lineage.write(message)
    return message.batch


def _with(*fields: "pa.Field") -> Table:
    """``orders`` with these columns."""
    plain = orders(name=pa.string())
    return replace(plain, schema=pa.schema([*plain.schema, *fields]))


class CreateCases(DestinationFixtures):
    """``migrate`` of a table that is not there, and of one that fits."""

    def test_a_new_table_is_created(self, lineage: Lineage) -> None:
        found = lineage.migrate(orders())
        assert [change.kind for change in found.changes] == ["create"]
        assert found.mark
        assert found.empty
        same(lineage, orders())

    def test_a_second_migration_changes_nothing(self, lineage: Lineage, reopen: Reopen) -> None:
        table = all_types_table("all_types", refused=lineage.destination.capabilities.types_refused)
        marks = {lineage.migrate(table, mode=mode).mark for mode in (MigrateMode.SAFE, *MigrateMode)}
        for mode in MigrateMode:
            assert lineage.migrate(table, mode=mode).changes == ()
        lineage.destination.close()
        with closing(reopen()) as destination:
            lineage.destination = destination
            found = lineage.migrate(table)
        assert found.changes == ()
        assert marks == {found.mark}

    def test_asking_creates_nothing(self, lineage: Lineage) -> None:
        for _ in range(2):
            found = lineage.migrate(orders(), apply=False)
            assert [change.kind for change in found.changes] == ["create"]
            assert found.mark is None
            assert found.empty

    def test_a_table_is_empty_until_rows_are_written(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1], name=["a"], note=["x"]))
        assert not lineage.migrate(table).empty
        assert not lineage.migrate(table, apply=False).empty

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_table_is_empty_when_its_rows_were_deleted(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1], name=["a"], note=["x"]))
        lineage.write(Delete(table.name, keys(table, 1)))
        assert lineage.migrate(table, apply=False).empty

    def test_many_tables_are_created_at_once(self, lineage: Lineage) -> None:
        tables = [orders(f"table_{number}") for number in range(8)]
        with ThreadPoolExecutor(min(4, lineage.destination.capabilities.writers_max)) as pool:
            found = list(pool.map(lineage.migrate, tables))
        assert len({one.mark for one in found}) == len(tables)


class ChangeCases(DestinationFixtures):
    """CloudQuery's matrix of changes, and more."""

    DRIFT_REFUSED: ClassVar[Collection[str]] = ()
    """Which of the ordinary changes the destination refuses, in words of ``_DRIFTS``; the rows stay as they are."""

    @pytest.mark.parametrize("mode", MigrateMode)
    @pytest.mark.parametrize("nullable", [True, False])
    def test_an_added_column_is_null_in_the_rows_that_are_there(
        self,
        lineage: Lineage,
        mode: MigrateMode,
        nullable: bool,  # noqa: FBT001 -- a parameter of the test
    ) -> None:
        before, after = _with(), _with(pa.field("bool", pa.bool_(), nullable))
        mark = lineage.migrate(before).mark
        first = _rows(lineage, before, 0)
        asked = lineage.migrate(after, mode=mode, apply=False)
        found = lineage.migrate(after, mode=mode)
        assert [change.kind for change in found.changes] == ["add_column"]
        assert asked == found
        assert found.mark == mark
        assert not found.empty
        assert lineage.migrate(after, mode=mode).changes == ()
        second = _rows(lineage, after, 10)
        same(lineage, after, first, second)

    @pytest.mark.parametrize("mode", MigrateMode)
    @pytest.mark.parametrize("nullable", [True, False])
    def test_a_removed_column_stays_and_is_null_from_then_on(
        self,
        lineage: Lineage,
        mode: MigrateMode,
        nullable: bool,  # noqa: FBT001 -- a parameter of the test
    ) -> None:
        before, after = _with(pa.field("bool", pa.bool_(), nullable)), _with()
        mark = lineage.migrate(before).mark
        first = _rows(lineage, before, 0)
        assert lineage.migrate(after, mode=mode).mark == mark
        assert lineage.migrate(after, mode=mode).changes == ()
        second = _rows(lineage, after, 10)
        assert_same_rows([first.select(after.schema.names), second], lineage.read(after), after)
        same(lineage, before, first, second)
        assert lineage.migrate(before, mode=mode).mark == mark
        third = _rows(lineage, before, 20)
        same(lineage, before, first, second, third)

    @pytest.mark.parametrize("kinds", [("bool_", "string"), ("bool_", "int64"), ("float64", "int64")])
    def test_a_column_of_another_type_is_refused_or_the_table_created_again(
        self, lineage: Lineage, kinds: tuple[str, str]
    ) -> None:
        before, after = (_with(pa.field("value", getattr(pa, kind)())) for kind in kinds)
        if any(refuses_type(lineage, table.schema.field("value").type) for table in (before, after)):
            return
        mark = lineage.migrate(before).mark
        first = _rows(lineage, before, 0)
        for _ in range(2):
            with pytest.raises(TaskError):
                lineage.migrate(after)
        same(lineage, before, first)
        self._check_recreated(lineage, before, after, first, mark)

    def test_another_primary_key_is_refused_or_the_table_created_again(self, lineage: Lineage) -> None:
        before = _with()
        after = replace(before, schema=unkeyed().schema, primary_key=(CQ_ID,))
        mark = lineage.migrate(before).mark
        first = _rows(lineage, before, 0)
        with pytest.raises(TaskError):
            lineage.migrate(after)
        same(lineage, before, first)
        self._check_recreated(lineage, before, after, first, mark)

    def test_a_key_column_that_is_gone_from_the_key_is_refused_or_the_table_created_again(
        self, lineage: Lineage
    ) -> None:
        before, after = replace(_with(), primary_key=("id", "name")), _with()
        mark = lineage.migrate(before).mark
        first = _rows(lineage, before, 0)
        with pytest.raises(TaskError):
            lineage.migrate(after)
        same(lineage, before, first)
        self._check_recreated(lineage, before, after, first, mark)

    @staticmethod
    def _check_recreated(
        lineage: Lineage, before: Table, after: Table, rows: "pa.RecordBatch", mark: str | None
    ) -> None:
        """Forced, the table is created again; but not by asking."""
        asked = lineage.migrate(after, mode=MigrateMode.FORCED, apply=False)
        assert RECREATE in {change.kind for change in asked.changes}
        assert (asked.mark, asked.empty) == (mark, False)
        same(lineage, before, rows)
        found = lineage.migrate(after, mode=MigrateMode.FORCED)
        assert RECREATE in {change.kind for change in found.changes}
        assert found.mark not in {None, mark}
        assert found.empty
        assert lineage.migrate(after, mode=MigrateMode.FORCED).changes == ()
        same(lineage, after, _rows(lineage, after, 0))

    @pytest.mark.parametrize(
        "kinds",
        [("int8", "int64"), ("int32", "int64"), ("uint8", "int16"), ("float32", "float64"), ("string", "large_string")],
    )
    def test_a_wider_column_keeps_its_rows_or_is_refused(self, lineage: Lineage, kinds: tuple[str, str]) -> None:
        before, after = (_with(pa.field("value", getattr(pa, kind)())) for kind in kinds)
        if any(refuses_type(lineage, table.schema.field("value").type) for table in (before, after)):
            return
        mark = lineage.migrate(before).mark
        first = _rows(lineage, before, 0)
        try:
            found = lineage.migrate(after)
        except TaskError:
            same(lineage, before, first)
            return
        assert found.mark == mark
        assert lineage.migrate(after).changes == ()
        wider = first.set_column(
            first.schema.get_field_index("value"), "value", first["value"].cast(after.schema.field("value").type)
        )
        same(lineage, after, wider, _rows(lineage, after, 10))

    def test_a_narrower_column_keeps_its_rows_or_is_refused(self, lineage: Lineage) -> None:
        before, after = (_with(pa.field("value", kind)) for kind in (pa.int64(), pa.int8()))
        lineage.migrate(before)
        first = lineage.insert(before, id=[1], name=["a"], value=[2**40])
        lineage.write(first)
        try:
            lineage.migrate(after)
        except TaskError:
            same(lineage, before, first.batch)
            return
        lineage.write(lineage.insert(after, id=[2], name=["b"], value=[127]))
        same(lineage, before, first.batch, lineage.batch(before, id=[2], name=["b"], value=[127]))

    @pytest.mark.parametrize("drift", _DRIFTS)
    def test_ordinary_drift_keeps_the_rows(self, lineage: Lineage, drift: str) -> None:
        kind, values, wider, more = _DRIFTS[drift]()
        before, after = (_with(pa.field("value", one)) for one in (kind, wider))
        if refuses_type(lineage, kind) or refuses_type(lineage, wider):
            return
        lineage.migrate(before)
        count = len(values)
        first = lineage.insert(before, id=range(count), name=["a"] * count, value=values)
        lineage.write(first)
        if drift in self.DRIFT_REFUSED:
            with pytest.raises(TaskError):
                lineage.migrate(after)
            same(lineage, before, first.batch)
            return
        found = lineage.migrate(after)
        assert found.mark == lineage.migrate(after).mark
        assert lineage.migrate(after).changes == ()
        second = lineage.insert(after, id=[count], name=["b"], value=[more])
        lineage.write(second)
        kept = pa.array(values, kind)
        grown = kept.cast(wider) if not pa.types.is_nested(kind) else pa.array(kept.to_pylist(), wider)
        same(lineage, after, lineage.batch(after, id=range(count), name=["a"] * count, value=grown), second.batch)

    @pytest.mark.parametrize(
        ("kind", "text"),
        [(pa.int64, "7"), (pa.float64, "10.5"), (pa.bool_, "true"), (pa.date32, "2024-02-29")],
        ids=["whole number", "fraction", "boolean", "day"],
    )
    def test_a_column_that_is_stored_as_text_stays_text(
        self, lineage: Lineage, kind: Callable[[], Any], text: str
    ) -> None:
        before, after = (_with(pa.field("value", one)) for one in (pa.string(), kind()))
        lineage.migrate(before)
        first = lineage.insert(before, id=[1], name=["a"], value=["n/a"])
        lineage.write(first)
        found = lineage.migrate(after)
        assert (found.changes, found.kept) == ((), {"value": pa.string()})
        assert lineage.migrate(after, apply=False).kept == {"value": pa.string()}
        assert lineage.migrate(before).changes == ()
        second = lineage.insert(before, id=[2], name=["b"], value=[text])
        lineage.write(second)
        same(lineage, before, first.batch, second.batch)

    def test_a_text_that_is_a_key_is_not_taken_for_a_number(self, lineage: Lineage) -> None:
        before = replace(_with(pa.field("value", pa.string())), primary_key=("id", "value"))
        after = replace(_with(pa.field("value", pa.int64())), primary_key=("id", "value"))
        lineage.migrate(before)
        first = lineage.insert(before, id=[1], name=["a"], value=["01"])
        lineage.write(first)
        with pytest.raises(TaskError):
            lineage.migrate(after)
        same(lineage, before, first.batch)

    def test_whole_numbers_that_no_double_is_are_not_rounded(self, lineage: Lineage) -> None:
        before, after = (_with(pa.field("value", kind)) for kind in (pa.int64(), pa.float64()))
        lineage.migrate(before)
        first = lineage.insert(before, id=[1, 2], name=["a", "b"], value=[2**53 + 1, -(2**63)])
        lineage.write(first)
        with suppress(TaskError):
            lineage.migrate(after)
        same(lineage, before, first.batch)

    def test_columns_in_another_order_are_the_same_columns(self, lineage: Lineage) -> None:
        before = orders()
        after = replace(before, schema=pa.schema(list(reversed(before.schema))))
        mark = lineage.migrate(before).mark
        first = lineage.insert(before, id=[1], name=["a"], note=["x"])
        lineage.write(first)
        assert lineage.migrate(after).mark == mark
        second = lineage.insert(after, id=[2], name=["b"], note=["y"])
        lineage.write(second)
        same(lineage, before, first.batch, second.batch)

    def test_a_column_may_be_null_from_now_on(self, lineage: Lineage) -> None:
        before, after = _with(pa.field("value", pa.int64(), nullable=False)), _with(pa.field("value", pa.int64()))
        lineage.migrate(before)
        first = _rows(lineage, before, 0)
        lineage.migrate(after)
        assert lineage.migrate(after).changes == ()
        nulls = lineage.insert(after, id=[10], name=["10"], value=[None])
        lineage.write(nulls)
        same(lineage, after, first, nulls.batch)

    def test_a_column_that_may_be_null_no_more_keeps_its_rows_or_is_refused(self, lineage: Lineage) -> None:
        before, after = _with(pa.field("value", pa.int64())), _with(pa.field("value", pa.int64(), nullable=False))
        lineage.migrate(before)
        nulls = lineage.insert(before, id=[1], name=["a"], value=[None])
        lineage.write(nulls)
        try:
            lineage.migrate(after)
        except TaskError:
            pass
        else:
            assert lineage.migrate(after).changes == ()
        same(lineage, before, nulls.batch)

    @pytest.mark.parametrize("kind", _SAMPLES)
    @pytest.mark.parametrize("mode", WriteMode)
    def test_nulls_without_a_type_go_into_a_column_of_any_type_or_are_refused(
        self, lineage: Lineage, kind: str, mode: WriteMode
    ) -> None:
        lineage.mode, sample = mode, _SAMPLES[kind]()
        if refuses(lineage) or refuses_type(lineage, sample.type):
            return
        before, after = _with(pa.field("value", sample.type)), _with(pa.field("value", pa.null()))
        lineage.migrate(before)
        first = lineage.insert(before, id=[1], name=["a"], value=sample)
        lineage.write(first)
        try:
            lineage.migrate(after)
        except REFUSALS:
            same(lineage, before, first.batch)
            return
        nulls = lineage.insert(after, id=[2, 3], name=["b", "c"], value=[None] * 2)
        lineage.write(nulls)
        same(lineage, before, first.batch, nulls.batch.select([*nulls.batch.schema.names[:-1]]))
        assert lineage.migrate(before).changes == ()
