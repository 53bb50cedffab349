"""Output is never why a sync fails, and says nothing that a terminal would act upon."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

CLOSED, FULL, UNREAD = "closed", "full", "unread"
REASONS = {CLOSED: "it is closed", FULL: "No space left on device", UNREAD: "Broken pipe"}
SHELL = {CLOSED: "{}>&-", FULL: "{}>/dev/full"}
NOT_WRITTEN = "output could not be written, which changes nothing of what was done: "
HOSTILE = "a\x1b[2J\x07\n\x7f\x85\x9b31m\u202eb\u2066\u200e\u200f\u061c\u2028\u2029\u202d"


@dataclass
class Done:
    code: int
    out: str
    err: str


def strandline(*arguments, out=None, err=None, **environment):
    """Run the command in a process, with streams that are in some way broken."""
    how = " ".join(SHELL.get(broken, "").format(number) for number, broken in ((1, out), (2, err)))
    command = ["sh", "-c", f'exec "$@" {how}', "sh", sys.executable, "-m", "strandline", *arguments]
    reading, unread = os.pipe()
    os.close(reading)
    streams = {"stdout": unread if out == UNREAD else subprocess.PIPE}
    streams["stderr"] = unread if err == UNREAD else subprocess.PIPE
    done = subprocess.run(command, check=False, timeout=120, env=os.environ | environment, **streams)
    os.close(unread)
    return Done(done.returncode, *(stream.decode("utf-8") if stream else "" for stream in (done.stdout, done.stderr)))


def stored(table="orders"):
    with closing(sqlite3.connect("copy.db")) as file:
        return file.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]


@pytest.fixture
def shop(cli):
    """Two rows to be synced from one SQLite file into another."""
    cli.shop("orders", into="sqlite", path="copy.db")
    return cli


def said_lost(text):
    return [line for line in text.splitlines() if NOT_WRITTEN in line]


class TestSync:
    @pytest.mark.parametrize("how", REASONS)
    @pytest.mark.parametrize("stream", ["stdout", "stderr"])
    def test_a_broken_stream_is_said_on_the_other_one(self, shop, stream, how):
        done = strandline("sync", **{"out" if stream == "stdout" else "err": how})
        assert (done.code, stored()) == (0, 2)
        assert said_lost(done.err + done.out) == [f"warning: {NOT_WRITTEN}{stream}: {REASONS[how]}"]

    @pytest.mark.parametrize("how", REASONS)
    def test_with_both_broken_everything_is_stored_and_can_be_gone_on_from(self, shop, how):
        assert (strandline("sync", out=how, err=how).code, stored()) == (0, 2)
        assert strandline("sync").code == 0

    @pytest.mark.parametrize("how", REASONS)
    @pytest.mark.parametrize("form", ["text", "json"])
    def test_the_exit_code_is_that_of_the_data(self, shop, how, form):
        strandline("sync")
        Path("shop.db").unlink()
        for broken in ({}, {"out": how}, {"err": how}, {"out": how, "err": how}):
            assert strandline("sync", "--log-format", form, **broken).code == 5

    def test_with_a_stream_that_is_closed_no_file_is_written_to_in_its_place(self, shop):
        strandline("sync", "--log-format", "json", out=CLOSED, err=CLOSED)
        files = [path for path in Path().rglob("*") if path.is_file()]
        assert len(files) > 3
        assert [path for path in files if b'"event"' in path.read_bytes()] == []

    def test_as_json_the_loss_is_an_event(self, shop):
        done = strandline("sync", "--log-format", "json", err=FULL)
        assert json.loads(done.out) == {
            "level": "warning",
            "message": f"{NOT_WRITTEN}stderr: No space left on device",
        }

    @pytest.mark.parametrize("where", ["none/summary.jsonl", ".", "/dev/full", "shop.db/summary.jsonl"])
    def test_a_summary_that_cannot_be_written(self, shop, where):
        done = strandline("sync", "--summary-location", where)
        assert (done.code, stored()) == (0, 2)
        (line,) = said_lost(done.err)
        assert line.startswith(f"warning: {NOT_WRITTEN}{where}: ")
        assert "1 of 1 task completed" in done.out

    @pytest.mark.parametrize("how", ["a file is its directory", "a directory", "full"])
    def test_a_log_of_runs_that_cannot_be_written(self, shop, how):
        Path(".cq").mkdir()
        if how == "a file is its directory":
            Path(".cq/runs").touch()
        else:
            Path(".cq/runs").mkdir()
            log = Path(".cq/runs/runs.jsonl")
            log.mkdir() if how == "a directory" else log.symlink_to("/dev/full")
        done = strandline("sync")
        assert (done.code, stored()) == (0, 2)
        (line,) = said_lost(done.err)
        assert line.startswith(f"warning: {NOT_WRITTEN}.cq/runs: ")

    def test_all_that_is_lost_is_said_in_one_line(self, shop):
        Path(".cq").mkdir()
        Path(".cq/runs").touch()
        done = strandline("sync", "--summary-location", "/dev/full", err=CLOSED)
        (line,) = said_lost(done.out)
        assert all(f"{lost}: " in line for lost in ("stderr", "/dev/full", ".cq/runs"))

    def test_a_pipe_that_does_not_want_to_wait_gets_everything(self, shop):
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"\n" * 4096)
        command = [sys.executable, "-m", "strandline", "sync"]
        with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE) as process:
            os.close(writing)
            with os.fdopen(reading, "rb") as stream:
                out = stream.read()
            assert said_lost(process.stderr.read().decode()) == []
        assert (process.returncode, b"1 of 1 task completed" in out) == (0, True)


ENCODINGS = [
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "ascii:strict"},
]


class TestEncodings:
    @pytest.mark.parametrize("environment", ENCODINGS)
    def test_a_sync_says_what_it_can_of_any_name(self, cli, environment):
        name = "bücher_本_🔑"
        cli.shop(name, into="sqlite", path="copy.db")
        done = strandline("sync", "--summary-location", "s.jsonl", **environment)
        assert (done.code, stored(name)) == (0, 2)
        assert "1 of 1 task completed" in done.out
        assert said_lost(done.err) == []
        assert json.loads(Path("s.jsonl").read_text("utf-8"))["tasks"][0]["task"] == name

    @pytest.mark.parametrize("environment", [*ENCODINGS, {"PYTHONIOENCODING": "utf-8:strict"}])
    def test_json_is_json_with_the_name_itself(self, cli, environment):
        name = "bücher_本_🔑"
        cli.shop(name, into="sqlite", path="copy.db")
        done = strandline("sync", "--log-format", "json", **environment)
        events = [json.loads(line) for line in done.err.splitlines()]
        assert {event["task"] for event in events if "task" in event} == {name}
        listed = strandline("state", "list", "--format", "json", **environment)
        assert [state["task"] for state in json.loads(listed.out)] == [name]

    def test_a_code_page_gets_what_it_has_and_escapes_of_the_rest(self, shop):
        command = [sys.executable, "-m", "strandline", "sync"]
        done = subprocess.run(
            command, check=False, capture_output=True, timeout=120, env=os.environ | {"PYTHONIOENCODING": "cp437"}
        )
        assert done.returncode == 0
        assert "shop \\u2192 copy" in done.stdout.decode("cp437")


RESULTS = [
    ("plan",),
    ("sync", "--dry-run"),
    ("tables",),
    ("state", "list"),
    ("state", "show", "shop", "orders"),
    ("plugin", "list"),
    ("schema",),
    ("validate-config",),
    ("doctor",),
    ("test-connection",),
    ("completion", "bash"),
    ("--help",),
    ("--version",),
]


class TestResults:
    @pytest.fixture
    def synced(self, shop):
        assert shop("sync").exit_code == 0

    @pytest.mark.usefixtures("synced")
    @pytest.mark.parametrize("how", [CLOSED, FULL])
    @pytest.mark.parametrize("arguments", RESULTS, ids=" ".join)
    def test_what_is_asked_for_and_cannot_be_written_has_failed(self, arguments, how):
        done = strandline(*arguments, out=how)
        assert done.code == 1
        assert done.err.startswith(f"error: stdout cannot be written: {REASONS[how]}\n")

    @pytest.mark.usefixtures("synced")
    @pytest.mark.parametrize("arguments", RESULTS, ids=" ".join)
    def test_a_reader_that_has_seen_enough_is_no_error(self, arguments):
        done = strandline(*arguments, out=UNREAD)
        assert (done.code, done.err) == (141, "")

    @pytest.mark.usefixtures("synced")
    @pytest.mark.parametrize("how", REASONS)
    def test_messages_that_cannot_be_written_are_no_failure(self, how):
        for arguments in (("plan",), ("tables",), ("plugin", "list"), ("validate-config",)):
            done = strandline(*arguments, err=how)
            assert (done.code, done.out != "") == (0, True)
        assert json.loads(strandline("state", "list", "--format", "json", err=how).out)

    @pytest.mark.parametrize("how", REASONS)
    @pytest.mark.parametrize(
        "arguments",
        [
            ("migrate",),
            ("state", "reset", "--yes", "shop"),
            ("init", "--from", "shop.db", "--to", "w.duckdb", "--force"),
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_what_was_done_is_done(self, shop, arguments, how):
        if arguments[0] == "state":
            assert shop("sync").exit_code == 0
        done = strandline(*arguments, out=how)
        assert done.code == 0
        assert said_lost(done.err) == [f"warning: {NOT_WRITTEN}stdout: {REASONS[how]}"]
        if arguments[0] == "state":
            (kept,) = json.loads(strandline("state", "list", "--format", "json").out)
            assert (kept["epoch"] > 1, kept["cursor"]) == (True, None)

    def test_without_stdin_it_does_not_ask(self, shop):
        command = [
            "sh",
            "-c",
            'exec "$@" <&-',
            "sh",
            sys.executable,
            "-m",
            "strandline",
            "init",
            "--force",
            "--from",
            "x",
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert "--to is missing" in done.stderr


def acted_upon(text):
    """Characters that a terminal would act upon, or that would break or reorder a line."""
    return {character for character in text if not character.isprintable() and character != "\n"}


class TestEscapes:
    @pytest.fixture
    def hostile(self, cli):
        """A table and a column with a name that would clear the screen, and go on from right to left."""
        quoted = '"' + HOSTILE + '"'
        with closing(sqlite3.connect("shop.db")) as file, file:
            file.execute(f"CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, {quoted} TEXT)")
            file.execute(f"INSERT INTO {quoted} VALUES (1, 'x')")
        settings = {"path": "sqlite", "tables": ["*"], "destinations": ["copy"], "spec": {"path": "shop.db"}}
        cli.spec(
            ("source", {"name": "shop", **settings}),
            ("destination", {"name": "copy", "path": "sqlite", "spec": {"path": "copy.db"}}),
        )
        return cli

    def lines_of(self, done, *, said=True):
        text = done.stdout + done.stderr
        assert acted_upon(text) == set()
        # a line break of the name does not begin a line of ours
        assert "\\n" in text or not said
        assert not [line for line in text.splitlines() if line.startswith("\\x7f")]
        return text

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_names_in_a_sync(self, hostile, form):
        done = hostile("sync", "--log-format", form, "--summary-location", "s.jsonl")
        assert done.exit_code == 0
        self.lines_of(done)
        for path in ("s.jsonl", ".cq/runs/runs.jsonl"):
            text = Path(path).read_text("utf-8")
            assert acted_upon(text) == set()
            assert [json.loads(line)["tasks"][0]["task"] for line in text.removesuffix("\n").split("\n")] == [HOSTILE]

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (("plan",), True),
            (("tables",), True),
            (("migrate",), True),
            (("doctor",), True),
            (("doctor", "--format", "json"), True),
            (("state", "list"), True),
            (("state", "list", "--format", "json"), True),
            (("state", "show", "shop", HOSTILE), True),
            (("state", "reset", "--yes", "shop"), True),
            (("state", "reset", "--yes", HOSTILE), True),
            (("sync", "--select", HOSTILE + "x"), True),
            (("--log-format", "json", "sync", "--select", HOSTILE + "x"), True),
            ((HOSTILE,), True),
            (("validate-config", HOSTILE), True),
            (("init", "--from", HOSTILE, "--to", "w.duckdb", "--force"), True),
            (("init", "--from", "shop.db", "--to", "w.duckdb", "--force"), True),
            (("test-connection",), False),
        ],
    )
    def test_names_in_every_other_command(self, hostile, arguments, named):
        if arguments[0] != "migrate":
            assert hostile("sync").exit_code == 0
        self.lines_of(hostile(*arguments), said=named)
        assert acted_upon(Path("strandline.yml").read_text("utf-8")) == set()

    @pytest.mark.parametrize("form", ["markdown", "json"])
    def test_names_in_documentation(self, hostile, form):
        assert hostile("tables", "--format", form).exit_code == 0
        pages = [path for path in Path("cq-docs").rglob("*") if path.is_file()]
        assert pages
        assert {character for page in pages for character in acted_upon(page.read_text("utf-8"))} == set()

    @pytest.mark.parametrize("form", ["text", "json"])
    @pytest.mark.parametrize("debug", [(), ("--debug",)])
    def test_what_a_database_says(self, shop, form, debug):
        shop("sync")
        with closing(sqlite3.connect("copy.db")) as file, file:
            file.execute(f"CREATE TRIGGER t BEFORE INSERT ON orders BEGIN SELECT RAISE(ABORT, '{HOSTILE}'); END")
        with closing(sqlite3.connect("shop.db")) as file, file:
            file.execute("INSERT INTO orders (status) VALUES ('new')")
        done = shop("sync", "--log-format", form, *debug, "--summary-location", "s.jsonl")
        assert done.exit_code == 1
        assert "[2J" in self.lines_of(done)
        for path in ("s.jsonl", ".cq/runs/runs.jsonl"):
            assert acted_upon(Path(path).read_text("utf-8")) == set()

    @pytest.mark.parametrize("bad", ["x", "\x1b[1m\u202e", "\udc80\udcff"])
    @pytest.mark.parametrize("form", ["text", "json"])
    def test_a_value_of_a_file_with_any_name(self, cli, bad, form):
        Path("data").mkdir()
        path = Path(f"data/t{bad}.csv")
        path.write_text(f"id,n\n1,1\n2,\x1b]0;owned\x07{HOSTILE[:5]}\n")
        source = {"name": "s", "path": "files", "tables": ["*"], "destinations": ["copy"]}
        cli.spec(
            ("source", source | {"spec": {"path": "data", "types": {"*": {"n": "int64"}}}}),
            ("destination", {"name": "copy", "path": "sqlite", "write_mode": "append", "spec": {"path": "copy.db"}}),
        )
        done = cli("sync", "--log-format", form, "--summary-location", "s.jsonl")
        assert done.exit_code != 0
        assert acted_upon(done.stdout + done.stderr) == set()
