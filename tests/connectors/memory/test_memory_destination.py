"""What the destination ``memory`` does beyond the contract of every destination."""

import uuid
from collections.abc import Iterator

import pytest

from strandline.connectors.memory.destination import MemoryDestination
from strandline.destination import WriteMode
from strandline.errors import TaskError, UsageError
from strandline.message import Complete, Delete, Truncate
from strandline.table import Table
from strandline.testing.destination_fixtures import keys, orders, same, unkeyed
from strandline.testing.windows import Lineage


@pytest.fixture
def name() -> Iterator[str]:
    name = uuid.uuid4().hex
    yield name
    MemoryDestination.reset(name)


@pytest.fixture
def lineage(name: str) -> Lineage:
    return Lineage(opened(name))


def opened(name: str) -> MemoryDestination:
    return MemoryDestination(MemoryDestination.Spec(name=name))


def row(lineage: Lineage, number: int = 1, **options):
    return lineage.insert(orders(), id=[number], name=["a"], note=["x"], **options)


def test_handles_of_one_name_share_a_store(lineage, name):
    lineage.migrate(orders())
    lineage.write(row(lineage))
    same(Lineage(opened(name)), orders(), row(lineage).batch)
    assert Lineage(opened(name)).stored() == lineage.state
    assert Lineage(opened(f"{name} other")).migrate(orders(), apply=False).mark is None


def test_a_store_that_is_reset_is_empty(lineage, name):
    lineage.migrate(orders())
    lineage.write(row(lineage))
    MemoryDestination.reset(name)
    fresh = Lineage(opened(name))
    assert fresh.migrate(orders(), apply=False).mark is None
    assert fresh.stored() is None


def test_a_table_that_was_dropped_is_missed(lineage):
    mark = lineage.migrate(orders()).mark
    lineage.write(row(lineage))
    lineage.destination.drop_table("orders")
    with pytest.raises(TaskError, match="no table 'orders'"):
        lineage.write(row(lineage))
    with pytest.raises(TaskError, match="no table 'orders'"):
        lineage.read(orders())
    found = lineage.migrate(orders())
    assert found.mark != mark
    assert found.empty


@pytest.mark.parametrize("gone", [Truncate("orders"), Delete("orders", keys(orders(), 1))])
def test_what_went_while_overwriting_is_stored_when_it_is_appended_again(lineage, gone):
    lineage.mode = WriteMode.APPEND
    lineage.migrate(orders())
    lineage.write(row(lineage, reread=True), Complete("orders"))
    lineage.mode = WriteMode.OVERWRITE
    lineage.write(gone, Complete("orders"))
    lineage.mode = WriteMode.APPEND
    lineage.next_pass()
    again = row(lineage, reread=True)
    lineage.write(again, Complete("orders"))
    same(lineage, orders(), again.batch)


def test_rows_without_any_key_are_not_overwritten(lineage):
    table = Table("orders", orders().schema)
    lineage.migrate(table)
    with pytest.raises(UsageError, match="no primary key"):
        lineage.write(row(lineage))


def test_rows_without_a_version_cannot_be_numbered(lineage):
    table = unkeyed()
    lineage.migrate(table)
    message = lineage.insert(table, id=[1], name=["a"])
    with pytest.raises(TaskError, match="versions"):
        lineage.write(type(message)(message.table, message.batch))


def test_a_message_about_an_unknown_table_fails_the_window(lineage):
    lineage.migrate(orders())
    with pytest.raises(TaskError, match="'strange'"):
        lineage.write(row(lineage), Complete("strange"))
    same(lineage, orders())
