"""A source that accepts the connection and never answers: the command can be stopped, and ends by itself."""

import signal
import socket
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from test_engine import Numbers, destination, job

from strandline.connectors.postgresql import libpq
from strandline.engine.answer import answered
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.engine.window import Stop
from strandline.errors import UnreachableError

SPEC = """
kind: source
spec:
  name: shop
  path: postgresql
  destinations: [warehouse]
  spec: {{connection_string: "postgresql://nobody:nothing@127.0.0.1:{port}/shop"}}
---
kind: destination
spec: {{name: warehouse, path: duckdb, spec: {{path: warehouse.duckdb}}}}
"""


@pytest.fixture
def silent_server():
    """A port where everybody may come in, and nobody is answered; and an event that is set once somebody came."""
    came, kept = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                if connection.recv(1):
                    came.set()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], came
    for connection in kept:
        connection.close()


def heeds_ctrl_c():
    """Whoever starts the tests in the background of a shell has them ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["sync", "plan", "test-connection", "doctor"])
def test_a_command_that_waits_for_a_silent_server_ends_at_the_first_signal(tmp_path, silent_server, command, number):
    port, came = silent_server
    (tmp_path / "spec.yml").write_text(SPEC.format(port=port))
    process = subprocess.Popen(
        [sys.executable, "-m", "strandline", command, "spec.yml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heeds_ctrl_c,  # noqa: PLW1509 -- the child only sets a handler
    )
    try:
        assert came.wait(60)
        time.sleep(0.5)  # it now waits for an answer
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    expected = {128 + number} if command == "sync" else {128 + number, -number}
    assert process.returncode in expected, output
    assert not (tmp_path / "warehouse.duckdb").exists()


@pytest.mark.parametrize("command", ["sync", "plan", "test-connection", "doctor"])
def test_a_command_that_nobody_answers_ends_by_itself(tmp_path, silent_server, command):
    port, _ = silent_server
    spec = SPEC.format(port=port).replace("/shop", "/shop?connect_timeout=2")
    (tmp_path / "spec.yml").write_text(spec)
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "strandline", command, "spec.yml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (1 if command == "doctor" else 5), done.stdout
    assert "PostgreSQL does not answer" in done.stdout
    assert time.monotonic() - began_s < 60
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_a_connection_has_a_deadline_unless_its_string_has_another():
    wanted = {"connect_timeout": "10", "options": "-c a=b"}
    url = libpq.with_parameters("postgresql://u:p?w@h/d?connect_timeout=2", wanted)
    assert psycopg.conninfo.conninfo_to_dict(url) == {
        "user": "u",
        "password": "p?w",
        "host": "h",
        "dbname": "d",
        "connect_timeout": "2",
        "options": "-c a=b",
    }
    said = libpq.with_parameters("host=h connect_timeout=3", wanted)
    assert psycopg.conninfo.conninfo_to_dict(said) == {"host": "h", "connect_timeout": "3", "options": "-c a=b"}
    assert "connect_timeout=10" in libpq.with_parameters("postgres:///d", libpq.PARAMETERS)


class Silent(Numbers):
    """Never says what it has."""

    def __init__(self):
        super().__init__("a")
        self.asked = threading.Event()

    def tables(self):
        self.asked.set()
        threading.Event().wait(60)
        return super().tables()


def test_a_source_that_does_not_answer_is_out_of_reach():
    with pytest.raises(UnreachableError, match=r"source 'a' has not answered"):
        answered(Silent().tables, of="source 'a'", within_s=0.2)


def test_a_run_that_is_stopped_while_its_source_hangs_has_touched_nothing():
    store, source, stop = destination("hanging"), Silent(), Stop()
    threading.Thread(target=lambda: source.asked.wait(30) and stop.set(signal.SIGTERM), daemon=True).start()
    report = sync(job(source, store), stop=stop)
    assert report.exit_code == 128 + signal.SIGTERM
    assert not report.tasks


def test_what_a_source_raises_is_raised_where_it_was_asked():
    class Broken(Numbers):
        def tables(self):
            raise UnreachableError("down")

    with pytest.raises(UnreachableError, match="down"):
        plan(job(Broken("a"), destination("broken")))
