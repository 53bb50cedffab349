"""The scenarios of the destination: it refuses rows, it is emptied, it is read meanwhile; and of sources that fail."""

import threading

from .judge import Verdict, compare
from .lab import StoppedError, stamp
from .scenarios import ARROW, FULL, MIRROR, OVERWRITE, RUNS, STATE, scenario

ROWS = 20_000


@scenario("I", "the destination rejects a batch: a row without its key, repaired later", link=RUNS)
def rejected(lab):
    lab.primary_key = ("id",)
    lab.create([("1", stamp(hours=2), "a")], id_kind="TEXT")
    lab.sync(must=True)
    lab.insert([(None, stamp(hours=1), "bad"), ("2", stamp(hours=1), "b")])
    lab.execute("ALTER TABLE {t} ALTER COLUMN id SET NOT NULL")  # not every tool refuses a NULL key by itself
    outcome = lab.sync()
    lab.origin.execute("UPDATE t SET id = '3' WHERE id IS NULL")
    note = f"exit {outcome.code} while the row was there"
    after = lab.tool.mended(lab)
    if after.code:
        raise StoppedError(after)
    lab.sync(must=True)
    verdict = lab.judge([("1", "a"), ("2", "b"), ("3", "bad")])
    return Verdict(verdict, note)


def look(read, table):
    """How many rows there are, and between which values; a count of -1 where there is no table."""
    try:
        return read(f"SELECT count(*), min(v), max(v) FROM {table}")[0]
    except Exception as error:
        if type(error).__name__ not in {"UndefinedTable", "InvalidSchemaName"}:
            raise
        return -1, "", ""


@scenario(
    "N",
    "a full refresh, seen by a reader while it runs",
    OVERWRITE,
    store="postgresql",
    tuned="`replace_strategy` is `staging-optimized`",
    link=FULL,
    settings={"DESTINATION__REPLACE_STRATEGY": "staging-optimized"},
)
def seen(lab):
    lab.create([(n, stamp(minutes=5), "old") for n in range(ROWS)])
    if lab.tool.slug == "strandline":
        lab.sync(must=True)
    else:
        lab.end(lab.tool.refresh(lab))
    lab.origin.execute("UPDATE t SET v = 'new'", f"DELETE FROM t WHERE id >= {ROWS // 2}")
    looks, done, started = set(), threading.Event(), threading.Event()

    def watch():
        with lab.store.reader() as read:
            while not done.is_set():
                looks.add(look(read, lab.tool.relation("t")))
                started.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    started.wait(30)
    outcome = lab.end(lab.tool.refresh(lab))
    done.set()
    watcher.join()
    if outcome.code:
        raise StoppedError(outcome)
    bad = looks - {(ROWS, "old", "old"), (ROWS // 2, "new", "new")}
    words = ["no table" if count < 0 else f"{count:,} rows" for count, *_ in sorted(bad, key=repr)]
    if words:
        return Verdict(f"partial: the reader saw {', '.join(words[:3])}")
    return Verdict(lab.judge([(n, "new") for n in range(ROWS // 2)]), "")


@scenario(
    "O",
    "the columns of lineage, on every path: first load, later sync, full refresh",
    OVERWRITE,
    tuned="`add_dlt_load_id` of the Parquet normalizer",
    link=ARROW,
    settings={"NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true"},
)
def lineage(lab):
    name = "_cq_sync_time" if lab.tool.slug == "strandline" else "_dlt_load_id"
    lab.create([(1, stamp(hours=2), "first load")])
    lab.sync(must=True)
    lab.insert([(2, stamp(hours=1), "later")])
    lab.sync(must=True)
    missing = []
    for path in ("incremental", "full refresh"):
        if path == "full refresh":
            lab.end(lab.tool.refresh(lab))
        try:
            rows = lab.rows(f"id, {name} IS NOT NULL")
        except Exception as error:
            if type(error).__name__ != "BinderException":
                raise
            return Verdict(f"no column {name}")
        if sorted(rows) != [(1, True), (2, True)]:
            missing.append(f"{path}: {sorted(rows)}")
    return Verdict("; ".join(missing) or "ok")


def lost_how(letter, title, destroy):
    def run(lab):
        lab.create([(1, stamp(hours=2), "a"), (2, stamp(hours=1), "b")])
        lab.sync(must=True)
        destroy(lab)
        lab.insert([(3, stamp(minutes=1), "c")])
        outcome, note = lab.sync(), ""
        if outcome.code:
            note, outcome = f"stopped with exit {outcome.code}; its way out was followed", lab.tool.recover(lab)
        if outcome.code:
            raise StoppedError(outcome)
        lab.sync(must=True)
        return Verdict(lab.judge([(1, "a"), (2, "b"), (3, "c")]), note)

    scenario(letter, f"the state is there, but {title}", OVERWRITE, has_options=False, link=STATE)(run)


lost_how("P1", "the destination's file was removed", lambda lab: lab.store.drop_all())
lost_how("P2", "the destination's table was dropped", lambda lab: lab.execute("DROP TABLE {t}"))
lost_how("P3", "the destination's rows were deleted", lambda lab: lab.execute("DELETE FROM {t}"))


@scenario(
    "Q", "the fetch of a table fails half way, where stale rows are deleted", MIRROR, has_options=False, link=FULL
)
def failed_fetch(lab):
    lab.key, lab.primary_key, lab.batch_rows = None, ("id",), 2
    lab.origin.execute(
        "CREATE TABLE raw (id INTEGER PRIMARY KEY, j TEXT)",
        "CREATE VIEW t AS SELECT id, json_extract(j, '$') AS v FROM raw",
    )
    rows = [(n, f'"v{n}"') for n in range(1, 7)]
    lab.origin.execute("INSERT INTO raw VALUES (?, ?)", rows=rows)
    lab.sync(must=True)
    lab.origin.execute("UPDATE raw SET j = 'not JSON' WHERE id = 5", "DELETE FROM raw WHERE id = 6")
    outcome = lab.sync()
    expected = [(n, f"v{n}") for n in range(1, 7)]
    if not outcome.code:
        return Verdict(f"exit 0, {compare(expected, lab.rows())}")
    return Verdict(lab.judge(expected), f"exit {outcome.code}")
