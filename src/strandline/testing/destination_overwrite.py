"""Cases: how rows meet the rows that are already there."""

import pytest

from strandline.destination import WriteMode
from strandline.lazy import pa
from strandline.message import Delete, Insert
from strandline.table import Table
from strandline.testing.data import all_types_table
from strandline.testing.destination_fixtures import (
    REFUSALS,
    DestinationFixtures,
    all_types_rows,
    keys,
    needs,
    orders,
    refuses,
    refuses_type,
    same,
)
from strandline.testing.exact import assert_same_rows
from strandline.testing.windows import Lineage

__all__ = ["OverwriteCases"]

_OVERWRITING = [WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE]


class OverwriteCases(DestinationFixtures):
    """How rows meet the rows that are already there."""

    @pytest.mark.parametrize("mode", _OVERWRITING)
    def test_a_row_that_comes_again_is_one_row(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, table = mode, orders()
        if refuses(lineage):
            return
        lineage.migrate(table)
        message = lineage.insert(table, id=[1], name=["foo"], note=[None])
        lineage.write(message)
        same(lineage, table, message.batch)
        lineage.write(message)
        same(lineage, table, message.batch)

    @pytest.mark.parametrize("mode", _OVERWRITING)
    def test_the_last_of_a_key_in_a_batch_wins(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, table = mode, orders()
        if refuses(lineage):
            return
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1] * 10, name=[f"foo{at}" for at in range(10)], note=["x"] * 10))
        same(lineage, table, lineage.batch(table, id=[1], name=["foo9"], note=["x"]))

    @needs(WriteMode.OVERWRITE)
    @pytest.mark.parametrize(
        "parts", [[[1, 2, 2, 3]], [[1, 2], [2, 3]], [[2, 3], [1, 2]], [[1], [2], [3], [3]]], ids=str
    )
    def test_the_last_of_a_key_wins_in_whatever_order_keys_come(self, lineage: Lineage, parts: list[list[int]]) -> None:
        table, names = orders(), [f"foo{at}" for at in range(4)]
        lineage.migrate(table)
        ids = [one for part in parts for one in part]
        starts = [sum(map(len, parts[:at])) for at in range(len(parts))]
        lineage.write(
            *(
                lineage.insert(table, id=part, name=names[start : start + len(part)], note=["x"] * len(part))
                for start, part in zip(starts, parts, strict=True)
            )
        )
        last = dict(zip(ids, names, strict=True))
        same(lineage, table, lineage.batch(table, id=list(last), name=list(last.values()), note=["x"] * len(last)))

    @needs(WriteMode.OVERWRITE)
    def test_all_types_are_overwritten_by_nulls(self, lineage: Lineage) -> None:
        table = all_types_table("all_types", refused=lineage.destination.capabilities.types_refused)
        lineage.migrate(table)
        rows, nulls = all_types_rows(lineage, table), all_types_rows(lineage, table, nulls=True)
        lineage.write(Insert(table.name, rows))
        same(lineage, table, rows)
        lineage.write(Insert(table.name, nulls))
        same(lineage, table, nulls)

    @needs(WriteMode.OVERWRITE)
    def test_the_last_in_the_stream_wins_whatever_its_values_say(self, lineage: Lineage) -> None:
        table = orders(updated_at=pa.timestamp("us"), amount=pa.int64())
        lineage.migrate(table)
        newer = lineage.insert(table, id=[1, 2], updated_at=[2000, 2000], amount=[9, 9])
        older = lineage.insert(table, id=[1], updated_at=[1000], amount=[1])
        lineage.write(newer, older)
        same(lineage, table, older.batch, newer.batch.slice(1))
        lineage.write(newer)
        lineage.write(older)
        same(lineage, table, older.batch, newer.batch.slice(1))

    @needs(WriteMode.OVERWRITE)
    def test_a_row_of_an_older_pass_wins_if_it_comes_last(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        old = lineage.insert(table, id=[1], name=["old"], note=[None])
        lineage.next_pass()
        lineage.write(lineage.insert(table, id=[1], name=["new"], note=[None]), old)
        same(lineage, table, old.batch)

    @needs(WriteMode.OVERWRITE)
    def test_a_composite_key_is_all_of_its_columns(self, lineage: Lineage) -> None:
        plain = orders(line=pa.string(), amount=pa.int64())
        table = Table("lines", plain.schema, ("id", "line"))
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 1, 2, 1], line=["a", "b", "a", "a"], amount=[1, 2, 3, 4]))
        same(lineage, table, lineage.batch(table, id=[1, 1, 2], line=["b", "a", "a"], amount=[2, 4, 3]))

    @needs(WriteMode.OVERWRITE)
    def test_keys_that_look_alike_are_not_the_same(self, lineage: Lineage) -> None:
        texts = [
            "a",
            "A",
            "a ",
            " a",
            "",
            " ",
            "\u00e9",
            "e\u0301",
            "e",
            "ss",
            "\u00df",
            "1",
            "01",
            "1.0",
            "i",
            "\u0131",
        ]
        table = Table("alike", orders(code=pa.string(), amount=pa.int64()).schema, ("code",))
        lineage.migrate(table)
        for amount in (1, 2):
            lineage.write(lineage.insert(table, id=[0] * len(texts), code=texts, amount=[amount] * len(texts)))
        same(lineage, table, lineage.batch(table, id=[0] * len(texts), code=texts, amount=[2] * len(texts)))

    @needs(WriteMode.OVERWRITE)
    def test_intervals_of_one_length_are_different_keys_or_no_keys(self, lineage: Lineage) -> None:
        kind, spans = pa.month_day_nano_interval(), [(1, 0, 0), (0, 30, 0), (0, 1, 0), (0, 0, 86_400_000_000_000)]
        for name, inner in (("spans", kind), ("lists", pa.list_(kind))):
            if refuses_type(lineage, inner):
                continue
            table = Table(name, orders(span=inner, amount=pa.int64()).schema, ("span",))
            values = pa.array(spans if inner is kind else [[one] for one in spans], inner)
            try:
                lineage.migrate(table)
            except REFUSALS:
                assert lineage.migrate(orders(name, amount=pa.int64()), apply=False).mark is None
                continue
            for amount in (1, 2):
                lineage.write(lineage.insert(table, id=[0] * 4, span=values, amount=[amount] * 4))
            same(lineage, table, lineage.batch(table, id=[0] * 4, span=values, amount=[2] * 4))

    @pytest.mark.parametrize("kind", ["int8", "uint64", "bool_", "binary", "date32", "uuid", "timestamp", "decimal128"])
    @needs(WriteMode.OVERWRITE)
    def test_keys_of_many_types(self, lineage: Lineage, kind: str) -> None:
        arguments = {"timestamp": ("ns", "UTC"), "decimal128": (38, 2)}.get(kind, ())
        key_type = getattr(pa, kind)(*arguments)
        storage = {"binary": [b"", b"\0"], "uuid": [b"\0" * 16, b"\xff" * 16], "bool_": [False, True]}.get(kind, [0, 1])
        if kind == "timestamp":
            values = pa.array(storage, pa.int64()).view(key_type)  # they differ by a nanosecond
        elif kind == "uuid":
            values = pa.ExtensionArray.from_storage(key_type, pa.array(storage, pa.binary(16)))
        else:
            values = pa.array(storage, key_type)
        if refuses_type(lineage, key_type):
            return
        table = Table("keyed", orders(key=key_type, amount=pa.int64()).schema, ("key",))
        lineage.migrate(table)
        for amount in (1, 2):
            lineage.write(lineage.insert(table, id=[0, 0], key=values, amount=[amount, amount]))
        same(lineage, table, lineage.batch(table, id=[0, 0], key=values, amount=[2, 2]))

    @needs(WriteMode.OVERWRITE)
    def test_a_row_belongs_to_the_source_that_delivered_it_last(self, lineage: Lineage) -> None:
        table, other = orders(), Lineage(lineage.destination, lineage.mode, source="other shop")
        for one in (lineage, other):
            one.migrate(table)
            one.write(one.insert(table, id=[1], name=[one.source], note=[None]))
        same(lineage, table, other.batch(table, id=[1], name=["other shop"], note=[None]))

    @needs(WriteMode.OVERWRITE)
    def test_an_absent_column_leaves_what_is_stored(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x", "y"]))
        lineage.next_pass()
        lineage.write(lineage.insert(table, id=[1, 3], name=["new", "c"]))
        first = lineage.batch(table, id=[1, 3], name=["new", "c"], note=["x", None])
        second = lineage.batch(table, id=[2], name=["b"], note=["y"])
        columns = ["id", "name", "note"]
        assert_same_rows([first, second], lineage.read(table), table, *columns)

    @needs(WriteMode.OVERWRITE)
    def test_an_absent_column_leaves_what_came_before_it_in_the_window(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(
            lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x", "y"]),
            lineage.insert(table, id=[1, 1], name=["c", "d"]),
            lineage.insert(table, id=[2], note=["z"]),
        )
        same(lineage, table, lineage.batch(table, id=[1, 2], name=["d", "b"], note=["x", "z"]))

    @needs(WriteMode.OVERWRITE)
    def test_a_null_that_is_there_is_stored(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1], name=["a"], note=["x"]))
        lineage.write(lineage.insert(table, id=[1], note=[None]))
        same(lineage, table, lineage.batch(table, id=[1], name=["a"], note=[None]))

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_an_absent_column_of_a_deleted_row_is_null(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1], name=["a"], note=["x"]))
        lineage.write(Delete(table.name, keys(table, 1)), lineage.insert(table, id=[1], name=["b"]))
        same(lineage, table, lineage.batch(table, id=[1], name=["b"], note=[None]))

    @needs(WriteMode.OVERWRITE)
    def test_a_large_window_of_many_batches(self, lineage: Lineage) -> None:
        table = orders(amount=pa.int64())
        lineage.migrate(table)
        batches = [range(at, at + 1000) for at in range(0, 10_000, 500)]  # every key twice, but for the ends
        lineage.write(
            *(lineage.insert(table, id=list(ids), amount=[number] * 1000) for number, ids in enumerate(batches))
        )
        last = {key: number for number, ids in enumerate(batches) for key in ids}
        same(lineage, table, lineage.batch(table, id=list(last), amount=list(last.values())))
