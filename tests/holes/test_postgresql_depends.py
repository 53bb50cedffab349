"""What changes the rows of a table without writing one: policies, roles, columns, types, views, and what lies below them."""

import pytest
from postgresql_origin import TABLE, Origin, fill

BY_AT = {"incremental_key": "at", "primary_key": ["id"]}


@pytest.fixture(params=("append", "overwrite-delete-stale"))
def shop(request, postgresql):
    return Origin(postgresql, request.param)


@pytest.fixture
def limited(shop):
    """Read by a role that owns nothing; ``admin`` does."""
    shop.execute("CREATE ROLE reader LOGIN", "CREATE ROLE staff")
    shop.admin, shop.uri = shop.uri, shop.uri.replace("postgres@", "reader@")
    yield shop
    shop.execute("DROP OWNED BY reader, staff", "DROP ROLE reader, staff", uri=shop.admin)


def admin(shop, *statements):
    shop.execute(*statements, uri=getattr(shop, "admin", shop.uri))


def noticed(shop, *words):
    """The next sync says what has changed. In append mode it stops; else it reads everything, and sweeps nothing."""
    before = len(shop.rows("id"))
    task = shop.report(code=1 if shop.mode == "append" else 0)
    said = task.error.message if task.error else " ".join(task.warnings)
    assert all(word in said for word in words), said
    if task.error:
        assert "--full-refresh" in task.error.hint
        shop.sync(refresh=lambda task: True)
    else:
        assert len(shop.rows("id")) >= before


def unnoticed(shop):
    report = shop.report()
    assert not report.warnings
    assert not report.full


def wanted(shop, columns="id", table="t"):
    with shop.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(f"SELECT {columns} FROM {table}"))


# row security --------------------------------------------------------------------------------------------------------

SECURED = ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON t FOR SELECT TO reader USING (id > 4)")


@pytest.mark.parametrize("key", [{}, {"incremental_key": "id", "deletes": "sweep"}], ids=["xid", "key"])
def test_rows_that_row_security_hides_for_a_while_come_back(limited, key):
    limited.tables = {"t": key}
    admin(limited, TABLE, fill(1, 10), "GRANT SELECT ON t TO reader")
    limited.sync()
    admin(limited, *SECURED)
    noticed(limited, "row security was switched on")
    admin(limited, "ALTER TABLE t DISABLE ROW LEVEL SECURITY")
    noticed(limited, "row security was switched off")
    assert limited.ids() == list(range(1, 11))
    unnoticed(limited)


def test_a_policy_that_is_changed_reveals_rows(limited):
    admin(limited, TABLE, fill(1, 10), "GRANT SELECT ON t TO reader", *SECURED)
    limited.sync()
    admin(limited, fill(11, 11))
    unnoticed(limited)
    admin(limited, "DELETE FROM t WHERE id = 11", "ALTER POLICY p ON t USING (id > 2)")
    noticed(limited, "other policies")
    assert set(range(3, 11)) <= set(limited.ids())
    admin(limited, "CREATE POLICY q ON t FOR SELECT TO staff USING (true)")
    unnoticed(limited)
    admin(limited, "GRANT staff TO reader")
    noticed(limited, "other policies")
    assert set(range(1, 11)) <= set(limited.ids())


def test_a_policy_reads_another_table(limited):
    admin(
        limited,
        "CREATE TABLE t (id int PRIMARY KEY, team int)",
        "INSERT INTO t SELECT i, i % 2 FROM generate_series(1, 10) AS n(i)",
        "CREATE TABLE members (team int)",
        "INSERT INTO members VALUES (0)",
        "CREATE FUNCTION may(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 = 7'",
        "GRANT SELECT ON t, members TO reader",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON t USING (team IN (SELECT team FROM members) OR may(id))",
    )
    limited.tables = {"t": {"deletes": "ignore"}}
    limited.sync()
    unnoticed(limited)
    admin(limited, "INSERT INTO members VALUES (1)")
    noticed(limited, "members")
    assert limited.ids() == list(range(1, 11))
    admin(limited, "CREATE OR REPLACE FUNCTION may(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 = 9'")
    noticed(limited, "function public.may was redefined")


def test_another_role_sees_other_rows(limited):
    admin(limited, TABLE, fill(1, 10), "GRANT SELECT ON t TO reader", *SECURED)
    limited.sync()
    reader, limited.uri = limited.uri, limited.admin
    noticed(limited, "row security was switched off")
    assert limited.ids() == list(range(1, 11))
    limited.uri = reader
    noticed(limited, "row security was switched on")


def test_another_role_that_sees_the_same_reads_nothing_again(limited):
    admin(limited, TABLE, fill(1, 10), "GRANT SELECT ON t TO reader")
    limited.sync()
    limited.uri = limited.admin
    unnoticed(limited)


# columns -------------------------------------------------------------------------------------------------------------

FIRST = "INSERT INTO t (id, a, b) VALUES (1, 'a1', 'b1'), (2, 'a2', 'b2')"
NAMED = ("CREATE TABLE t (id int PRIMARY KEY, a text, b text, at timestamptz DEFAULT '2026-01-01')", FIRST)
WAYS = pytest.mark.parametrize("key", [{}, BY_AT], ids=["xid", "key"])
CHANGES = {
    "names are exchanged": ["RENAME a TO x", "RENAME b TO a", "RENAME x TO b"],
    "dropped and added": ["DROP a", "ADD a text"],
    "dropped, and another takes its name": ["DROP a", "RENAME b TO a", "ADD b text DEFAULT 'new'"],
    "another type": ["ALTER b TYPE varchar USING upper(b)"],
    "another collation": ['ALTER a TYPE text COLLATE "C"'],
}


@WAYS
@pytest.mark.parametrize("how", CHANGES)
def test_a_column_is_another_one_of_its_name(shop, key, how):
    shop.tables = {"t": key}
    shop.execute(*NAMED)
    shop.sync()
    shop.execute(*(f"ALTER TABLE t {one}" for one in CHANGES[how]), "INSERT INTO t (id, a, b) VALUES (3, 'a3', 'b3')")
    noticed(shop, "another one")
    assert shop.rows("id", "a", "b") == wanted(shop, "id, a, b")
    unnoticed(shop)


def test_a_column_comes_back_by_its_old_name_after_a_sync_without_it(shop):
    shop.execute(*NAMED)
    shop.sync()
    shop.execute("ALTER TABLE t DROP a")
    shop.sync()
    shop.execute("ALTER TABLE t ADD a text")
    noticed(shop, "column 'a' is another one")


def test_a_generated_column_has_another_expression(shop):
    made = "ALTER TABLE t ADD c text GENERATED ALWAYS AS ({}) STORED"
    shop.tables = {"t": BY_AT}
    shop.execute(*NAMED, made.format("a || b"))
    shop.sync()
    shop.execute("ALTER TABLE t DROP c", made.format("b || a"))
    noticed(shop, "column 'c' is another one")
    assert shop.rows("id", "c") == wanted(shop, "id, c")


def test_keys_are_exchanged_with_another_column(shop):
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, old int)", "INSERT INTO t VALUES (1, 11), (2, 12)")
    shop.sync()
    shop.execute("ALTER TABLE t RENAME id TO x", "ALTER TABLE t RENAME old TO id", "ALTER TABLE t RENAME x TO old")
    shop.execute("ALTER TABLE t DROP CONSTRAINT t_pkey", "ALTER TABLE t ADD PRIMARY KEY (id)")
    noticed(shop, "column 'id' is another one")
    assert {(11, 1), (12, 2)} <= set(shop.rows("id", "old"))


# types ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mood", "mood[]", "happy", "pair"])
def test_a_label_gets_another_name(shop, kind):
    value = {"mood[]": "'{glad}'", "pair": "'(glad,1)'"}.get(kind, "'glad'")
    shop.execute(
        "CREATE TYPE mood AS ENUM ('glad', 'sad')",
        "CREATE DOMAIN happy AS mood",
        "CREATE TYPE pair AS (m mood, n int)",
        f"CREATE TABLE t (id int PRIMARY KEY, k {kind})",
        f"INSERT INTO t VALUES (1, {value})",
    )
    shop.sync()
    shop.execute("ALTER TYPE mood RENAME VALUE 'glad' TO 'merry'")
    noticed(shop, "'glad' of type mood is called 'merry'")
    assert "merry" in str(shop.rows("k"))


def test_an_attribute_gets_another_name(shop):
    shop.execute("CREATE TYPE pair AS (x int, y int)", "CREATE TABLE t (id int PRIMARY KEY, k pair)")
    shop.execute("INSERT INTO t VALUES (1, '(1,2)')")
    shop.sync()
    shop.execute("ALTER TYPE pair RENAME ATTRIBUTE y TO z")
    noticed(shop, "type pair has other attributes")
    assert '"z"' in str(shop.rows("k"))


# views ---------------------------------------------------------------------------------------------------------------

BASE = (
    "CREATE TABLE b (id int PRIMARY KEY, v text, at timestamptz)",
    "INSERT INTO b VALUES (1, 'a', '2026-01-01'), (2, 'b', '2026-01-02'), (3, 'c', '2026-01-03')",
)
VIEW = "CREATE OR REPLACE VIEW {} AS SELECT id, {} AS v, at FROM {} WHERE {}"
FUNCTION = "CREATE OR REPLACE FUNCTION f(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT {} $$"
BELOW = {
    "the view": ([], VIEW.format("t", "v", "b", "id > 1"), VIEW.format("t", "upper(v)", "b", "true")),
    "a view below": ([VIEW.format("u", "v", "b", "id > 1")], VIEW.format("t", "v", "u", "true"), VIEW.format("u", "v", "b", "true")),
    "a function": ([FUNCTION.format("$1")], VIEW.format("t", "f(v)", "b", "true"), FUNCTION.format("upper($1)")),
}  # fmt: skip


@pytest.mark.parametrize("what", BELOW)
def test_a_view_shows_other_rows(shop, what):
    below, view, change = BELOW[what]
    shop.tables = {"t": BY_AT}
    shop.execute(*BASE, *below, view)
    shop.sync()
    unnoticed(shop)
    shop.execute(change, "INSERT INTO b VALUES (4, 'd', '2026-01-04')")
    noticed(shop, "was redefined")
    assert shop.rows("id", "v") == wanted(shop, "id, v")


def test_a_view_is_made_again_by_the_same_words(shop):
    """As tools that build warehouses do at every run."""
    views = (VIEW.format("u", "v", "b", "id > 1"), VIEW.format("t", "upper(v)", "u", "at IS NOT NULL"))
    shop.tables = {"t": BY_AT}
    shop.execute(*BASE, *views)
    shop.sync()
    shop.execute("DROP VIEW t", "DROP VIEW u", *views, "INSERT INTO b VALUES (4, 'd', '2026-01-04')")
    unnoticed(shop)
    assert shop.rows("id") == wanted(shop)


# what changes nothing ------------------------------------------------------------------------------------------------


@WAYS
def test_what_changes_no_row_reads_no_row_again(shop, key):
    shop.tables = {"t": key}
    shop.execute("CREATE TYPE mood AS ENUM ('glad')", *NAMED, "ALTER TABLE t ADD m mood", "CREATE TABLE other (id int)")
    shop.sync()
    name = shop.uri.rpartition("/")[2]
    for change in (
        "GRANT SELECT ON t TO PUBLIC",
        "ALTER TYPE mood ADD VALUE 'sad'",
        "ALTER TABLE t ALTER b SET DEFAULT 'x', ALTER a SET NOT NULL",
        "CREATE INDEX ON t (b)",
        f'ALTER DATABASE "{name}" SET quote_all_identifiers = on',
        f'ALTER DATABASE "{name}" SET search_path = pg_catalog',
        "ALTER TABLE public.t ENABLE ROW LEVEL SECURITY",
        "COMMENT ON COLUMN public.t.a IS 'said'",
        "VACUUM FULL public.t",
    ):
        shop.execute(change)
        report = shop.report()
        assert (report.full, report.warnings) == (False, []), change


def test_a_cursor_of_the_first_version_goes_on_without_reading_again(shop):
    shop.execute(TABLE, fill(1, 3))
    shop.sync()
    strip(shop)
    shop.execute(fill(4, 4))
    unnoticed(shop)
    assert shop.ids() == [1, 2, 3, 4]
    shop.execute("ALTER TABLE t DROP v", "ALTER TABLE t ADD v text")
    noticed(shop, "column 'v' is another one")


def strip(shop):
    """What later versions have added to cursors is not there."""
    from strandline.connectors.postgresql import cursor as postgresql_cursor

    saved = postgresql_cursor.Saved.parsed

    def parsed(cursor, table):
        postgresql_cursor.Saved.parsed = saved
        return saved(
            {name: value for name, value in cursor.items() if name not in {"depends", "files", "since"}}, table
        )

    postgresql_cursor.Saved.parsed = staticmethod(parsed)
