"""Makes docs/guarantees.md from what the sources, the destinations and the engine say of themselves."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from strandline.connectors.postgresql.catalog import Column, Relation
from strandline.connectors.postgresql.plan import PostgreSQLTable, plan
from strandline.connectors.postgresql.types_read import field
from strandline.connectors.versions.source import promised
from strandline.destination import Capabilities, WriteMode
from strandline.engine.delivery import delivery
from strandline.lazy import pa
from strandline.plugins import load_plugin
from strandline.table import FULL_READ, Guarantee, Table

INT8, TIMESTAMPTZ = 20, 1184
TABLE = Table("t", pa.schema([("id", pa.int64())]), ("id",))
PROMISED = (
    (
        "P43: a table that was not made for this source, has rows, and is not said to be `adopt`ed or `shared`",
        (
            "`plan` lists every one; `plan`, `sync` and `migrate` end with exit code 2 before anything is touched. So do a source "
            "and a destination that are one database and schema. Two projects of equal names stop with exit code 2 or 3"
        ),
        "`OwnershipCases` in `strandline.testing`; `tests/engine/test_ownership.py`",
    ),
    (
        "P43: a table with rows that somebody has made where one of this source was dropped, in a database",
        (
            "is theirs, and refused as above, also for a full refresh and after a reset. One that was restored, so that each of its "
            "rows has the name of an owner in `_cq_source_name`, or that has what Strandline keeps with a table, is ours"
        ),
        "`OwnershipCases` in `strandline.testing`; `tests/holes/test_not_ours.py`",
    ),
    (
        "P43: a source or destination with a new name, whose tables are full of its rows",
        (
            "exit code 3; go on under the old name, or with `adopt: true` from where it was. The old name is then over: who comes "
            "back to it needs `adopt: true` again"
        ),
        "`tests/engine/test_ownership.py`",
    ),
    (
        "P49: a state that was lost beside rows of its source, also where the destination keeps no states",
        "exit code 3: no first sync, which would store the rows twice",
        "`tests/engine/test_engine_borders.py`, `make crash` (`plain`, `idempotent`)",
    ),
    (
        "P1: `postgresql`: a transaction that a crash of the server takes back (`synchronous_commit = off`)",
        "no row of it is stored: rows and cursor wait until the server's log is on its disk as it was after the last row",
        "`tests/holes/test_postgresql_disk.py`",
    ),
    (
        "P48: `postgresql`: a transaction pooler, with an application behind it",
        (
            "every setting ends with its transaction, so the application finds its sessions as it left them; and nothing that it "
            "left (styles, time zone, role, search path) changes a value. `doctor` names the pooler"
        ),
        "`tests/holes/test_postgresql_pooler.py`, with a real PgBouncer",
    ),
    (
        "P31: `postgresql`: a `json`, in the destination `postgresql`",
        "it is stored as it is written; as `jsonb` only what is one at the source, or where the stored column is one already",
        "`tests/holes/test_postgresql_texts.py`",
    ),
    (
        "P43: the tables that a destination keeps beside the rows, where that is a source",
        "`*` and other globs leave them out; a table of such a name that has other columns is read, and so is one that is named",
        "`tests/unit/test_own_tables.py`",
    ),
    (
        "P44: `postgresql`: a table, a column or a schema without a right",
        (
            "asked for by its name, or synced before: the table fails; by a glob: every sync and `plan` names it. `doctor` lists "
            "all, each with the `GRANT` that helps. Exit code 0 means that everything else was read"
        ),
        "`tests/holes/test_postgresql_rights.py`",
    ),
    (
        "P47: `postgresql`: a `primary_key` that is on several rows",
        "counted in every pass over everything, and said; floats are none",
        "`tests/holes/test_postgresql_keys.py`",
    ),
    (
        "P47: `postgresql`: an `incremental_key` without an order of change",
        "refused by its type (`plan`), or texts and UUIDs by their values; numbers that are times are never followed into the future",
        "`tests/holes/test_postgresql_keys.py`",
    ),
    (
        "P46: `postgresql`: rows that a sweep of keys shows, and the destination lacks",
        "read by their keys in the same sync, and said; stored when a crash of the server cannot take them back any more",
        "`tests/holes/test_postgresql_sweep.py`, `tests/holes/test_postgresql_disk.py`",
    ),
    (
        "P45: `postgresql`: what changes rows without a version of them: row security, the role, columns, types, views",
        (
            "the overwrite modes read everything again, and sweep nothing in that sync; `append` stops with a hint; each says what "
            "has changed. Not seen: settings of a session that a policy reads, tables of more than 8 MB that it reads, and what a "
            "function in another language than SQL reads (a sweep of keys shows all of these)"
        ),
        "`tests/holes/test_postgresql_depends.py`",
    ),
    (
        "P45: `postgresql`, by a key: ids that go back (`TRUNCATE ... RESTART IDENTITY`, `setval`), tables that are filled again",
        (
            "rows that were written since the last sync are read, whatever their keys, also those of a transaction that was open "
            "during it; where there were too many to be noted, `append` stops with a hint. Not seen: ids in a gap, where the role may "
            "not see the sequence; in a view, `append`, any of it"
        ),
        "`tests/holes/test_postgresql_ids.py`",
    ),
    (
        "P45: `sqlite`: a file put back or exchanged, a table created again, another column of the same name, another view, ids that go back",
        (
            "the cursor expires: `overwrite` modes read again and delete nothing in that sync, `append` stops with a hint. Noticed by "
            "the definition, the file's counters and 16 rows; what these do not show is in ADR 24"
        ),
        "`tests/holes/test_sqlite_history.py`",
    ),
    (
        "P45: a `query` as a table: its tables' columns, views, functions and row security, and the query itself",
        (
            "as of a view; another query is another selection, so that an incremental table needs `--full-refresh`, and no row of "
            "any other is deleted until there was one"
        ),
        "`tests/cli/test_cli_queries.py`",
    ),
    (
        "P21: a table that has another name in the spec (`name`, `names`)",
        "exit code 3, with the ways out, unless the stored table has that name, too; neither a first sync nor another one's table",
        "`tests/engine/test_table_rules.py`",
    ),
    (
        "P43: `sqlite`, `files`: a destination in what the source reads (a prefix in its file, a directory below its files)",
        "exit code 2 before anything is touched",
        "`tests/holes/test_own_places.py`",
    ),
    (
        "P44: `sqlite`: a view or table that does not work, a virtual table",
        "asked for by its name, or synced before: the table fails; by a glob: every sync and `plan` names it",
        "`tests/holes/test_views.py`, `tests/connectors/sqlite/test_sqlite_values.py`",
    ),
    (
        "P44: `files`: a file whose first record cannot be read",
        (
            "its table fails, with file, line and a remedy, whether it is asked for by name or by a glob; the other tables "
            "go on; exit code 1"
        ),
        "`tests/holes/test_files_unread.py`",
    ),
    (
        "P44: `files`: the last record of a quiet file, without a newline or behind an open quote",
        "it has a say in the types, and is read; what does not fit fails the table at every sync, with file and line",
        "`tests/connectors/files/test_files_source.py`, `tests/holes/test_files_unread.py`",
    ),
    (
        "P46: `sqlite`: rows that a sweep of keys shows, and the destination lacks",
        "read by their keys in the same sync, and said",
        "`tests/holes/test_sqlite_sweeps.py`",
    ),
    (
        "P47: `sqlite`: a primary key that is on several rows, or NULL",
        "counted in every pass over everything, and said; floats are no keys",
        "`tests/holes/test_sqlite_same_keys.py`",
    ),
    (
        "P47: `sqlite`: an incremental key with a time in the future",
        "times are told by their values, and a cursor never passes the clock",
        "`test_one_row_dated_into_the_future_hides_no_later_row`",
    ),
    (
        "P7: `postgresql`, by xid: transaction ids that are handed out again after 2^32 transactions, and that frozen rows have",
        "the overwrite modes read such rows again; `append` stops before it stores any of them twice",
        "`tests/holes/test_postgresql_epochs.py`",
    ),
    (
        "P50: `postgresql`, `sqlite`, `duckdb`: a column that somebody has added to one of our tables",
        (
            "keeps its values as long as the key of its row stays, at a full refresh too; one of the same name at the source is refused "
            "unless the table says `adopt: true`. `plan` says when a full refresh in `append` mode loses them"
        ),
        "`src/strandline/testing/destination_attached.py`, `test_a_full_refresh_says_which_values_of_somebody_it_loses`",
    ),
    (
        "P50: `postgresql`, `sqlite`, `duckdb`: somebody's foreign key that refers to one of our tables",
        (
            "an update leaves it alone; a row to which one refers is not deleted, and the table fails, unless it says "
            "`allow_cascade: true`: then the foreign key decides. `plan` names it"
        ),
        "`tests/connectors/sql/test_attached.py`, `tests/connectors/sql/test_attached_deletes.py`",
    ),
    (
        "P50: `delta`: rows, columns and properties that somebody has added to one of our tables",
        (
            "stay, an update of a row included; a column of the same name at the source is refused unless the table says "
            "`adopt: true`. A full refresh loses the values of such a column where it replaces the row"
        ),
        "`tests/connectors/delta/test_delta.py`",
    ),
    (
        (
            "P7: `delta`: compaction, `VACUUM`, checkpoints, clean-up of the log and commits of others, also between the moment "
            "when a window is decided and the one when it is in sight"
        ),
        (
            "neither a gap nor a duplicate; a file that a `VACUUM` of short retention has removed is named, and the table stops, "
            "exit code 3"
        ),
        "`tests/connectors/delta/test_delta.py`",
    ),
    (
        (
            "P45: `delta`, as a source: a table made again or put back, versions and files that were cleaned up before they were read, "
            "deletion vectors, renamed columns; what no reader here knows"
        ),
        (
            "the cursor expires: `overwrite` modes read again, `append` stops with a hint; hidden rows are not read, and columns are found by "
            "their names in files; the rest is refused in words"
        ),
        "`tests/connectors/delta/test_delta_source.py`",
    ),
    (
        "P45: `iceberg`, as a source: a table made again, snapshots that have expired or were rolled back, files of deletes, columns with another name",
        (
            "as above; rows deleted by position are not read, a table with deletes by value is refused, and columns are known by their ids"
        ),
        "`tests/connectors/iceberg/test_iceberg_source.py`",
    ),
    (
        "P7, P43: `files` in an object store: kills at any request, lost replies, two runs at once, objects of others",
        (
            "a glob finds each row once, and whole commits; a run that was overtaken fails, a store that ignores conditions and a prefix with "
            "objects of others are refused; a committed object that somebody has removed before it was in sight stops its table, exit code 3"
        ),
        "`tests/connectors/files/test_files_destination_objects.py`; `make stores`",
    ),
    (
        "P7, P50: `iceberg`: compaction, expiry of snapshots, new columns, rows and properties of others, also between decision and sight",
        (
            "neither a gap nor a duplicate, and what they added stays; columns that were renamed or dropped and partitions that were "
            "changed stop the table"
        ),
        "`tests/connectors/iceberg/test_iceberg.py`",
    ),
    (
        "P50: views, indexes, triggers, grants, policies, publications and comments on our tables",
        (
            "survive every sync and full refresh; `plan` and `migrate` name what `migrate_mode: forced` loses, which creates a table "
            "again"
        ),
        "`TestEverything`, `test_what_is_lost_when_a_table_is_created_again_is_said_before`",
    ),
    (
        "P50: `files`: rows of files that have been removed, at a full refresh or a forced migration",
        (
            "stay: the run ends with exit code 2, and names how many files and rows are gone; a full refresh drops them with "
            "`--allow-mass-delete` only, and says so"
        ),
        "`tests/holes/test_files_gone.py`",
    ),
    (
        "P50: a full refresh of a table whose columns have other types now, or that has another primary key",
        (
            "changes them in the transaction that exchanges the rows, and the table stays the same one; what uses them (rows of another "
            "source or partition, a view, a foreign key, an index that the database cannot alter) is named, and nothing is touched"
        ),
        "`ReshapeCases` in `strandline.testing`; `tests/connectors/sql/test_reshaped.py`; `tests/crash/test_refresh.py`",
    ),
    (
        "P21: `postgresql`, `sqlite`: a warehouse that was moved by a dump, or whose comments were overwritten",
        "goes on where it was; a table that was created again stops with exit code 3",
        "`tests/holes/test_warehouse_moved.py`",
    ),
)
"""What, then, tested by."""
DESTINATIONS = {
    "duckdb": {"path": ":memory:"},
    "sqlite": {"path": "x.db"},
    "delta": {"path": "lake"},
    "iceberg": {"path": "lake"},
    "files": {"path": "lake"},
    "postgresql": {"connection_string": "postgresql://localhost/x"},
}
TESTS = {
    "settled (xid)": "`test_late_rows.py` and `test_postgresql_hazards.py` in `tests/holes`; `make stress`",
    "settled (server clock)": "the same",
    "settled (in flight)": "the same",
    "lag only": "`test_hole_a_is_open_where_the_spec_says_so`, `test_hole_k…`",
    "off": "`test_hole_a_is_open_where_the_spec_says_so`: it has to lose a row there",
    "settled (single writer)": "`tests/holes/test_holes.py`, `tests/connectors/sqlite/test_sqlite_model.py`",
    "settled (file contents)": "`tests/connectors/files/test_files_source.py`",
    "settled (versions)": "`tests/connectors/delta/test_delta_source.py`, `test_delta_source_killed.py`",
    "settled (snapshots)": "`tests/connectors/iceberg/test_iceberg_source.py`",
    FULL_READ.name: "`test_a_full_read_has_every_row_that_was_there_all_the_time`",
}


def page() -> str:
    """The whole page."""
    return "\n".join([*HEAD, *late_rows(), *DUPLICATES, *duplicates(), *DELETES, *NOTICED]).rstrip() + "\n"


HEAD = [
    "# What is promised",
    "",
    "Generated by `make reference` from what the program says of itself; a test keeps it fresh. `strandline plan` prints",
    "the same for each table of yours.",
    "",
    "Three questions decide what a copy is worth. Can a row be missing? Can it be there twice? Can it be there though it is",
    "gone? Each has its own answer: the first depends on the source, the second on the destination and the write mode, the",
    "third on how deletes are found.",
    "",
    "One thing holds always, for every source, destination and mode: **a cursor is saved only after every row that it",
    "covers is durable**, so a crash, a kill or a lost connection leaves no gap. `tests/crash` kills the program at every",
    "call to the outside and compares.",
    "",
    "## Can a row be missing?",
    "",
    "A row that becomes visible late, after rows with a greater key were read, is what makes incremental copies lose rows.",
    "The class of a table says what is done about it, and where that ends.",
    "",
]
DUPLICATES = [
    "",
    "## Can a row be there twice?",
    "",
    "| destination | mode | a table that is read | after any interruption |",
    "|---|---|---|---|",
]
DELETES = [
    "",
    "In `overwrite` modes a row is one row for each primary key, and the version that was delivered last wins. In `append`",
    "mode each version of a row that a sync saw is one row; versions that came and went between two syncs are not seen.",
    "",
    "## Can a row be there though it is gone?",
    "",
    "| how the table is read | `append` | `overwrite` | `overwrite-delete-stale` |",
    "|---|---|---|---|",
    "| in full | stays | stays | removed by the same sync |",
    "| PostgreSQL, by xid | stays | stays, unless `deletes: sweep` | removed by the same sync: a sweep of all keys is the default |",
    "| by an incremental key | stays | stays, unless `deletes: sweep` | stays, unless `deletes: sweep` |",
    "| `delta`, change data feed | stays | removed | removed |",
    "| `delta` and `iceberg`, by added files | stays | stays, and is said | removed by the same sync: a sweep of all keys, where a version has changed or removed rows |",
    "| files | stays | stays | stays; `on_replace` and `on_vanish` say what happens to files |",
    "",
    "What a pass over everything did not find is removed in `overwrite-delete-stale`, also where a table is read by an",
    "incremental key: by a full refresh, and, after a cursor has expired, by the sync after the one that says so.",
    "",
    "A sweep compares all primary keys, read after the rows. No delete removes more than half of a table's rows unless",
    "`--allow-mass-delete` is given, and none is made after a change of `where` until a full refresh or a reset.",
    "PostgreSQL by xid compares no key where no transaction has ended on the server since the last sync, unless a `where`, a",
    "`start` or row security chooses the rows; what somebody removes at the destination comes back with the next change there.",
    "",
    "## Several sources in one table",
    "",
    "A row belongs to the source and partition that delivered it last, and nothing that another one says removes it. But a",
    "primary key is one row, whoever delivers it: the keys of sources that share a table have to be disjoint. Where they are",
    "not, each overwrites rows of the other, and what one of them removes may still be there at the other.",
]
NOTICED = [
    "",
    "## What is noticed, and never passed over in silence",
    "",
    "| what | then | tested by |",
    "|---|---|---|",
    *(f"| {what} | {then} | {tested} |" for what, then, tested in PROMISED),
]


def late_rows() -> Iterator[str]:
    """A row for each class of guarantee that a source gives."""
    yield "| source | settings | class | limits | tested by |"
    yield "|---|---|---|---|---|"
    for source, settings, guarantee in [*of_postgresql(), *of_sqlite(), *of_files(), *of_lakes()]:
        tested = TESTS[guarantee.name]
        yield f"| {source} | {settings} | **{guarantee.name}** | {guarantee.limits.replace('|', '/')} | {tested} |"


def of_postgresql() -> Iterator[tuple[str, str, Guarantee]]:
    """What the planner says of a table, of each kind and setting."""
    cases = [
        ("r", "none, and a primary key", {}),
        ("r", "none, and no primary key; or `mode: full`", {"mode": "full"}),
        ("r", "`incremental_key`: a time", {"incremental_key": "at"}),
        ("r", "`incremental_key`: a time, and `lag: 5m`", {"incremental_key": "at", "lag": "5m"}),
        ("r", "`incremental_key`: an id", {"incremental_key": "id"}),
        ("r", "`settle: off`, and `lag: 5m`", {"incremental_key": "at", "settle": "off", "lag": "5m"}),
        ("r", "`settle: off`", {"incremental_key": "at", "settle": "off"}),
        ("v", "a view with an `incremental_key`: a time", {"incremental_key": "at"}),
        ("v", "a view without", {}),
        ("q", "a `query` with an `incremental_key`: a time", {"incremental_key": "at", "query": "SELECT …"}),
        ("q", "a `query` without", {"query": "SELECT …"}),
    ]
    for kind, words, settings in cases:
        columns = tuple(
            Column(name, name, oid, False, field(name, oid, -1, nullable=False, is_nested=False), name)
            for name, oid in (("id", INT8), ("at", TIMESTAMPTZ))
        )
        key = ("id",) if kind == "r" else ()
        query = str(settings.get("query", ""))
        relation = Relation(1, "public", "t", kind, key, "", columns, frozenset(), False, 0, 0, query=query)
        yield "`postgresql`", words, plan(relation, "t", PostgreSQLTable.model_validate(settings)).table.guarantee


def of_sqlite() -> Iterator[tuple[str, str, Guarantee]]:
    """What the source says of a small file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)")
        cls = load_plugin("source", "sqlite")
        for words, settings in (
            ("none", {}),
            ("`incremental_key`: a time", {"incremental_key": "at"}),
            ("`incremental_key`: an id", {"incremental_key": "id"}),
            ("a `query` with an `incremental_key`", {"incremental_key": "at", "query": "SELECT * FROM t"}),
        ):
            (table,) = cls(cls.Spec(path=str(path), tables={"t": settings})).tables()
            yield "`sqlite`", words, table.guarantee


def of_files() -> Iterator[tuple[str, str, Guarantee]]:
    """What the source says of a small file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text("a\n1\n")
        cls = load_plugin("source", "files")
        with closing(cls(cls.Spec(path=str(path)))) as source:
            (table,) = source.tables()
        yield "`files`", "any", table.guarantee


def of_lakes() -> Iterator[tuple[str, str, Guarantee]]:
    """What sources of tables say that keep their versions."""
    for source, word in (("delta", "version"), ("iceberg", "snapshot")):
        if source == "delta":
            yield f"`{source}`", "the change data feed of the table is on", promised(word, feed=True, keyed=True)
        yield f"`{source}`", "a primary key", promised(word, feed=False, keyed=True)
        yield f"`{source}`", "no primary key", promised(word, feed=False, keyed=False)


def duplicates() -> Iterator[str]:
    """A row for each destination and mode."""
    for name, settings in DESTINATIONS.items():
        cls = load_plugin("destination", name)
        with closing(cls(cls.Spec(**settings))) as destination:
            able: Capabilities = destination.capabilities
        for mode in WriteMode:
            if mode in able.write_modes:
                full, incremental = (
                    delivery([replace(TABLE, incremental=one)], mode, able.delivery, keeps_cursor=True)
                    for one in (False, True)
                )
                if full == incremental:
                    yield f"| `{name}` | `{mode.value}` | in any way | {full} |"
                else:
                    yield f"| `{name}` | `{mode.value}` | in full | {full} |"
                    yield f"| `{name}` | `{mode.value}` | incrementally | {incremental} |"
