"""State backends: commits a second, the slowest of a hundred, ten thousand cursors that are listed, and whole syncs.

Servers are started for it, on loopback; the object store is moto, so that its own numbers say little. A commit is measured alone and
among ten thousand cursors, in turn; a list by the clock, and by the processor, which a busy machine disturbs less. Whole syncs of some tables
into DuckDB go round by round through all backends: medians of a backend are compared with those of `memory` in the same rounds.
`python bench/states.py [COMMITS] [ROUNDS]`
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, chdir
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]
LISTED = 10_000
ELSEWHERE = {
    "memory": {},
    "local": {"path": "few"},
    "sqlite": {"path": "few.db"},
    "postgresql": {"table": "few"},
    "mysql": {"table": "few"},
    "redis": {"prefix": "few"},
    "objects": {"url": "s3://bucket/few"},
}
"""The same server or disk, with nothing in it."""


def backends(stack):
    from services.mariadb import MariaDBServer
    from services.postgresql import PostgreSQLServer
    from services.redis import DURABLE, RedisServer, valkey_program
    from services.s3 import S3

    server = PostgreSQLServer(durable=True).create()
    stack.callback(server.remove)
    s3 = stack.enter_context(S3())
    return {
        "memory": {},
        "local": {"path": "kept"},
        "sqlite": {"path": "kept.db"},
        "postgresql": {"connection_string": server.uri()},
        "mysql": {"connection_string": stack.enter_context(MariaDBServer(directory=Path.cwd())).uri()},
        "redis": {"url": stack.enter_context(RedisServer(valkey_program(), *DURABLE)).url},
        "objects": {"url": "s3://bucket/states", "options": s3.options},
    }


def state(number):
    from strandline.state import Pass, Phase, State, TableState

    done = Pass(number + 1, full=False, phase=Phase.DONE, completed=("orders",))
    return State(
        {"at": f"2026-01-01 00:00:{number:06}"}, 1, number, "a run", done, {"orders": TableState("abc", "m", number)}
    )


def commits(backend, count, source):
    """Seconds of each save of one lineage of a source."""
    from strandline.state import StateKey

    took, token, key = [], None, StateKey(source, "orders", "warehouse")
    for number in range(count):
        began = time.perf_counter()
        token = backend.save(key, state(number), expected=token)
        took.append(time.perf_counter() - began)
    return took


def spec(source, name, settings, tables=1, into="memory"):
    own = {"path": "warehouse.duckdb"} if into == "duckdb" else {}
    about = {"name": source, "path": "test", "destinations": ["warehouse"], "backend": name, "backend_spec": settings}
    documents = [
        {"kind": "source", "spec": about | {"spec": {"tables": tables, "rows": 1_000}}},
        {"kind": "destination", "spec": {"name": "warehouse", "path": into, "spec": own}},
    ]
    Path("strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)), "utf-8")


def strandline(*arguments):
    """Seconds by the clock, and of a processor."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "strandline", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def growth(many, few, count):
    """Medians of commits of one cursor alone, and among very many, in turn; in seconds."""
    from strandline.state import StateKey

    for number in range(LISTED):
        many.save(StateKey("many", f"orders:{number}", "warehouse"), state(number), expected=None)
    took, tokens, key = [[], []], [None, None], StateKey("many", "orders", "warehouse")
    for number in range(count):
        for place, backend in enumerate((few, many)):
            began = time.perf_counter()
            tokens[place] = backend.save(key, state(number), expected=tokens[place])
            took[place].append(time.perf_counter() - began)
    return [statistics.median(one) for one in took]


def listed(name, settings):
    """A list of many cursors, in seconds by the clock and of a processor; of a backend that another process sees."""
    if name in {"memory", "objects"}:
        return None
    spec("many", name, settings)
    return [statistics.median(one) for one in zip(*(strandline("state", "list") for _ in range(3)), strict=True)]


def syncs(chosen, rounds):
    """Seconds of a first sync of twenty tables, by backend, each round through all of them."""
    took = {name: [] for name in chosen}
    for number in range(rounds):
        for name, settings in chosen.items():
            Path("warehouse.duckdb").unlink(missing_ok=True)
            spec(f"round{number}", name, settings, tables=20, into="duckdb")
            took[name].append(strandline("sync", "-q"))
    return took


def main(count=500, rounds=5):
    from strandline.plugins import load_plugin

    with ExitStack() as stack:
        stack.enter_context(chdir(stack.enter_context(tempfile.TemporaryDirectory(prefix="strandline-states-"))))
        chosen = backends(stack)
        print(
            f"{'backend':<12}{'commits/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'list s':>9}{'cpu s':>8}{'p50 alone ms':>14}{'p50 among ms':>14}"
        )
        for name, settings in chosen.items():
            cls = load_plugin("state_backend", name)
            backend = cls(cls.Spec(**settings))
            took = sorted(commits(backend, count, "bench"))
            p50, p99 = took[count // 2] * 1e3, took[count * 99 // 100] * 1e3
            other = cls(cls.Spec(**settings | ELSEWHERE[name]))
            (few, many), seen = growth(backend, other, count), listed(name, settings)
            backend.close()
            other.close()
            shown = f"{seen[0]:9.2f}{seen[1]:8.2f}" if seen else f"{'–':>9}{'–':>8}"
            grown = f"{few * 1e3:14.2f}{many * 1e3:14.2f}"
            print(f"{name:<12}{count / sum(took):>10.0f}{p50:>9.2f}{p99:>9.2f}{shown}{grown}", flush=True)
        if not rounds:
            return
        whole = syncs(chosen, rounds)
        usual = statistics.median(clock for clock, _ in whole["memory"])
        for name, found in whole.items():
            clock, cpu = (statistics.median(one) for one in zip(*found, strict=True))
            print(f"sync {name:<12}{clock:8.2f} s  {clock / usual:5.2f} of memory  {cpu:5.2f} s of a processor")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
