"""The command: run the scenarios against the tools, print a table, write it as JSON and as a page.

make holes ARGS="--only A,X3 --without dlt --out holes.json --page docs/holes.md"
"""

import argparse
import json
import sys
import tempfile
import threading
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from postgresql import environment_of_dlt

from services.postgresql import PostgreSQLServer, programs

from . import borders, crashes, files, stores  # noqa: F401 -- they add their scenarios
from .judge import Verdict
from .lab import Dlt, StoppedError, Strandline, make_lab
from .page import page, terminal, versions
from .scenarios import ALL


def order(one):
    """As the letters are given: Z before AA."""
    return len(one.letter.rstrip("0123456789")), one.letter


class Server:
    """Started when it is first asked for a database."""

    def __init__(self):
        self.server, self.lock = None, threading.Lock()

    def database(self):
        with self.lock:
            self.server = self.server or PostgreSQLServer().create()
            return self.server.create_database(f"h_{uuid.uuid4().hex}")

    def remove(self):
        if self.server:
            self.server.remove()


def judge(one, mode, tool, directory, server):
    """The verdict of one scenario, mode and tool."""
    if "postgresql" in {one.origin, one.store} and programs() is None:
        return Verdict("n/a: PostgreSQL is not installed")
    try:
        lab = make_lab(
            directory / f"{one.letter}-{mode}-{tool.slug}", mode, tool, one.origin, one.store, server.database
        )
        return one.run(lab)
    except StoppedError as stopped:
        return Verdict(str(stopped))
    except Exception as error:  # noqa: BLE001 -- one broken scenario must not hide the others
        traceback.print_exc()
        return Verdict(f"bench failed: {type(error).__name__}: {error}"[:200])


def run(chosen, tools, jobs):
    """Verdicts by (letter, mode) and by the tool's name."""
    server, found = Server(), {}
    cells = [(one, mode, tool) for one in chosen for mode in one.modes for make in tools if (tool := make(one))]
    try:
        with tempfile.TemporaryDirectory(prefix="strandline-holes-") as folder, ThreadPoolExecutor(jobs) as pool:
            waiting = [pool.submit(judge, *cell, Path(folder), server) for cell in cells]
            for (one, mode, tool), future in zip(cells, waiting, strict=True):
                verdict = found.setdefault((one.letter, mode), {})[tool.name] = future.result()
                note = f"  ({verdict.note})" if verdict.note else ""
                print(f"{one.letter:>3} {mode:<9} {tool.name:<18} {verdict.text}{note}", flush=True)
    finally:
        server.remove()
    return found


def makers(python):
    """For each tool, what makes one for a scenario; dlt, if there is an interpreter for it."""
    made = [lambda _: Strandline()]
    if python:
        made.append(lambda _: Dlt(python, {}, tuned=False))
        made.append(lambda one: Dlt(python, one.settings, tuned=True) if one.has_options else None)
    return made


def earlier(path):
    """What the file holds already, so that a long run can be made in parts."""
    found = {}
    if path and Path(path).exists():
        for one in json.loads(Path(path).read_text())["results"]:
            by_tool = found.setdefault((one["scenario"], one["mode"]), {})
            by_tool[one["tool"]] = Verdict(one["verdict"], one["note"])
    return found


def write(path, found, about):
    results = [
        {"scenario": letter, "mode": mode, "tool": name, "verdict": verdict.text, "note": verdict.note}
        for (letter, mode), by_tool in sorted(found.items())
        for name, verdict in by_tool.items()
    ]
    Path(path).write_text(json.dumps({"versions": about, "results": results}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description="The same faults against Strandline and dlt.")
    parser.add_argument("--only", default="", help="letters of scenarios, with commas")
    parser.add_argument("--without", default="", help="`dlt`: only Strandline")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at the same time")
    parser.add_argument("--out", default="", help="a JSON file to write; it keeps what it has of other scenarios")
    parser.add_argument(
        "--page", default="", help="a page to write, in Markdown, of all that is in --out and in this run"
    )
    options = parser.parse_args()
    wanted = [one for one in options.only.split(",") if one]
    unknown = set(wanted) - {one.letter for one in ALL}
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(one.letter for one in ALL)}")
    chosen = sorted((one for one in ALL if not wanted or one.letter in wanted), key=order)
    python = None if options.without == "dlt" else environment_of_dlt()
    found = run(chosen, makers(python), options.jobs)
    about = versions(python)
    print("\n" + terminal(chosen, found))
    judged = {**earlier(options.out), **found}
    if options.out:
        write(options.out, judged, about)
    if options.page:
        all_of_it = sorted((one for one in ALL if (one.letter, one.modes[0]) in judged), key=order)
        Path(options.page).write_text(page(all_of_it, judged, about))
    bad = [where for where, by_tool in found.items() if not by_tool[Strandline.name].is_ok]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
