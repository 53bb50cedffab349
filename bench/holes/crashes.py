"""The scenarios in which a process dies, or two of them run, or a state is torn."""

import shutil

from .judge import Verdict
from .lab import StoppedError, stamp
from .scenarios import APPEND, LONG, OVERWRITE, RUNS, STATE, dlt_with, scenario

ROWS, WINDOW = 4000, 500
SHARE_AGAIN_MAX = 0.15
"""Of a first load, what may be read twice: what was not durable yet."""
TORN = (0, 1, 0.5, -2, -1)
"""How much is left of a state file; a share of it, or a number of bytes (from the end, where negative)."""


def many(lab, rows=ROWS, window=WINDOW):
    lab.batch_rows = window
    lab.create([(n, stamp(hours=3, seconds=-n), f"v{n}") for n in range(rows)])
    return [(n, f"v{n}") for n in range(rows)]


def after_a_kill(lab, expected, extra):
    """A new row, and two runs without a fault: dlt's first one finishes what was left, and reads nothing."""
    lab.insert([(extra, stamp(minutes=1), "after")])
    lab.sync(must=True)
    lab.sync(must=True)
    return Verdict(lab.judge([*expected, (extra, "after")]), "; ".join(lab.notes))


def unless_killed(lab, verdict):
    """A kill that did not happen is no verdict."""
    return Verdict("n/a: the process was not killed", verdict.note) if lab.notes else verdict


@scenario("G", "killed between the destination's commit and the bookkeeping, at a later sync", link=RUNS)
def unbooked(lab):
    lab.create([(n, stamp(minutes=60 - n), f"v{n}") for n in range(1, 6)])
    lab.sync(must=True)
    lab.insert([(6, stamp(minutes=10), "v6")])
    lab.kill("stored")
    return unless_killed(lab, after_a_kill(lab, [(n, f"v{n}") for n in range(1, 7)], 7))


@scenario("H", "two runs at the same time", store="postgresql", link=RUNS)
def two_runs(lab):
    expected = many(lab, 200, 100)
    meeting = lab.directory / "meeting"
    meeting.mkdir()
    runs = [lab.start(fault={"meet": str(meeting)}) for _ in range(2)]
    codes = [lab.end(run).code for run in runs]
    outcome = lab.tool.mended(lab)
    if outcome.code:
        raise StoppedError(outcome)
    lab.sync(must=True)
    return Verdict(lab.judge(expected), f"exit codes {codes[0]} and {codes[1]}")


@scenario(
    "L",
    "killed at 90 % of a long first load (of the rows stored, or of those extracted where all are extracted before any is stored): what is read again",
    tuned="`row_order` and `add_limit`, as its page on long loads says: many short loads instead of a long one",
    link=LONG,
)
def long_load(lab):
    dlt_with(lab, limit=1)
    expected = many(lab, 20_000, 2000)
    if not lab.kill("progress", rows=18_000):
        return Verdict("n/a: the process was not killed", lab.notes[0])
    lab.rows_read()
    outcome = lab.sync(fault={"at": "never"})
    if outcome.code:
        raise StoppedError(outcome)
    again = max(0, lab.rows_read() - 2_000)
    verdict = lab.judge(expected)
    if verdict == "ok" and again > SHARE_AGAIN_MAX * len(expected):
        verdict = f"{again / len(expected):.0%} read again"
    return Verdict(verdict, f"{again:,} of {len(expected):,} rows read again")


@scenario(
    "M",
    "killed three times while a table is loaded: is a cursor ever ahead of its rows?",
    link=RUNS,
)
def cursor_first(lab):
    expected = many(lab)
    for at, number in (("load", 2), ("stored", 1), ("extracted", 1)):
        lab.sync(fault={"at": at, "number": number})  # it may have nothing left to be killed at
    return after_a_kill(lab, expected, ROWS)


POINTS = {
    "extract": ("while rows are extracted", {"rows": ROWS // 2}),
    "extracted": ("after the extraction, before the (rest of the) load", {}),
    "load": ("in the middle of the load", {"number": 2}),
    "stored": ("after rows are loaded, before that is recorded", {}),
    "end": ("after everything, before the process ends", {}),
}


def killed_at(point, more):
    def run(lab):
        expected = many(lab)
        lab.kill(point, **more)
        return unless_killed(lab, after_a_kill(lab, expected, ROWS))

    return run


for number, (point, (when, more)) in enumerate(POINTS.items(), 1):
    scenario(f"X{number}", f"killed {when}, at the first sync", has_options=False, link=RUNS)(killed_at(point, more))


@scenario(
    "X6",
    "killed after the extraction, and the working directory is lost, as in a container",
    APPEND,
    has_options=False,
    link=STATE,
)
def container(lab):
    expected = many(lab)
    lab.kill("extracted")
    shutil.rmtree(lab.directory / "work", ignore_errors=True)
    shutil.rmtree(lab.directory / ".cq", ignore_errors=True)
    lab.insert([(ROWS, stamp(minutes=1), "after")])
    outcome = lab.sync()
    note = ""
    if outcome.code:
        note, outcome = f"stops with exit {outcome.code}; its way out was followed", lab.tool.recover(lab)
    if outcome.code:
        raise StoppedError(outcome)
    lab.sync(must=True)
    return unless_killed(lab, Verdict(lab.judge([*expected, (ROWS, "after")]), note))


@scenario(
    "R", f"the state file is torn by a power cut, at {len(TORN)} lengths", OVERWRITE, has_options=False, link=STATE
)
def torn(lab):
    lab.create([(n, stamp(minutes=60 - n), f"v{n}") for n in range(1, 6)])
    lab.sync(must=True)
    lab.insert([(6, stamp(minutes=10), "v6")])
    kept = lab.keep()
    whole = lab.tool.state_file(lab).read_bytes()
    bad, stopped = [], 0
    for left in TORN:
        lab.put_back(kept)
        length = int(left * len(whole)) if isinstance(left, float) else left if left >= 0 else len(whole) + left
        lab.tool.state_file(lab).write_bytes(whole[:length])
        outcome = lab.sync()
        if outcome.code:
            stopped += 1
            outcome = lab.tool.recover_state(lab)
        verdict = f"stopped: {outcome.last_words}" if outcome.code else lab.judge([(n, f"v{n}") for n in range(1, 7)])
        if verdict != "ok":
            bad.append(f"{verdict} at {length} of {len(whole)} bytes")
    shutil.rmtree(kept)
    note = f"stopped {stopped} times of {len(TORN)}, and went on after its way out"
    return Verdict("; ".join(bad) or "ok", note if stopped else "")
