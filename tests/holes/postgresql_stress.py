"""Concurrent writers against the source `postgresql`: for each hazard and each way to settle, what is lost or doubled.

Writers change a table from sessions of their own while one sync follows the other; then they stop, the last syncs run,
and the destination is compared with what was committed. Each cell has a database of its own, and the seed decides
what every writer does, though not how their transactions interleave.

    make stress [SECONDS=60] [SEED=7] [ARGS="--cells 'long/*,*/xid' --out cells.jsonl"]

The exit code is 1 if anything was lost where the guarantee says settled, or stored twice or wrongly anywhere; and if
`settle: off` lost nothing where it has to, since then the writers provoke nothing and the other cells show nothing.
"""

import argparse
import json
import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import psycopg
from postgresql_origin import Origin

from services.postgresql import PostgreSQLServer
from strandline.destination import WriteMode

SETTLE = {
    "xid": {},
    "cap-0": {"incremental_key": "at", "margin": "0"},
    "cap-1s": {"incremental_key": "at", "margin": "1s"},
    "cap-5s": {"incremental_key": "at", "margin": "5s"},
    "wait": {"incremental_key": "id"},
    "off": {"incremental_key": "at", "settle": "off"},
    "off-lag": {"incremental_key": "at", "settle": "off", "lag": "5s"},
}
WRITERS = 6
PAUSES = (*(0, 0, 0.1, 0.3, 1) * 4, 30)
"""Of the same length, most are shorter than a sync; a few outlast a margin of a second."""
FIRST_ROWS, HOT_ROWS = 5000, 20
SLICE_PAGES = 4
"""So few that the first load has several slices."""
AT_ONCE = (1, 2, 5)
"""How many slices of the first load are read at once."""
LAST_SYNCS = 2
"""Enough for a height that waits for what was in flight before the writers stopped."""
# The log is in a schema that the source does not offer; it is written with the row, so a rollback takes both.
SCHEMA = f"""
CREATE SCHEMA kept;
CREATE SEQUENCE kept.versions;
CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, v bigint NOT NULL);
CREATE INDEX ON t (at);
CREATE TABLE kept.log AS TABLE t;
CREATE FUNCTION kept.keep() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO kept.log VALUES (NEW.id, NEW.at, NEW.v); RETURN NULL; END$$;
CREATE TRIGGER kept AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION kept.keep();
INSERT INTO t (at, v) SELECT now(), nextval('kept.versions') FROM generate_series(1, {FIRST_ROWS});
"""
INSERT = "INSERT INTO t (at, v) VALUES ({}, nextval('kept.versions'))"
CLOCK = "clock_timestamp()"


# what writers do -----------------------------------------------------------------------------------------------------


class Writer:
    """One session that changes the table until it is told to stop."""

    def __init__(self, uri: str, seed: str, number: int, stop: threading.Event) -> None:
        self.random, self.number, self.stop = random.Random(f"{seed}/{number}"), number, stop
        self.connection = psycopg.connect(uri, autocommit=True)
        self.execute("SET deadlock_timeout = '50ms'")

    def execute(self, sql: str) -> None:
        self.connection.execute(sql)

    def insert(self, stamp: str = "now()") -> None:
        self.execute(INSERT.format(stamp))

    def pause(self, ms_max: float) -> None:
        """Time in which others act; none any more when all are told to stop."""
        self.stop.wait(self.random.choice(PAUSES) * self.random.random() * ms_max / 1000)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    @contextmanager
    def transaction(self, end: str = "COMMIT") -> Iterator[None]:
        self.execute("BEGIN")
        yield
        self.execute(end)

    def some_ids(self, count: int) -> list[int]:
        """A few rows that all writers want, and any, whose change nothing later hides; sorted, against deadlocks."""
        return sorted(self.random.randint(1, self.random.choice([HOT_ROWS, FIRST_ROWS])) for _ in range(count))


def autocommit(writer: Writer) -> None:
    writer.insert()
    time.sleep(0.005 * writer.random.random())  # dense, but the syncs need some of the machine too


def long(writer: Writer) -> None:
    with writer.transaction():
        writer.execute("SELECT now()")
        writer.pause(100)
        writer.insert()
        writer.pause(100)


def clock(writer: Writer) -> None:
    with writer.transaction():
        for _ in range(writer.random.randint(1, 3)):
            writer.insert(CLOCK)
            writer.pause(60)


def prepared(writer: Writer) -> None:
    if writer.number % 2:
        autocommit(writer)
        return
    name = uuid.uuid4().hex
    with writer.transaction(f"PREPARE TRANSACTION '{name}'"):
        writer.insert()
        writer.pause(10)
    writer.pause(100)
    writer.execute(f"COMMIT PREPARED '{name}'" if writer.chance(0.8) else f"ROLLBACK PREPARED '{name}'")
    writer.pause(100)  # a moment without any, in which the cursor may move


def early(writer: Writer) -> None:
    """An application that stamps by its own clock, which is up to 20 ms slow."""
    with writer.transaction():
        writer.insert(f"{CLOCK} - interval '{20 * writer.random.random():.3f} ms'")
        writer.pause(40)


def message(writer: Writer) -> None:
    """Statements in one message share the time of its arrival, even in different transactions."""
    wait_s = writer.random.choice(PAUSES) * writer.random.random() * 0.06
    writer.execute(
        f"BEGIN; {INSERT.format('now()')}; COMMIT; SELECT pg_sleep({wait_s:.4f}); BEGIN; {INSERT.format('now()')}; "
        f"SELECT pg_sleep({wait_s:.4f}); COMMIT"
    )


def updates(writer: Writer) -> None:
    with writer.transaction():
        writer.execute("SELECT now()")
        writer.pause(30)
        stamp = writer.random.choice(["now()", CLOCK])
        for one in writer.some_ids(writer.random.randint(1, 3)):
            writer.execute(f"UPDATE t SET at = {stamp}, v = nextval('kept.versions') WHERE id = {one}")
            writer.pause(20)
        if writer.chance(0.3):
            writer.insert(stamp)
    writer.pause(5)


def savepoints(writer: Writer) -> None:
    with writer.transaction("ROLLBACK" if writer.chance(0.2) else "COMMIT"):
        for _ in range(writer.random.randint(1, 4)):
            writer.execute("SAVEPOINT one")
            writer.insert(writer.random.choice(["now()", CLOCK]))
            writer.pause(30)
            writer.execute("ROLLBACK TO SAVEPOINT one" if writer.chance(0.3) else "RELEASE SAVEPOINT one")


def deletes(writer: Writer) -> None:
    with writer.transaction("ROLLBACK" if writer.chance(0.1) else "COMMIT"):
        writer.insert()
        writer.pause(60)
        if writer.chance(0.7):
            writer.execute(
                f"DELETE FROM t WHERE id = ANY (ARRAY{writer.some_ids(3)}) "
                f"OR id = (SELECT max(id) FROM t) - {writer.random.randrange(10)}"
            )
            writer.pause(30)


# cells ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hazard:
    """What writers do, and where it is provoked."""

    write: Callable[[Writer], None]
    mode: WriteMode = WriteMode.APPEND
    must_lose: bool = True
    """Under `settle: off`; otherwise it may."""
    without: tuple[str, ...] = ("cap-5s",)
    settings: dict[str, str] = field(default_factory=dict)
    beyond: tuple[str, ...] = ()
    """Where the limits of the guarantee say that this loses rows."""


HAZARDS = {
    # what is stamped and committed at once is above the moment that `off` keeps to, but for a pause of the machine
    "autocommit": Hazard(autocommit, must_lose=False),
    "long": Hazard(long),
    "clock": Hazard(clock),
    "prepared": Hazard(prepared),
    "early": Hazard(early, without=(), beyond=("cap-0",)),
    "message": Hazard(message),
    "updates": Hazard(updates, without=("cap-5s", "wait")),  # an id does not show changes
    "savepoints": Hazard(savepoints),
    # a sweep looks both ways: rows that `off` has lost are read by their keys
    "deletes": Hazard(deletes, mode=WriteMode.OVERWRITE_DELETE_STALE, must_lose=False, settings={"deletes": "sweep"}),
}
CELLS = [f"{hazard}/{way}" for hazard, one in HAZARDS.items() for way in SETTLE if way not in one.without]


@dataclass
class Result:
    """One cell, when it is over."""

    cell: str
    guarantee: str = ""
    seconds: float = 0.0
    syncs: int = 0
    rows: int = 0
    """Versions of rows that were committed."""
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    """At the destination, and never committed; or deleted at the source, and still there."""
    error: str = ""
    examples: list[str] = field(default_factory=list)

    @property
    def is_promised(self) -> bool:
        hazard, way = self.cell.split("/")
        return self.guarantee.startswith("settled") and way not in HAZARDS[hazard].beyond

    @property
    def is_weak(self) -> bool:
        hazard, way = self.cell.split("/")
        return way == "off" and HAZARDS[hazard].must_lose and not self.lost

    @property
    def verdict(self) -> str:
        if self.error:
            return f"FAILED: {self.error}"
        if self.duplicated or self.wrong or (self.lost and self.is_promised):
            return "BROKEN"
        if self.is_weak:
            return "WEAK: nothing was provoked"
        return "loses, as it says" if self.lost else "exact"

    @property
    def is_bad(self) -> bool:
        return self.verdict[0].isupper()


def compare(result: Result, stored: Iterable[tuple], final: Iterable[tuple], committed: Iterable[tuple]) -> None:
    """Count what differs. ``committed``: every version that a sync may have seen and stored."""
    found, final, committed = Counter(stored), set(final), set(committed)
    lost, wrong = final - set(found), set(found) - committed
    again = [version for version, count in found.items() if count > 1]
    result.lost, result.wrong = len(lost), len(wrong)
    result.duplicated = sum(found[version] - 1 for version in again)
    for what, rows in (("lost", lost), ("wrong", wrong), ("duplicated", again)):
        result.examples += [f"{what}: {one}" for one in sorted(rows)[:5]]


def _write(writer: Writer, hazard: Hazard, errors: list[str]) -> None:
    try:
        with closing(writer.connection):
            while not writer.stop.is_set():
                try:
                    hazard.write(writer)
                except psycopg.errors.DeadlockDetected:
                    writer.execute("ROLLBACK")
    except psycopg.Error as error:
        errors.append(f"writer {writer.number}: {error}")


def _sync(origin: Origin, result: Result) -> None:
    result.guarantee = origin.report(share_max=1.0).guarantee
    result.syncs += 1


def _syncs(origin: Origin, hazard: Hazard, seconds: float, seed: str, result: Result) -> None:
    """The first load and as many syncs as possible while others write, and the last ones when nothing more can come."""
    stop, errors = threading.Event(), []
    writers = [Writer(origin.uri, seed, number, stop) for number in range(WRITERS)]
    threads = [threading.Thread(target=_write, args=(one, hazard, errors)) for one in writers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and not errors:
            _sync(origin, result)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise AssertionError("; ".join(errors))
    for _ in range(LAST_SYNCS):
        _sync(origin, result)


def run_cell(server: PostgreSQLServer, cell: str, seconds: float, seed: str) -> Result:
    """Provoke one hazard against one way to settle."""
    name, way = cell.split("/")
    hazard, result, database = HAZARDS[name], Result(cell), f"stress_{uuid.uuid4().hex}"
    origin = Origin(server.create_database(database), hazard.mode)
    try:
        origin.tables, origin.slice_pages = {"t": {**SETTLE[way], **hazard.settings}}, SLICE_PAGES
        origin.at_once = random.Random(f"{seed}/{cell}").choice(AT_ONCE)
        origin.execute(SCHEMA)
        started = time.monotonic()
        _syncs(origin, hazard, seconds, f"{seed}/{cell}", result)
        result.seconds = round(time.monotonic() - started, 1)
        with closing(origin.connect()) as connection:
            final = connection.execute("TABLE t").fetchall()
            committed = connection.execute("TABLE kept.log").fetchall()
        result.rows = len(committed)
        is_mirror = hazard.mode is WriteMode.OVERWRITE_DELETE_STALE
        compare(result, origin.rows("id", "at", "v"), final, final if is_mirror else committed)
    except Exception as error:  # noqa: BLE001 -- the other cells go on, and the table says it
        result.error = f"{type(error).__name__}: {error}"
    finally:
        server.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
    return result


# the command ---------------------------------------------------------------------------------------------------------

HEAD = ("hazard", "settle", "syncs", "rows", "lost", "doubled", "wrong", "class", "verdict")


def line(cells: Iterable[object]) -> str:
    """One line of the table."""
    return "{:<11} {:<8} {:>6} {:>7} {:>5} {:>7} {:>5}  {:<22} {}\n".format(*cells)


def shown(one: Result) -> str:
    """A result as a line."""
    counts = (one.syncs, one.rows, one.lost, one.duplicated, one.wrong)
    return line((*one.cell.split("/"), *counts, one.guarantee, one.verdict))


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60, help="of writing, for each cell")
    parser.add_argument("--seed", default="", help="what the writers do; a random one by default")
    parser.add_argument("--cells", default="*", help="patterns of hazard/settle, by comma")
    parser.add_argument("--out", type=Path, help="append a line of JSON for each cell")
    options = parser.parse_args()
    seed = options.seed or uuid.uuid4().hex[:8]
    cells = [cell for cell in CELLS if any(fnmatch(cell, one.strip()) for one in options.cells.split(","))]
    if not cells:
        parser.error(f"no cell is named so; there are {', '.join(CELLS)}")
    sys.stdout.write(f"{len(cells)} cells of {options.seconds:g} s, seed {seed}\n")
    results = []
    server = PostgreSQLServer()
    try:
        server.create()
        for cell in cells:
            results.append(one := run_cell(server, cell, options.seconds, seed))
            sys.stdout.write(shown(one))
            sys.stdout.flush()
            if options.out:
                with options.out.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"seed": seed, **asdict(one), "verdict": one.verdict}) + "\n")
    finally:
        server.remove()
    bad = [one for one in results if one.is_bad]
    sys.stdout.write("\n" + line(HEAD) + "".join(shown(one) for one in results))
    sys.stdout.writelines(f"{one.cell}: {example}\n" for one in bad for example in one.examples)
    sys.stdout.write(f"seed {seed}: {len(bad)} of {len(results)} cells are not as they have to be\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
