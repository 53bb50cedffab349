"""A PostgreSQL source that passes over what it may not read, what changed without a row, or what its keys do not tell."""

import pytest
import test_postgresql_depends
import test_postgresql_ids
import test_postgresql_keys
import test_postgresql_rights
import test_postgresql_sweep
from checks import Check
from postgresql_origin import Origin

from strandline.connectors.postgresql import catalog as postgresql_catalog
from strandline.connectors.postgresql import depends as postgresql_depends
from strandline.connectors.postgresql import key as postgresql_key
from strandline.connectors.postgresql import plan as postgresql_plan
from strandline.connectors.postgresql import reading as postgresql_reading
from strandline.connectors.postgresql import source as postgresql_source
from strandline.connectors.postgresql.back import Back

BROKEN = []
AS_OWNER, AS_READER = "postgres", "reader"


def broken(promise, what, test, *arguments, role=AS_OWNER):
    def register(breaks):
        marks = pytest.mark.detects(promise, f"PostgreSQL: {what}", by=test.__name__)
        BROKEN.append(pytest.param(test, arguments, role, breaks, marks=marks, id=breaks.__name__))
        return breaks

    return register


NAMED = test_postgresql_rights.test_a_table_without_a_right_is_named_with_the_statement_that_grants_it
HIDDEN = test_postgresql_depends.test_rows_that_row_security_hides_for_a_while_come_back
EXCHANGED = test_postgresql_depends.test_a_column_is_another_one_of_its_name
AGAIN = test_postgresql_sweep.test_rows_that_were_loaded_again_with_old_stamps_arrive
SHARED = test_postgresql_keys.test_rows_that_share_a_primary_key_are_counted
FUTURE = test_postgresql_keys.test_one_row_dated_into_the_future_hides_no_later_row
REFUSED = test_postgresql_keys.test_a_type_without_an_order_of_change_is_refused
TEXTS = test_postgresql_keys.test_texts_without_an_order_of_change_fail


@broken("P44", "tables without rights are left out", NAMED, role=AS_READER)
def offers_what_it_may_read(patch):
    patch.setattr(
        postgresql_catalog, "_CHOSEN", f"{postgresql_catalog._CHOSEN} AND has_table_privilege(c.oid, 'SELECT')"
    )


@broken("P45", "nothing but rows is looked at", HIDDEN, {}, role=AS_READER)
def looks_at_rows_only(patch):
    patch.setattr(postgresql_reading, "depended", lambda *_: {})


@broken("P45", "a column is its name", EXCHANGED, {}, "names are exchanged")
def takes_columns_for_their_names(patch):
    sound = postgresql_depends.facts

    def facts(session, plan):
        return {part: value for part, value in sound(session, plan).items() if not part.startswith("column ")}

    patch.setattr(postgresql_depends, "facts", facts)


@broken("P45", "ids only grow", test_postgresql_ids.test_rows_whose_ids_were_handed_out_again_arrive, "truncated", 6)
def trusts_ids(patch):
    patch.setattr(postgresql_reading, "look_back", lambda *_, **__: Back(None, suspects=False))


@broken("P46", "no row is found by its key", AGAIN)
def finds_no_row(patch):
    patch.setattr(postgresql_source, "rows_of", lambda *_: iter(()))


@broken("P47", "a primary key of the spec is believed", SHARED, "CREATE TABLE t (a int, v text)")
def believes_in_the_key(patch):
    patch.setattr(postgresql_reading, "repeated_keys", lambda *_: iter(()))


@broken("P47", "a number is an id", FUTURE, ("bigint", "{}"))
def takes_times_for_ids(patch):
    patch.setattr(postgresql_key, "past", lambda *_: None)


@broken("P47", "any type has an order", REFUSED, "inet")
def takes_any_type(patch):
    patch.setattr(postgresql_plan, "_check_order", lambda *_: None)


@broken("P47", "any text has an order", TEXTS, ("8", "9"))
def takes_any_text(patch):
    patch.setattr(postgresql_key, "check_values", lambda *_: None)


def findings(test, arguments, role, uri):
    origin = Origin(uri, "overwrite-delete-stale")
    # as the fixtures of these tests do
    origin.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "GRANT USAGE ON SCHEMA public TO PUBLIC")
    if test is test_postgresql_ids.test_rows_whose_ids_were_handed_out_again_arrive:
        origin.tables = {"t": {"incremental_key": "id"}}
        origin.execute(test_postgresql_ids.TABLE, test_postgresql_ids.INSERT.format("old", 10))
        origin.sync()
        origin.mode = origin.mode.OVERWRITE
    origin.admin, origin.uri = uri, uri.replace("postgres@", f"{role}@")
    return Check(test.__name__, lambda: test(origin, *arguments)).findings()


@pytest.fixture
def roles(postgresql):
    owner = Origin(postgresql)
    owner.execute("CREATE ROLE reader LOGIN", "CREATE ROLE staff")
    yield
    owner.execute("DROP OWNED BY reader, staff", "DROP ROLE reader, staff")


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize(("test", "arguments", "role", "breaks"), BROKEN)
def test_what_is_passed_over_is_noticed(test, arguments, role, breaks, postgresql, monkeypatch):
    assert not findings(test, arguments, role, postgresql)
    breaks(monkeypatch)
    assert findings(test, arguments, role, postgresql)
