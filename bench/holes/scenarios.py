"""The scenarios of late, equal, missing and deleted rows: the source does something that a cursor alone does not see.

Each is a function of a lab: it prepares the source, syncs, does what its title says, syncs again, and returns a verdict.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from .judge import Verdict
from .lab import Lab, stamp

DOCS = "https://dlthub.com/docs"
CURSOR = f"{DOCS}/general-usage/incremental/cursor"
LAG = f"{DOCS}/general-usage/incremental/lag"
MERGE = f"{DOCS}/general-usage/merge-loading"
FULL = f"{DOCS}/general-usage/full-loading"
LONG = f"{DOCS}/dlt-ecosystem/verified-sources/sql_database/advanced"
ARROW = f"{DOCS}/dlt-ecosystem/verified-sources/arrow-pandas"
STATE = f"{DOCS}/general-usage/state"
RUNS = f"{DOCS}/running-in-production/running"

OVERWRITE, APPEND, MIRROR = "overwrite", "append", "mirror"
OPEN_S, LAG_S = 8, 5
"""How long a transaction stays open, and the lag that does not cover it: Strandline's own margin."""


@dataclass(frozen=True)
class Scenario:
    letter: str
    title: str
    run: Callable[[Lab], Verdict]
    modes: tuple[str, ...]
    origin: str = "sqlite"
    store: str = "duckdb"
    tuned: str = ""
    """What is different about the tuned dlt here, beside the boundary and the nulls."""
    has_options: bool = True
    """Whether an option of dlt concerns it; else it is run as documented, and once."""
    link: str = CURSOR
    settings: dict[str, str] = field(default_factory=dict)
    """Of the tuned dlt's configuration, as variables of the environment."""


ALL: list[Scenario] = []


def scenario(letter, title, *modes, **more):
    def add(run):
        ALL.append(Scenario(letter, title, run, modes or (OVERWRITE, APPEND), **more))
        return run

    return add


def dlt_with(lab, **settings):
    """Settings of a lab that only dlt is given, and only where it is tuned."""
    if getattr(lab.tool, "tuned", False):
        for name, value in settings.items():
            setattr(lab, name, value)


def versions(lab, first, *later):
    """What should be stored, when each of these were the rows of the source at a sync; append keeps every version."""
    if lab.mode == APPEND:
        return list(dict.fromkeys(row for rows in (first, *later) for row in rows))
    return list(([first, *later])[-1])


@scenario(
    "A",
    "a row commits late, with an older `updated_at` than rows that are synced already",
    origin="postgresql",
    tuned=f"`lag` {LAG_S} s, as Strandline's own margin; the transaction is open for {OPEN_S} s",
    link=LAG,
)
def commits_late(lab):
    dlt_with(lab, lag_s=LAG_S)
    lab.create([(1, stamp(minutes=1), "first")])
    lab.sync(must=True)
    insert = "INSERT INTO t VALUES ({}, now(), '{}')"
    with closing(lab.origin.connect()) as late:
        late.execute(insert.format(2, "late"))
        time.sleep(OPEN_S)  # a transaction that takes its time is what the scenario is about
        lab.origin.execute(insert.format(3, "soon"))
        lab.sync(must=True)
        late.commit()
    lab.sync(must=True)
    lab.sync(must=True)
    return Verdict(lab.judge([(1, "first"), (2, "late"), (3, "soon")]))


@scenario("B", "a new row has the same cursor value as the last one synced")
def same_stamp(lab):
    at = stamp(hours=1)
    lab.create([(1, at, "a"), (2, at, "b")])
    lab.sync(must=True)
    lab.insert([(3, at, "c")])
    lab.sync(must=True)
    lab.sync(must=True)
    return Verdict(lab.judge([(1, "a"), (2, "b"), (3, "c")]))


@scenario("C", "a row changes again within the same timestamp")
def same_stamp_changed(lab):
    at = stamp(hours=1)
    lab.create([(1, at, "a"), (2, at, "old")])
    lab.sync(must=True)
    lab.origin.execute("UPDATE t SET v = 'new' WHERE id = 2")
    lab.sync(must=True)
    lab.sync(must=True)
    return Verdict(lab.judge(versions(lab, [(1, "a"), (2, "old")], [(1, "a"), (2, "new")])))


@scenario("D", "one row is dated in the future; others come after it")
def future(lab):
    lab.create([(1, stamp(hours=2), "a"), (2, stamp(days=-3650), "future")])
    lab.sync(must=True)
    lab.insert([(3, stamp(hours=1), "later")])
    lab.sync(must=True)
    lab.insert([(4, stamp(minutes=30), "later still")])
    lab.sync(must=True)
    return Verdict(lab.judge([(1, "a"), (2, "future"), (3, "later"), (4, "later still")]))


@scenario("E", "a NULL in the cursor column, after the first sync", tuned="`on_cursor_value_missing` is `include`")
def null(lab):
    lab.create([(1, stamp(hours=2), "a")])
    lab.sync(must=True)
    lab.insert([(2, None, "null")])
    lab.sync(must=True)
    lab.insert([(3, stamp(hours=1), "c"), (4, None, "null")])
    lab.sync(must=True)
    lab.sync(must=True)
    return Verdict(lab.judge([(1, "a"), (2, "null"), (3, "c"), (4, "null")]))


@scenario(
    "F",
    "rows are deleted at the source",
    OVERWRITE,
    tuned="the whole table at every sync (`replace`), since an incremental load does not see deletes",
    link=FULL,
)
def deleted(lab):
    # Strandline compares the keys (`deletes: sweep`) in the mode that may delete, and still reads only what changed
    if lab.tool.slug == "strandline":
        lab.mode, lab.deletes = MIRROR, True
    dlt_with(lab, mode=MIRROR, key=None)
    lab.create([(n, stamp(minutes=60 - n), f"v{n}") for n in range(1, 6)])
    lab.sync(must=True)
    lab.origin.execute("DELETE FROM t WHERE id IN (2, 4)")
    lab.insert([(6, stamp(minutes=1), "v6")])
    lab.sync(must=True)
    return Verdict(lab.judge([(n, f"v{n}") for n in (1, 3, 5, 6)]))


@scenario(
    "J",
    "a backfill in chunks of 3 rows, over timestamps that 6 or 7 rows share",
    tuned="one long load, without the `row_order` and `add_limit` of its page on long loads; but see L",
    link=LONG,
)
def chunked(lab):
    lab.batch_rows = 3
    lab.limit = 1
    dlt_with(lab, limit=0)
    stamps = [stamp(minutes=30), stamp(minutes=20), stamp(minutes=10)]
    lab.create([(n, stamps[n % 3], f"v{n}") for n in range(20)])
    lab.sync(must=True)
    lab.sync(must=True)
    return Verdict(lab.judge([(n, f"v{n}") for n in range(20)]))


@scenario("K", "a look-back window of one hour; a late row and a changed row in it", tuned="the same window", link=LAG)
def window(lab):
    lab.lag_s = 3600
    lab.create([(n, stamp(minutes=10 - n), f"v{n}") for n in range(1, 6)])
    lab.sync(must=True)
    first = [(n, f"v{n}") for n in range(1, 6)]
    lab.insert([(6, stamp(minutes=20), "late")])
    lab.origin.execute("UPDATE t SET v = 'changed' WHERE id = 3")
    lab.sync(must=True)
    lab.sync(must=True)
    after = [(n, "changed" if n == 3 else f"v{n}") for n in range(1, 6)]
    return Verdict(lab.judge(versions(lab, first, [*after, (6, "late")])))
