"""`on_failure` and `on_success`: who is told, of what, and that nothing of the sync hangs on it."""

import json
import signal
import socket
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from strandline.cli._notify import notify
from strandline.engine.window import Stop
from strandline.runs import RunReport
from strandline.spec import load

KEEP = ["sh", "-c", "cat > told.json; env > told.env"]


@contextmanager
def webhook(code=200, **headers):
    """A server of loopback that answers all with ``code``; its URL, and what came in."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self):
            self.do_POST()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/hunter2hunter2", told
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def failing(cli):
    """A shop of which one table is refused by the destination, with a text that holds a password."""

    def make(**settings):
        cli.shop("items", "orders", into="sqlite", path="copy.db", **settings)
        assert cli("migrate").exit_code == 0
        with closing(sqlite3.connect("copy.db")) as file, file:
            file.execute("CREATE TRIGGER t BEFORE INSERT ON items BEGIN SELECT RAISE(ABORT, 'key=s3cret-word'); END")
        return cli

    return make


def rows(table):
    with closing(sqlite3.connect("copy.db")) as file:
        return file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_a_command_is_told_by_its_environment_and_stdin(failing):
    cli = failing(on_failure={"command": KEEP}, on_success={"command": ["false"]})
    done = cli("sync")
    told = json.loads(Path("told.json").read_text("utf-8"))
    variables = dict(line.split("=", 1) for line in Path("told.env").read_text("utf-8").splitlines() if "=" in line)
    assert done.exit_code == told["exit_code"] == 1
    assert told["run_id"] == json.loads(Path(".cq/runs/runs.jsonl").read_text("utf-8"))["run_id"]
    assert [(one["table"], one["destination"]) for one in told["failed"]] == [("items", "copy")]
    assert told["text"] == "sync of shop: exit code 1, failed: items"
    named = ("RUN_ID", "SOURCE", "EXIT_CODE", "FAILED_TABLES", "TEXT")
    assert [variables[f"STRANDLINE_{name}"] for name in named] == [told["run_id"], "shop", "1", "items", told["text"]]


def test_a_webhook_gets_the_same(failing):
    with webhook() as (url, told):
        done = failing(on_failure={"webhook": url})("sync")
    ((path, body),) = told
    assert path == "/hooks/hunter2hunter2"
    assert (body["source"], body["exit_code"], [one["table"] for one in body["failed"]]) == ("shop", 1, ["items"])
    assert "nobody was told" not in done.stderr


def test_no_secret_is_told(failing):
    Path(".env").write_text("WORD=s3cret-word", "utf-8")
    cli = failing(on_failure={"command": KEEP}, backend_spec={"path": ".cq/${WORD}"})
    cli("sync")
    text = Path("told.json").read_text("utf-8") + Path("told.env").read_text("utf-8")
    assert "key=***" in text
    assert "s3cret-word" not in text


def test_success_is_told_to_whom_it_concerns(cli):
    cli.shop("orders", into="sqlite", path="copy.db", on_failure={"command": ["false"]}, on_success={"command": KEEP})
    assert cli("sync").exit_code == 0
    assert json.loads(Path("told.json").read_text("utf-8"))["failed"] == []


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"command": ["/nowhere/at/all"]}, "No such file or directory"),
        ({"command": ["sh", "-c", "echo no; exit 3"]}, "the command ended with exit code 3: no"),
        ({"command": ["sh", "-c", "kill -9 $$"]}, "SIGKILL"),
        ({"command": ["sh", "-c", "sleep 600 & wait"], "timeout": "100ms"}, "the command was stopped, after 0.1 s"),
        ({"command": ["a\x00b"]}, "embedded null byte"),
        ({"webhook": "http://127.0.0.1:1/hunter2hunter2"}, "the webhook was not reached"),
        ({"webhook": "http://[::1/hunter2hunter2"}, "Invalid IPv6 URL"),
    ],
)
def test_who_cannot_be_told_changes_nothing(cli, told, why):
    cli.shop("orders", into="sqlite", path="copy.db", on_success=told)
    done = cli("sync")
    assert (done.exit_code, rows("orders")) == (0, 2)
    assert "warning: shop: nobody was told by on_success: " in done.stderr
    assert why in done.stderr
    assert "hunter2" not in done.output


def test_a_webhook_that_does_not_answer_is_given_up(cli):
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        cli.shop("orders", into="sqlite", path="copy.db", on_success={"webhook": url, "timeout": "100ms"})
        done = cli("sync")
    assert (done.exit_code, "nobody was told by on_success" in done.stderr) == (0, True)


@pytest.mark.parametrize(("code", "headers"), [(500, {}), (302, {"Location": "/elsewhere"})])
def test_a_webhook_that_refuses_is_named_by_its_answer_and_not_followed(cli, code, headers):
    with webhook(code, **headers) as (url, told):
        cli.shop("orders", into="sqlite", path="copy.db", on_success={"webhook": url})
        done = cli("sync")
    assert (done.exit_code, len(told)) == (0, 1)
    assert f"the webhook answered {code}" in done.stderr


def test_a_source_that_cannot_be_opened_is_told_of(cli, monkeypatch):
    cli.shop("orders", into="sqlite", path="copy.db", on_failure={"command": KEEP})
    monkeypatch.setattr("strandline.spec.models.check_drivers", _missing)
    assert cli("sync").exit_code == 2
    told = json.loads(Path("told.json").read_text("utf-8"))
    assert (told["exit_code"], told["error"]) == (2, "a driver is missing")


def _missing(*_):
    from strandline.errors import UsageError

    raise UsageError("a driver is missing")


@pytest.mark.parametrize(("number", "is_told"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_who_presses_ctrl_c_is_not_told(cli, number, is_told):
    cli.shop("orders", on_failure={"command": KEEP})
    (source,) = load(["strandline.yml"]).sources
    report = RunReport("r", "shop", datetime.now(UTC), signal=number)
    notify(source, report, report.exit_code, Stop())
    assert Path("told.json").exists() == is_told


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "`spec.on_failure`: should have `command` or `webhook`"),
        ({"command": ["x"], "webhook": "https://x"}, "`spec.on_failure`: should have `command` or `webhook`"),
        ({"webhook": "file:///etc/hunter2hunter2"}, "`spec.on_failure.webhook`: should be a URL of https or http"),
        ({"command": []}, "`spec.on_failure.command`: nothing is in this list"),
        ({"command": ["x"], "timeout": 30}, "is not a duration"),
    ],
)
def test_what_cannot_be_meant_is_an_error_of_the_spec(cli, told, message):
    cli.shop("orders", on_failure=told)
    done = cli("validate-config")
    assert done.exit_code == 2
    assert message in done.stderr
    assert "strandline.yml:1:" in done.stderr
    assert "hunter2" not in done.stderr
