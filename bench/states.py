"""State backends: commits a second, the slowest of a hundred, and ten thousand cursors that are listed.

Servers are started for it, on loopback; the object store is moto, so that its own numbers say little. `python bench/states.py [COMMITS]`
"""

import json
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


def backends(stack):
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
        "redis": {"url": stack.enter_context(RedisServer(valkey_program(), *DURABLE)).url},
        "objects": {"url": "s3://bucket/states", "options": s3.options},
    }


def state(number):
    from strandline.state import Pass, Phase, State, TableState

    done = Pass(number + 1, full=False, phase=Phase.DONE, completed=("orders",))
    return State(
        {"at": f"2026-01-01 00:00:{number:06}"}, 1, number, "a run", done, {"orders": TableState("abc", "m", number)}
    )


def commits(backend, count):
    """Seconds of each save of one lineage."""
    from strandline.state import StateKey

    took, token, key = [], None, StateKey("bench", "orders", "warehouse")
    for number in range(count):
        began = time.perf_counter()
        token = backend.save(key, state(number), expected=token)
        took.append(time.perf_counter() - began)
    return took


def listed(name, settings, backend):
    """Seconds of `state list` with many cursors; without a backend that another process sees, none."""
    from strandline.state import StateKey

    if name in {"memory", "objects"}:
        return None
    for number in range(LISTED):
        backend.save(StateKey("many", f"orders:{number}", "warehouse"), state(number), expected=None)
    source = {"name": "many", "path": "test", "destinations": ["warehouse"], "backend": name, "backend_spec": settings}
    documents = [
        {"kind": "source", "spec": source},
        {"kind": "destination", "spec": {"name": "warehouse", "path": "memory"}},
    ]
    Path("strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)), "utf-8")
    command, took = [sys.executable, "-m", "strandline", "state", "list"], []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main(count=500):
    from strandline.plugins import load_plugin

    with ExitStack() as stack:
        stack.enter_context(chdir(stack.enter_context(tempfile.TemporaryDirectory(prefix="strandline-states-"))))
        print(f"{'backend':<12}{'commits/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'list s':>9}")
        for name, settings in backends(stack).items():
            cls = load_plugin("state_backend", name)
            backend = cls(cls.Spec(**settings))
            took = sorted(commits(backend, count))
            p50, p99 = took[count // 2] * 1e3, took[count * 99 // 100] * 1e3
            list_s = listed(name, settings, backend)
            backend.close()
            shown = f"{list_s:9.2f}" if list_s is not None else f"{'–':>9}"
            print(f"{name:<12}{count / sum(took):>10.0f}{p50:>9.2f}{p99:>9.2f}{shown}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
