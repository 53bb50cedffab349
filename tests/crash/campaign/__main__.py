"""make crash [SEED=7] [ARGS="--cells 'sqlite/*' --kinds call,disk --share 0.2 --out FILE --resume --page FILE"].

Without a seed, something new is tried each time. One case again: the seed, the cell, the kind, and what the report calls
its point, as --point 'step 1 before destination.write 2'. The exit code is 1 if anything was found.
"""

import argparse
import json
import signal
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from campaign import page
from campaign.bench import Bench
from campaign.kinds import CELLS, KINDS
from strandline.testing.campaign.chains import struck_in


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", default="", help="what is done, and where it is struck; a random one by default")
    parser.add_argument("--cells", default="*", help="patterns of source/destination/mode, by comma")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of faults, by comma")
    parser.add_argument("--share", type=float, default=1.0, help="of the points of each cell")
    parser.add_argument("--point", default="", help="only this one, as the report names it")
    parser.add_argument("--jobs", type=int, default=2, help="how many cells at once")
    parser.add_argument("--out", type=Path, help="append a line of JSON for each case")
    parser.add_argument("--resume", action="store_true", help="leave out the calls that --out says were struck")
    parser.add_argument("--page", type=Path, help="write the report, from all that is in --out")
    options = parser.parse_args()
    if (options.page or options.resume) and not options.out:
        parser.error("--page and --resume need --out")
    options.seed = options.seed or uuid.uuid4().hex[:8]
    cells = [cell for cell in CELLS if any(fnmatch(str(cell), one.strip()) for one in options.cells.split(","))]
    kinds = [one.strip() for one in options.kinds.split(",")]
    if not cells or not {*kinds} <= {*KINDS}:
        parser.error(f"nothing is named so; there are {', '.join(map(str, CELLS))} and {', '.join(KINDS)}")
    sys.stdout.write(f"{len(cells)} cells × {', '.join(kinds)}, seed {options.seed}\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are removed then too
    found = Matrix(options).run(cells, kinds)
    if options.page:
        options.page.write_text(page.written(options.out.read_text("utf-8").splitlines()), "utf-8")
    return 1 if found else 0


class Matrix:
    """All cells × kinds, some at a time."""

    def __init__(self, options):
        self.options = options
        kept = options.out.read_text("utf-8").splitlines() if options.resume and options.out.exists() else ()
        self._struck = frozenset(struck_in(map(json.loads, kept)))
        self.found = 0
        self.cases = 0
        self._lock, self._local, self._benches = threading.Lock(), threading.local(), []

    def run(self, cells, kinds):
        """How many cases are bad."""
        began_s = time.monotonic()
        places = [(kind, place, why) for kind in kinds for place, why in KINDS[kind].places(cells)]
        for kind, place, why in places:
            if why not in {"", "–"}:
                self._say(f"{place} {kind}: NOT TRIED: {why}")
        pool = ThreadPoolExecutor(self.options.jobs)
        try:
            for done in [pool.submit(self._strike, place, kind) for kind, place, why in places if not why]:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
            for bench in self._benches:
                bench.close()
        seconds = time.monotonic() - began_s
        sys.stdout.write(f"seed {self.options.seed}: {self.cases} cases in {seconds:.0f} s, {self.found} of them bad\n")
        return self.found

    @property
    def _bench(self):
        if not hasattr(self._local, "bench"):
            options = self.options
            self._local.bench = Bench(options.seed, share=options.share, only=options.point, struck=self._struck)
            self._benches.append(self._local.bench)
        return self._local.bench

    def _strike(self, cell, kind):
        began_s = time.monotonic()
        cases = []
        try:
            for case in KINDS[kind].strike(self._bench, cell):
                cases.append(case)
                self._keep(case)
        except Exception as error:  # noqa: BLE001 -- the other cells go on, and this one is bad
            self.found += 1
            self._say(f"{cell} {kind}: BROKEN: {type(error).__name__}: {error}")
        reached = sum(case.reached for case in cases)
        bad = sum(case.bad for case in cases)
        self._say(f"{cell} {kind}: {len(cases)} cases, {reached} struck, {bad} bad, {time.monotonic() - began_s:.0f} s")

    def _keep(self, case):
        with self._lock:
            self.cases += 1
            self.found += case.bad
            if self.options.out:
                with self.options.out.open("a", encoding="utf-8") as out:
                    out.write(case.record(self.options.seed) + "\n")
        if case.bad:
            self._say(f"{case.cell} {case.kind} {case.point}, exits {case.exits}: {'; '.join(case.problems)}")

    def _say(self, text):
        with self._lock:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
