"""docs/crash.md, written from the lines of JSON that a campaign leaves."""

import json
import platform
import sqlite3
import statistics
import subprocess
from collections import defaultdict

import duckdb
import psycopg
import pyarrow as pa

from campaign import kinds
from services.postgresql import programs
from strandline import __version__
from strandline.testing.campaign.chains import struck_in

_HEAD = """# {title}

What `make crash` did and found. It starts real syncs, hits them with a fault, starts them again until one completes, and
compares the destination with a model of everything that happened at the source: new and changed rows, rows with equal
times, without a time, late ones (on PostgreSQL, of a transaction that is open while the sync before runs) and deleted
ones. Written by `make crash`; change `tests/crash/campaign/page.py`, not this page.

**{cases:,} cases, of which {struck:,} were struck: {gaps} rows missing, {duplicates} stored twice, {wrong} wrong, and {bad}
cases were not as they have to be.** Seed {seeds}; Strandline {version},
{versions}.
"""
_PARTS = 3
"""Of the name of a cell whose states are in files."""
_ALL = {"title": "Killed, cut off, full, suspended", "name": "crash", "cells": "", "cell": "sqlite/duckdb/append"}
_BACKED = {
    "title": "Killed, with each state backend",
    "name": "crash-states",
    "cells": "--cells '*/*/*/*' ",
    "cell": "sqlite/duckdb/append/redis",
}
_KINDS = """
## Kinds of faults

| kind | what it does | cases | struck | missing | twice | wrong | bad | recovery: median, most | stored, read again: most |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
"""
_MATRIX = """
## The matrix

Cases of each cell that were struck, by kind; of `call` the points, and how many there are to strike (from PostgreSQL a few
less where nothing else happened on the server meanwhile). A number in bold: so many were not as they have to be. A dash: the
kind has no meaning there. Empty: not tried.

"""
_AGAIN = """
## One case again

The seed is said above, and each bad case is named below; `tests/crash/campaign/__main__.py` tells the options.

<!-- not run: tests/crash runs a sample -->
```sh
make crash SEED={seed} ARGS="--cells {cell} --kinds call --point 'step 1 before destination.write 2'"
```

Of a kind that is not `call`, the whole cell is done again. The seed decides the data and where is struck. It does not
decide how threads interleave: a kill in the thread that reads falls wherever the one that writes happens to be.

All of it: `make crash ARGS="{cells}--out {name}.jsonl --page docs/{name}.md"`; with `--resume` also, it goes on where it was stopped,
and strikes only the calls that `{name}.jsonl` does not name yet. A sample of it is part of `make test`.
"""
_COVERED = """
## What is covered

- A killed sync is a process that ends by a real SIGKILL, its threads and connections with it. To be quick, it is forked
  from a process that has imported everything and opened nothing; from there on it is the command line's own entry.
- `call`: before each call, and after the last one. Between one call and the next nothing is done to the outside, so that
  after the one is before the other. A quarter of the cases are killed again while they recover. A fifth are looked into
  before they recover: what the saved state covers has to be stored.
- `worker`: real workers of the executor `processes`, forked as syncs are. What happens to one happens at a call for the task that it does.
- After each case: the rows by the model; no table and no file left over; the exit code 0 of the sync that completes. A
  tenth of the cases are synced once more: that reads nothing but what is always read again.
- *Stored, read again* counts rows that the killed sync had stored and the next one reads again, in cells whose source is
  a database; the look-back window (`lag`), rows without a time and transactions in flight among them.
- `power`: what the file system had handed to its disk survives, and what it kept in memory is lost.

## What is not

- Power cuts of the destination's own files: that is the promise of DuckDB, SQLite and PostgreSQL.
- Disks that lie about what they have written; file systems of a network; more than one machine.
- A connection to a source that is cut at a chosen byte: a source commits nothing. Its server is stopped at any instant.
- Large tables: each has a few dozen rows, in windows of a few rows, so that there are many borders.
- The source `test` changes by itself with each sync, so what it has to deliver is computed from the number of syncs that
  the state tells.
"""


def written(lines):
    """The page."""
    records = [json.loads(line) for line in lines]
    seeds = sorted({str(one["seed"]) for one in records})
    total = _sums(records)
    versions = f"Python {platform.python_version()}, {_versions()}"
    about = _BACKED if _is_backed(records) else _ALL
    text = _HEAD.format(title=about["title"], **total, seeds=", ".join(seeds), version=__version__, versions=versions)
    text += _KINDS + "".join(_kind_line(name, records) for name in kinds.KINDS)
    text += _MATRIX + _matrix(records) + _AGAIN.format(seed=seeds[0] if seeds else "SEED", **about)
    return text + _bad(records) + _COVERED


def _is_backed(records):
    """Whether it is all about the other state backends."""
    return bool(records) and all(len(one["cell"].split("/")) > _PARTS for one in records)


def _sums(records):
    names = {"gaps": "gaps", "duplicates": "duplicates", "wrong": "wrong"}
    sums = {name: sum(one[name] for one in records) for name in names}
    return sums | {
        "cases": len(records),
        "struck": sum(one["reached"] for one in records),
        "bad": sum(bool(one["problems"]) for one in records),
    }


def _kind_line(name, records):
    about = kinds.KINDS[name].about
    mine = [one for one in records if one["kind"] == name and one["point"] != "undisturbed"]
    if not mine:
        return f"| `{name}` | {about} | not tried | | | | | | | |\n"
    sums = _sums(mine)
    times = [one["recovery_s"] for one in mine]
    again = [one["reread_rows"] for one in mine if one["reread_rows"] is not None]
    counts = [sums[one] for one in ("cases", "struck", "gaps", "duplicates", "wrong", "bad")]
    recovery = f"{statistics.median(times):.2f} s, {max(times):.2f} s"
    shown = " | ".join(f"{one:,}" for one in counts)
    return f"| `{name}` | {about} | {shown} | {recovery} | {max(again) if again else ''} |\n"


def _matrix(records):
    cases, bad, points = defaultdict(int), defaultdict(int), defaultdict(int)
    for one in records:
        place = one["cell"], one["kind"]
        points[place] = max(points[place], one["points"])
        if one["point"] != "undisturbed" and one["reached"]:
            cases[one["cell"], one["kind"]] += one["kind"] != "call"
            bad[one["cell"], one["kind"]] += bool(one["problems"])
    for cell, _ in struck_in(records):
        cases[cell, "call"] += 1
    names = [name for name in kinds.KINDS if name != "power"]
    lines = [f"| cell | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
    tried = {cell for cell, _ in {*cases, *points}}
    for cell in kinds.CELLS:
        if cell.impossible or str(cell) not in tried:
            continue
        shown = [_cell(cell, name, cases, bad, points) for name in names]
        lines.append(f"| {cell} | {' | '.join(shown)} |")
    systems = sorted({one["cell"] for one in records if one["kind"] == "power"})
    tried = "; ".join(f"{one}: {cases[one, 'power']} cuts, {bad[one, 'power']} bad" for one in systems)
    left = [f"{one}: {why}" for one, why in kinds.KINDS["power"].places(()) if why]
    not_tried = f" Not tried: {'; '.join(left)}." if left else ""
    refused = sorted({cell.impossible for cell in kinds.CELLS if cell.impossible})
    if refused and not _is_backed(records):
        lines += ["", f"There are no other cells: {', '.join(refused)}."]
    power = "" if _is_backed(records) else f"\n\nPower cuts: {tried or 'none'}.{not_tried}"
    return "\n".join(lines) + power + "\n"


def _cell(cell, name, cases, bad, points):
    if kinds.KINDS[name].refused(cell) == "–":
        return "–"
    count, wrong, points = (one[str(cell), name] for one in (cases, bad, points))
    return (f"{count}" + (f" of {points}" if points else "") + (f" **{wrong}**" if wrong else "")) if count else ""


def _bad(records):
    found = [one for one in records if one["problems"]]
    if not found:
        return ""
    lines = [
        f"- `{one['cell']}` `{one['kind']}` seed {one['seed']}, {one['point']}, exit codes {one['exits']}: "
        f"{' '.join(one['problems'][0].split())[:300]}\n"
        for one in found[:50]
    ]
    return "\n## Not as it has to be\n\n" + "".join(lines)


def _versions():
    server = subprocess.run([programs() / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return (
        f"PyArrow {pa.__version__}, DuckDB {duckdb.__version__}, SQLite {sqlite3.sqlite_version}, "
        f"psycopg {psycopg.__version__}, PostgreSQL {server.split()[2]}, {platform.system()} {platform.release()}"
    )
