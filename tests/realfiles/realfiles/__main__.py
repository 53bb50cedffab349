"""make realfiles [ARGS="--only agate --cache DIRECTORY --report FILE"]: real files of other people's packages.

Fetches the packages of the manifest, reads each file of them through the `files` source into DuckDB, and compares what is
stored with the file itself, as Python reads it, with DuckDB's reader and with Arrow's. Exit code 1 if anything differs.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from realfiles.archives import FetchError, chosen, contents, fetched, packages
from realfiles.verdicts import judged

_OUTCOMES = ("exact", "refused", "different")


def verdicts(of, cache):
    """Of every file, package by package."""
    for package in of:
        try:
            members = contents(fetched(package, cache))
        except FetchError as error:
            sys.stdout.write(f"NOT FETCHED: {error}\n")
            continue
        for name in package.files:
            yield judged(str(package), name, members[name])


def main():
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help="packages with this in their names; * and ? are wild")
    parser.add_argument("--cache", type=Path, default=Path(".cache/realfiles"), help="where the packages are kept")
    parser.add_argument(
        "--report", type=Path, default=Path(".cache/realfiles/report.jsonl"), help="a line for each file"
    )
    options = parser.parse_args()
    options.report.parent.mkdir(parents=True, exist_ok=True)
    found = []
    with options.report.open("w", encoding="utf-8") as report:
        for verdict in verdicts(chosen(packages(), options.only), options.cache):
            found.append(verdict)
            report.write(json.dumps(verdict.record(), default=str) + "\n")
            report.flush()
            if verdict.outcome != "exact":
                sys.stdout.write(f"{verdict.outcome.upper()} {verdict.package} {verdict.file}: {verdict.reason}\n")
    sys.stdout.write(summary(found))
    return 1 if not found or any(verdict.outcome == "different" for verdict in found) else 0


def summary(found):
    """A table: formats down, outcomes across; then how the other readers do on the same files."""
    counts = Counter((verdict.format, verdict.outcome) for verdict in found)
    lines = [f"{'format':<32}" + "".join(f"{one:>10}" for one in _OUTCOMES)]
    lines += [
        f"{kind:<32}" + "".join(f"{counts[kind, one]:>10}" for one in _OUTCOMES)
        for kind in sorted({verdict.format for verdict in found})
    ]
    totals = Counter(verdict.outcome for verdict in found)
    lines.append(f"{f'all {len(found)}':<32}" + "".join(f"{totals[one]:>10}" for one in _OUTCOMES))
    said = sum(bool(verdict.settings.keys() - {"format", "records"}) for verdict in found)
    silent = sum(verdict.silent for verdict in found)
    lines.append(f"silently different: {silent}; read after a setting that the refusal names: {said}")
    for name in ("duckdb", "arrow"):
        exact = sum(verdict.others.get(name) == "exact" for verdict in found)
        lines.append(f"{name}'s own reader is exact on {exact} of {len(found)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
