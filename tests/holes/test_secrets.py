"""A canary in every setting, everything made to fail, at debug level: found nowhere."""

import base64
import json
import os
import subprocess
import sys
import urllib.parse

import pytest

CANARY = "c4n4ry/Sw0rdfish+9x"


def forms(secret):
    yield secret
    yield urllib.parse.quote(secret, safe="")
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
    yield json.dumps(secret)[1:-1]
    for start in range(len(secret) - 8 + 1):
        yield secret[start : start + 8]


def run(directory, *arguments):
    environment = {**os.environ, "CANARY": CANARY}
    return subprocess.run(  # noqa: PLW1510 -- the exit code is what is tested
        [sys.executable, "-m", "strandline", "--debug", "--log-level", "debug", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def spec(directory, source, destination, backend):
    documents = [
        {"kind": "source", "spec": {"name": "s", "destinations": ["d"], **source, **backend}},
        {"kind": "destination", "spec": {"name": "d", **destination}},
    ]
    (directory / "strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))


CASES = {
    "sqlite path": (
        {"path": "sqlite", "spec": {"path": "no/${CANARY}/such.db"}},
        {"path": "duckdb", "spec": {"path": "w.duckdb"}},
        {},
    ),
    "files path": (
        {"path": "files", "spec": {"path": "no/${CANARY}/*.csv"}},
        {"path": "duckdb", "spec": {"path": "w.duckdb"}},
        {},
    ),
    "duckdb path": (
        {"path": "test", "spec": {"rows": 3}},
        {"path": "duckdb", "spec": {"path": "/no/${CANARY}/w.duckdb"}},
        {},
    ),
    "duckdb memory limit": (
        {"path": "test", "spec": {"rows": 3}},
        {"path": "duckdb", "spec": {"path": "w.duckdb", "memory_limit": "${CANARY}"}},
        {},
    ),
    "state path": (
        {"path": "test", "spec": {"rows": 3}},
        {"path": "duckdb", "spec": {"path": "w.duckdb"}},
        {"backend": "local", "backend_spec": {"path": "/proc/${CANARY}"}},
    ),
    "unknown field": (
        {"path": "test", "spec": {"rows": 3, "password": "${CANARY}"}},
        {"path": "duckdb", "spec": {"path": "w.duckdb", "token": CANARY}},
        {},
    ),
    "where": (
        {"path": "sqlite", "spec": {"path": "real.db", "tables": {"t": {"where": "v = '${CANARY}' AND"}}}},
        {"path": "duckdb", "spec": {"path": "w.duckdb"}},
        {},
    ),
    "wrong type": (
        {"path": "test", "spec": {"rows": "${CANARY}"}},
        {"path": "duckdb", "spec": {"path": "w.duckdb", "batch_size": "${CANARY}"}},
        {},
    ),
    "postgresql connection string": (
        {"path": "test", "spec": {"rows": 3}},
        {"path": "postgresql", "spec": {"connection_string": "host=127.0.0.1 port=1 password=${CANARY} dbname=x"}},
        {},
    ),
    "postgresql connection string that is none": (
        {"path": "test", "spec": {"rows": 3}},
        {"path": "postgresql", "spec": {"connection_string": "host=127.0.0.1 ${CANARY}"}},
        {},
    ),
    "connection string": (
        {"path": "sqlite", "spec": {"path": f"postgresql://me:{urllib.parse.quote(CANARY, safe='')}@localhost/x"}},
        {"path": "duckdb", "spec": {"path": "w.duckdb"}},
        {},
    ),
}


@pytest.mark.parametrize(
    ("command", "case"),
    [
        *(("sync", case) for case in CASES),
        ("plan", "where"),
        ("validate-config", "wrong type"),
        ("tables", "sqlite path"),
    ],
)
def test_a_secret_shows_nowhere(tmp_path, command, case):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(tmp_path / "real.db")) as connection, connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    spec(tmp_path, *CASES[case])
    done = run(tmp_path, command)
    written = {"stdout": done.stdout, "stderr": done.stderr}
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name not in {"strandline.yml", "real.db"}:
            written[str(path)] = path.read_bytes().decode("latin-1")
    for place, text in written.items():
        for form in forms(CANARY):
            assert form not in text, f"{form!r} in {place}: {text[-2000:]}"
    if command == "sync":
        assert done.returncode not in {0, 70}, done.stderr
