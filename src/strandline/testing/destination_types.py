"""Cases: values of every type, and names of every kind."""

from collections.abc import Sequence
from typing import Any

import pytest

from strandline.destination import WriteMode
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.message import Delete
from strandline.table import Table
from strandline.testing.boundaries import BOUNDARIES, EXTREMES, LOOKALIKES, ODD_NAMES, RESERVED_NAMES, array_of
from strandline.testing.data import TYPES, random_array
from strandline.testing.destination_fixtures import (
    REFUSALS,
    DestinationFixtures,
    keys,
    orders,
    refuses,
    refuses_type,
    same,
)
from strandline.testing.windows import Lineage

__all__ = ["NameCases", "TypeCases"]


def _stores(lineage: Lineage, values: "pa.Array") -> None:
    """The values come back as they are: at once, and after others have taken their place."""
    table = orders(value=values.type)
    lineage.migrate(table)
    rows = lineage.insert(table, id=list(range(len(values))), value=values)
    lineage.write(rows)
    same(lineage, table, rows.batch)
    moved = lineage.insert(table, id=list(range(1, len(values) + 1)), value=values)
    lineage.write(moved)
    if lineage.mode is WriteMode.APPEND:
        same(lineage, table, rows.batch, moved.batch)
    else:
        same(lineage, table, rows.batch.slice(0, 1), moved.batch)


class TypeCases(DestinationFixtures):
    """Every Arrow type is stored exactly, or declared to be refused."""

    @pytest.mark.parametrize("name", TYPES)
    def test_a_type_alone(self, lineage: Lineage, name: str) -> None:
        kind = TYPES[name]()
        if not refuses_type(lineage, kind):
            _stores(lineage, random_array(kind, 25))

    @pytest.mark.parametrize("name", TYPES)
    def test_nothing_but_nulls_of_a_type(self, lineage: Lineage, name: str) -> None:
        kind = TYPES[name]()
        if not refuses_type(lineage, kind):
            _stores(lineage, pa.nulls(3, kind))

    @pytest.mark.parametrize("name", BOUNDARIES)
    def test_values_at_the_edges_of_a_type(self, lineage: Lineage, name: str) -> None:
        values = array_of(BOUNDARIES[name])
        if not refuses_type(lineage, values.type):
            _stores(lineage, values)

    @pytest.mark.parametrize("name", EXTREMES)
    def test_extreme_values_are_stored_exactly_or_refused(self, lineage: Lineage, name: str) -> None:
        values = array_of(EXTREMES[name])
        if refuses_type(lineage, values.type):
            return
        table = orders(value=values.type)
        lineage.migrate(table)
        for number, value in enumerate(values.slice(at, 1) for at in range(len(values))):
            before = lineage.read(table)
            row = lineage.insert(table, id=[number], value=value)
            try:
                lineage.write(row)
            except TaskError:
                same(lineage, table, *before)
            else:
                same(lineage, table, *before, row.batch)


class NameCases(DestinationFixtures):
    """Names are used as they are."""

    def test_tables_of_any_name(self, lineage: Lineage) -> None:
        tables = [orders(name) for name in ODD_NAMES]
        self._check_tables(lineage, tables)

    def test_columns_of_any_name(self, lineage: Lineage) -> None:
        table = orders("odd columns", **dict.fromkeys(ODD_NAMES, pa.string()))
        self._check_columns(lineage, table, ODD_NAMES)

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_a_key_of_any_name(self, lineage: Lineage, name: str) -> None:
        plain = orders(**{name: pa.string(), "value": pa.string()})
        table = Table(name, plain.schema, ("id", name))
        lineage.migrate(table)
        lineage.write(lineage.insert(table, {"id": [1, 1], name: ["a", "b"], "value": ["x", "y"]}))
        lineage.write(lineage.insert(table, {"id": [1], name: ["a"], "value": ["z"]}))
        appended = [lineage.batch(table, {"id": [1], name: ["a"], "value": ["x"]})] * (lineage.mode is WriteMode.APPEND)
        same(lineage, table, lineage.batch(table, {"id": [1, 1], name: ["a", "b"], "value": ["z", "y"]}), *appended)

    @pytest.mark.parametrize("name", RESERVED_NAMES)
    def test_a_reserved_name_is_used_as_it_is_or_refused(self, lineage: Lineage, name: str) -> None:
        for table in (orders(name or "x"), orders("plain", **{name: pa.string()})):
            try:
                lineage.migrate(table)
            except REFUSALS:
                continue
            if table.name == name:
                self._check_tables(lineage, [table])
            else:
                self._check_columns(lineage, table, [name])

    @pytest.mark.parametrize("names", LOOKALIKES)
    def test_names_that_look_alike_are_kept_apart_or_refused(self, lineage: Lineage, names: Sequence[str]) -> None:
        tables = []
        for table in map(orders, names):
            try:
                lineage.migrate(table)
            except REFUSALS:
                continue
            tables.append(table)
        self._check_tables(lineage, tables)
        columns = orders("plain", **dict.fromkeys(names, pa.string()))
        try:
            lineage.migrate(columns)
        except REFUSALS:
            assert lineage.migrate(orders("plain"), apply=False).mark is None
            return
        self._check_columns(lineage, columns, names)

    @staticmethod
    def _check_tables(lineage: Lineage, tables: list[Table]) -> None:
        """Each of the tables holds its own rows only."""
        rows: dict[str, Any] = {}
        for table in tables:
            lineage.migrate(table)
            rows[table.name] = lineage.insert(table, id=[1], name=[table.name], note=[None])
        lineage.write(*rows.values())
        for table in tables:
            assert lineage.migrate(table).changes == (), table.name
            same(lineage, table, rows[table.name].batch)
        lineage.next_pass()
        if lineage.mode is WriteMode.APPEND or refuses(lineage, deletes=True):
            return
        for table in tables:
            lineage.write(Delete(table.name, keys(table, 2)), rows[table.name])
            assert lineage.delete_stale(table) == 1, table.name
            same(lineage, table)

    @staticmethod
    def _check_columns(lineage: Lineage, table: Table, names: Sequence[str]) -> None:
        """Each of the columns holds its own values only, and can be left out."""
        lineage.migrate(table)
        assert lineage.migrate(table).changes == ()
        first = lineage.insert(table, {name: [name] for name in names}, id=[1])
        second = lineage.insert(table, {names[0]: ["alone"]}, id=[2])
        lineage.write(first, second)
        same(lineage, table, first.batch, second.batch)
        assert [batch.schema.names for batch in lineage.read(table, columns=list(names))][:1] == [list(names)]
