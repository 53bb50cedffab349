"""The scenarios of borders: a table that is not ours, a source that changes without a row version, a state that is lost."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import psycopg

from services.pgbouncer import PgBouncer

from .judge import Verdict
from .lab import stamp
from .scenarios import APPEND, FULL, LONG, MERGE, MIRROR, OVERWRITE, STATE, dlt_with, scenario


def said(outcome):
    return f"exit {outcome.code}"


@scenario(
    "S", "a table of that name is already there, and is somebody else's", OVERWRITE, has_options=False, link=MERGE
)
def not_ours(lab):
    lab.create([(1, stamp(hours=1), "ours")])
    if lab.tool.slug != "strandline":
        lab.store.execute(f'CREATE SCHEMA "{lab.tool.dataset}"')
    lab.store.execute(
        f'CREATE TABLE {lab.tool.relation("t")} (id BIGINT, "at" TIMESTAMP, v VARCHAR)',
        f"INSERT INTO {lab.tool.relation('t')} VALUES (1, NULL, 'theirs')",
    )
    outcome = lab.sync()
    return Verdict(lab.judge([(1, "theirs")]), said(outcome))


@scenario(
    "T",
    "source and destination are the same database",
    OVERWRITE,
    origin="postgresql",
    store="postgresql",
    has_options=False,
    link=FULL,
)
def into_itself(lab):
    lab.store.uri, lab.store.spec, lab.tool.dataset = lab.origin.uri, lab.origin.spec, "public"
    lab.create([(1, stamp(hours=1), "a")])
    before = lab.store.columns()
    outcome = lab.sync()
    added = sorted(set(lab.store.columns()) - set(before))
    text = f"source altered: {', '.join(added)}" if added else lab.judge([(1, "a")])
    return Verdict(text, said(outcome))


@scenario("U", "two sources with a table of one name", OVERWRITE, has_options=False, link=MERGE)
def one_name(lab):
    lab.create([(1, stamp(hours=1), "one")])
    lab.sync(must=True)
    lab.source, first = "branch", lab.origin
    lab.origin = type(first)(Path(lab.directory) / "branch.db")
    lab.create([(1, stamp(hours=1), "two")])
    outcome = lab.sync()
    return Verdict(lab.judge([(1, "one")]), said(outcome))


@scenario(
    "X",
    "a column is dropped, and another one of its name is there; `updated_at` does not change",
    OVERWRITE,
    origin="postgresql",
    tuned="the whole table at every sync (`replace`)",
    link=FULL,
)
def another_column(lab):
    dlt_with(lab, mode=MIRROR, key=None)
    lab.create([(1, stamp(hours=1), "old"), (2, stamp(hours=1), "old")])
    lab.sync(must=True)
    lab.origin.execute("ALTER TABLE t DROP COLUMN v", "ALTER TABLE t ADD COLUMN v text DEFAULT 'new'")
    lab.sync(must=True)
    return Verdict(lab.judge([(1, "new"), (2, "new")]))


@scenario(
    "Y",
    "the database is put back from a backup, where rows are as they were before their last change",
    OVERWRITE,
    tuned="the whole table at every sync (`replace`)",
    link=FULL,
)
def put_back(lab):
    dlt_with(lab, mode=MIRROR, key=None)
    lab.create([(n, stamp(minutes=60 - n), "kept") for n in range(1, 5)])
    lab.sync(must=True)
    backup = lab.origin.path.with_suffix(".backup")
    shutil.copy(lab.origin.path, backup)
    lab.origin.execute(f"UPDATE t SET v = 'wrong', at = '{stamp(minutes=10)}' WHERE id IN (2, 3)")
    lab.sync(must=True)
    shutil.copy(backup, lab.origin.path)
    lab.insert([(5, stamp(minutes=0), "after")])
    outcome = lab.sync(must=True)
    return Verdict(lab.judge([*((n, "kept") for n in range(1, 5)), (5, "after")]), said(outcome))


@scenario(
    "AA",
    "a row was lost at the destination, and deletes are looked for",
    OVERWRITE,
    tuned="the whole table at every sync (`replace`)",
    link=FULL,
)
def lost_there(lab):
    if lab.tool.slug == "strandline":
        lab.mode, lab.deletes = MIRROR, True
    dlt_with(lab, mode=MIRROR, key=None)
    lab.create([(n, stamp(minutes=60 - n), f"v{n}") for n in range(1, 6)])
    lab.sync(must=True)
    lab.execute("DELETE FROM {t} WHERE id = 2")
    lab.insert([(6, stamp(minutes=1), "v6")])
    lab.sync(must=True)
    return Verdict(lab.judge([(n, f"v{n}") for n in range(1, 7)]))


@scenario(
    "AB",
    "every state is lost, at the destination too, beside its full table",
    APPEND,
    has_options=False,
    link=STATE,
)
def no_state(lab):
    lab.create([(n, stamp(minutes=60 - n), f"v{n}") for n in range(1, 6)])
    lab.sync(must=True)
    for name in (".cq", "work"):
        shutil.rmtree(lab.directory / name, ignore_errors=True)
    with lab.store.reader() as do:
        kept = do(
            "SELECT table_schema, table_name FROM information_schema.tables "
            r"WHERE table_name LIKE 'cq\_%' ESCAPE '\' OR table_name LIKE '\_dlt%' ESCAPE '\'"
        )
        for schema, name in kept:
            do(f'DROP TABLE "{schema}"."{name}"')
    outcome = lab.sync()
    return Verdict(lab.judge([(n, f"v{n}") for n in range(1, 6)]), said(outcome))


@scenario(
    "AD",
    "one of all tables may not be read by the source's role",
    OVERWRITE,
    origin="postgresql",
    has_options=False,
    link=LONG,
)
def no_right(lab):
    lab.create([(1, stamp(hours=1), "a")])
    role = f"r_{lab.origin.uri.rsplit('/', 1)[-1]}"
    lab.origin.execute(
        "CREATE TABLE secret (id int PRIMARY KEY)", f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON t TO {role}"
    )
    lab.origin.uri = lab.origin.uri.replace("postgres@", f"{role}@")
    lab.origin.spec = {"path": "postgresql", "spec": {"connection_string": lab.origin.uri}}
    lab.tables, lab.key = ("*",), None
    outcome = lab.sync()
    if outcome.code or "secret" in outcome.said:
        return Verdict("ok", f"{said(outcome)}; it is named")
    return Verdict("left out silently", said(outcome))


@scenario(
    "Z",
    "a transaction pooler before the source, whose sessions keep what an application has set",
    OVERWRITE,
    origin="postgresql",
    has_options=False,
    link=LONG,
)
def pooled(lab):
    lab.origin.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v double precision)",
        "INSERT INTO t SELECT n, now() - interval '1 hour', n / 3.0 FROM generate_series(1, 5) AS s(n)",
    )
    where = psycopg.conninfo.conninfo_to_dict(lab.origin.uri)
    with PgBouncer(SimpleNamespace(port=where["port"]), size=1) as bouncer:
        with bouncer.connect(where["dbname"]) as application:
            application.execute("SET extra_float_digits = -10")
        lab.origin.uri = bouncer.uri(where["dbname"])
        lab.origin.spec = {"path": "postgresql", "spec": {"connection_string": lab.origin.uri}}
        outcome = lab.sync(must=True)
        with bouncer.connect(where["dbname"]) as application:
            application.execute("UPDATE t SET v = v")
    return Verdict(lab.judge([(n, n / 3.0) for n in range(1, 6)]), said(outcome))
