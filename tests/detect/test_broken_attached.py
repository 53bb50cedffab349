"""SQL destinations that are careless with what people have attached to our tables: the tests of that tell."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import test_attached_deletes
from attached_warehouse import opened
from checks import Broken, Check

from strandline.connectors.sql import merge as sql_merge
from strandline.connectors.sql import upsert as sql_upsert
from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.merge import Merge
from strandline.connectors.sql.migration import Migrator
from strandline.testing.destination_attached import ColumnCases
from strandline.testing.destination_ownership import OwnershipCases

broken = Broken()


def _at(kind, test, **arguments):
    """The check that a test passes at a warehouse of one kind."""

    def check():
        with TemporaryDirectory() as directory, opened(kind, Path(directory), "") as warehouse:
            if test.__module__ == test_attached_deletes.__name__:
                test_attached_deletes.prepare(warehouse)
            test(warehouse, **arguments)

    return Check(test.__name__, check)


def _columns(kind, case, *, suite=ColumnCases, **arguments):
    """The check that a case of the suite passes at a warehouse of one kind."""

    def check():
        with TemporaryDirectory() as directory, opened(kind, Path(directory), "") as warehouse:
            case(
                suite(),
                lineage=warehouse.lineage,
                stranger=lambda table, statement: warehouse.sql(statement.format(table=table)),
                **arguments,
            )

    return Check(case.__name__, check)


UPDATED = partial(
    _columns, case=ColumnCases.test_somebodys_column_keeps_its_values_when_rows_are_updated, update="one row"
)
REFRESHED = partial(_columns, case=ColumnCases.test_somebodys_column_keeps_its_values_at_a_full_refresh, keyed=True)
MODE = test_attached_deletes.WriteMode.OVERWRITE
REFERRED = partial(
    _at, test=test_attached_deletes.test_a_row_that_somebody_refers_to_is_not_deleted, action="ON DELETE CASCADE"
)


@broken("P50", "DuckDB replaces a row without what somebody has in it", UPDATED("duckdb", mode=MODE))
def forgets_columns_of_others(patch):
    patch.setattr(Attached, "theirs", lambda *_: ())


@broken("P50", "a full refresh deletes all rows and inserts them again", REFRESHED("sqlite", mode=MODE))
def replaces_every_row(patch):
    patch.setattr(Merge, "_exchange", lambda merge, *arguments: merge._replace(*arguments, ()))


@broken(
    "P50",
    "a column of the source overwrites one of somebody else's",
    _columns(
        "sqlite",
        ColumnCases.test_a_column_of_the_source_does_not_overwrite_one_that_somebody_has_added,
        mode=test_attached_deletes.MigrateMode.SAFE,
    ),
)
def takes_columns_of_others(patch):
    patch.setattr(Migrator, "_check_columns", lambda *_: None)


@broken(
    "P43",
    "a full table is ours by its name alone",
    _columns(
        "sqlite",
        OwnershipCases.test_a_table_that_somebody_made_in_the_place_of_ours_is_not_touched,
        suite=OwnershipCases,
        mode=test_attached_deletes.MigrateMode.SAFE,
    ),
)
def goes_by_the_name(patch):
    patch.setattr(Migrator, "_is_made_by_us", lambda *_: True)


@broken("P50", "rows are deleted to which somebody refers, and orphans stay", REFERRED("sqlite", how="stale"))
def leaves_orphans(patch):
    patch.setattr(sql_merge, "check_unreferenced", lambda *_, **__: None)


@broken(
    "P50",
    "rows that exchange what is unique are deleted for a moment, whoever refers to them",
    _at("sqlite", test_attached_deletes.test_rows_that_exchange_what_is_unique_take_nothing_with_them),
)
def replaces_what_is_referred_to(patch):
    patch.setattr(sql_upsert, "check_unreferenced", lambda *_, **__: None)


@broken(
    "P50",
    "a full refresh fires the triggers of a delete for every row",
    _at("sqlite", test_attached_deletes.TestEverything().test_a_full_refresh_fires_triggers_for_what_has_changed_only),
)
def minds_no_trigger(patch):
    patch.setattr(Attached, "minds", lambda self, table: bool(self.theirs(table)))


@pytest.mark.parametrize(("check", "breaks"), broken)
def test_what_is_careless_with_what_people_attached_is_noticed(check, breaks, monkeypatch):
    assert not check.findings()
    breaks(monkeypatch)
    assert check.findings()
