"""`strandline doctor`: what it finds wrong on purpose-made machines, what it says to do, and that it leaves no trace."""

import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from click.testing import CliRunner

from strandline import disk, logs
from strandline.cli import _examination, main
from strandline.connectors.postgresql import probes as postgresql_probes
from strandline.disk import file_system_probe, holders
from strandline.plugins import load_plugin
from strandline.probe import Probe, Verdict, clock_probe

SPEC = """
kind: source
spec: {name: shop, path: sqlite, destinations: [warehouse], spec: {path: shop.db, tables: {orders: {incremental_key: at}}}}
---
kind: destination
spec: {name: warehouse, path: duckdb, spec: {path: warehouse.duckdb}}
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current directory, on a disk whatever it is on: a shop, and a spec that reads it."""
    monkeypatch.chdir(tmp_path)
    mounts = tmp_path.with_name("mountinfo")
    mounts.write_text("1 0 0:1 / / rw - ext4 a rw\n")
    monkeypatch.setattr(disk, "_MOUNTS", mounts)
    with closing(sqlite3.connect("shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, at TEXT NOT NULL)")
        shop.execute("CREATE INDEX orders_at ON orders (at)")
        shop.execute("INSERT INTO orders (at) VALUES (datetime('now', '-1 day'))")
    (tmp_path / "strandline.yml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def run(monkeypatch):
    """Run ``strandline`` inside this process, and leave it as it was."""
    root, ours = logging.getLogger(), logging.getLogger("strandline")
    kept = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    monkeypatch.setattr(logs, "_known", logs._Known())
    yield lambda *arguments, **env: CliRunner(env=env).invoke(main, list(arguments), prog_name="strandline")
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = kept
    logging.captureWarnings(capture=False)


@pytest.fixture
def doctor(run):
    """(exit code, findings): the findings as dictionaries."""

    def doctor(**environment):
        done = run("doctor", "--format", "json", **environment)
        return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]

    return doctor


def bad(findings, subject=None):
    """What is not ok, as (verdict, found, fix)."""
    return [
        (one["verdict"], one["found"], one["fix"])
        for one in findings
        if one["verdict"] != "ok" and subject in (None, one["subject"])
    ]


def files(work):
    return {path.relative_to(work): path.stat().st_size for path in work.rglob("*")}


class TestAll:
    @pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
    def test_a_sound_place_has_no_problem_and_is_left_as_it_was(self, work, run, kind):
        (work / "strandline.yml").write_text(SPEC.replace("path: duckdb", f"path: {kind}"))
        before = files(work)
        done = run("doctor")
        assert (done.exit_code, done.stderr) == (0, "")
        assert " 0 problems" in done.stdout.splitlines()[-1]
        assert files(work) == before

    def test_after_a_sync_too(self, work, run, doctor):
        assert run("sync").exit_code == 0
        before = files(work)
        code, findings = doctor()
        assert (code, bad(findings)) == (0, [])
        assert "2 cursors" not in str(findings)
        assert "1 cursor loads and can be gone on from" in [one["found"] for one in findings]
        assert files(work) == before

    def test_a_broken_source_does_not_hide_the_destination(self, work, doctor):
        (work / "shop.db").unlink()
        code, findings = doctor()
        assert code == 1
        (problem,) = [one for one in findings if one["verdict"] == "problem"]
        assert problem["place"] == "source shop"
        assert "there is no SQLite file 'shop.db'" in problem["found"]
        assert problem["fix"].startswith("check `path`")
        assert {"destination warehouse", "backend of shop"} <= {one["place"] for one in findings}

    def test_a_bug_in_a_plugin_is_a_problem_and_no_traceback(self, work, run, monkeypatch):
        def broken(_self):
            raise KeyError("canary-canary")

        monkeypatch.setattr(load_plugin("destination", "duckdb"), "probes", broken)
        logs.register_secret("canary-canary")
        done = run("doctor")
        assert done.exit_code == 1
        assert "problem  use: KeyError: '***'" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr

    def test_a_place_that_hangs_is_left_behind(self, work, doctor, monkeypatch):
        hung = threading.Event()
        monkeypatch.setattr(load_plugin("source", "sqlite"), "tables", lambda _self: hung.wait() or [])
        monkeypatch.setattr(_examination, "DEADLINE_S", 0.2)
        try:
            code, findings = doctor()
        finally:
            hung.set()
        assert code == 1
        assert "no answer within" in bad(findings)[0][1]

    def test_a_wrong_spec_is_a_usage_error(self, work, run):
        (work / "strandline.yml").write_text(SPEC.replace("orders:", "orders: {x: 1}, o:"))
        assert run("doctor").exit_code == 2

    def test_a_state_that_is_damaged_is_named_with_what_to_do(self, work, run, doctor):
        run("sync")
        (state,) = (work / ".cq/state/shop").glob("orders@*.json")
        state.write_text(state.read_text().replace("1", "2"))
        code, findings = doctor()
        ((verdict, found, fix),) = bad(findings)
        assert (code, verdict) == (1, "problem")
        assert "damaged" in found
        assert "strandline state reset 'shop' 'orders'" in fix

    def test_a_destination_that_lost_its_table_contradicts_the_state(self, work, run, doctor):
        run("sync")
        (work / "warehouse.duckdb").unlink()
        code, findings = doctor()
        assert code == 1
        assert "the destination knows nothing of it" in bad(findings)[0][1]

    def test_a_clock_behind_the_newest_sync_is_said(self, work, run, doctor, monkeypatch):
        run("sync")
        monkeypatch.setattr(_examination, "_newest_us", lambda _job: 4_000_000_000_000_000)
        ((verdict, found, fix),) = bad(doctor()[1], "clock")
        assert (verdict, found.split(" UTC")[0]) == (
            "warning",
            "the newest sync time in the states is 2096-10-02 07:06:40",
        )
        assert "set-ntp" in fix

    def test_a_table_without_a_key_is_said_where_changed_rows_would_pile_up(self, work, doctor):
        with closing(sqlite3.connect("shop.db")) as shop, shop:
            shop.execute("CREATE TABLE lines (text)")
        assert bad(doctor()[1]) == []
        path = work / "strandline.yml"
        path.write_text(SPEC.replace("path: duckdb", "path: duckdb, write_mode: overwrite"))
        ((verdict, found, _),) = bad(doctor()[1], "primary key")
        assert (verdict, found.split(":")[0]) == ("warning", "lines")


class TestStateDirectory:
    def test_one_that_others_may_read(self, work, doctor):
        (work / ".cq/state").mkdir(parents=True)
        (work / ".cq/state").chmod(0o755)
        ((verdict, _, fix),) = bad(doctor()[1])
        assert (verdict, fix) == ("warning", f"chmod 700 {work / '.cq/state'}")

    def test_a_file_in_its_place(self, work, doctor):
        (work / ".cq").mkdir()
        (work / ".cq/state").write_text("")
        code, findings = doctor()
        assert code == 1
        assert "is no directory" in bad(findings)[0][1]

    @pytest.mark.parametrize(
        ("kind", "verdict", "said"),
        [("nfs4", "problem", "a network file system"), ("tmpfs", "warning", "memory"), ("overlay", "warning", "layer")],
    )
    def test_the_file_system(self, work, doctor, monkeypatch, kind, verdict, said):
        mounts = work / "mountinfo"
        mounts.write_text(f"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / {work} rw - {kind} b rw\n")
        monkeypatch.setattr(disk, "_MOUNTS", mounts)
        found = [one for one in doctor()[1] if (one["place"], one["subject"]) == ("backend of shop", "file system")]
        assert [(one["verdict"], said in one["found"], bool(one["fix"])) for one in found] == [(verdict, True, True)]

    def test_a_mount_whose_name_has_a_space(self, tmp_path, monkeypatch):
        place = tmp_path / "a b"
        place.mkdir()
        mounts = tmp_path / "mountinfo"
        mounts.write_text(f"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / {tmp_path}/a\\040b rw - nfs b rw\n")
        monkeypatch.setattr(disk, "_MOUNTS", mounts)
        probe = file_system_probe(place / "new", network=Verdict.PROBLEM, fix="m", what="w")
        assert probe.verdict is Verdict.PROBLEM

    def test_a_full_disk(self, work, doctor, monkeypatch):
        real = os.statvfs

        def full(path):
            found = list(real(path))
            found[4] = 0
            return os.statvfs_result(found)

        monkeypatch.setattr(os, "statvfs", full)
        code, findings = doctor()
        assert code == 1
        assert {found for _, found, _ in bad(findings, "free space")} == {"0 bytes free"}

    def test_no_cursors_are_kept(self, work, doctor):
        (work / "strandline.yml").write_text(SPEC.replace("destinations:", "backend: none, destinations:"))
        ((verdict, found, _),) = bad(doctor()[1])
        assert (verdict, found) == ("warning", "none are kept, so every sync reads everything")


class TestFiles:
    HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute('CREATE TABLE x (i INT)'); print('held', flush=True); input()"

    def test_a_duckdb_file_that_another_process_has_open_names_it(self, work, doctor):
        command = [sys.executable, "-c", self.HOLD, "warehouse.duckdb"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "held\n"
            code, findings = doctor()
            holder.communicate("\n")
        ((_, found, fix),) = bad(findings, "use")
        assert code == 1
        assert f"process {holder.pid}" in found
        assert fix == f"wait for it with --wait-lock 10m, or end process {holder.pid}"

    def test_an_sqlite_file_that_a_writer_holds_names_it(self, work, doctor, monkeypatch):
        monkeypatch.setattr("strandline.connectors.sqlite.probes._BUSY_TIMEOUT_S", 0.05)
        (work / "strandline.yml").write_text(SPEC.replace("duckdb", "sqlite"))
        hold = "import sqlite3; c = sqlite3.connect('warehouse.sqlite'); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); input()"
        command = [sys.executable, "-c", hold]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "held\n"
            assert holders(work / "warehouse.sqlite") == [holder.pid]
            code, findings = doctor()
            holder.communicate("\n")
        assert code == 1
        assert f"process {holder.pid} has been writing" in bad(findings, "lock")[0][1]

    @pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
    def test_a_directory_that_is_not_there(self, work, doctor, kind):
        (work / "strandline.yml").write_text(
            SPEC.replace("path: duckdb", f"path: {kind}").replace("path: ware", "path: x/ware")
        )
        code, findings = doctor()
        assert code == 1
        assert f"mkdir -p {work / 'x'}" in [fix for _, _, fix in bad(findings)]

    @pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
    def test_probing_rights_leaves_no_table(self, work, run, doctor, kind):
        (work / "strandline.yml").write_text(SPEC.replace("path: duckdb", f"path: {kind}"))
        run("sync")
        before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
        code, findings = doctor()
        assert (code, bad(findings)) == (0, [])
        assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before

    def test_a_destination_in_memory_keeps_nothing(self, work, doctor):
        (work / "strandline.yml").write_text(SPEC.replace("path: warehouse.duckdb", "path: ':memory:'"))
        assert [verdict for verdict, _, _ in bad(doctor()[1], "file")] == ["warning"]


class TestSQLiteSource:
    def test_a_key_without_an_index_on_a_big_table(self, work, doctor):
        with closing(sqlite3.connect("shop.db")) as shop, shop:
            shop.execute("DROP INDEX orders_at")
            shop.execute("INSERT INTO orders VALUES (200000, datetime('now', '-1 day'))")
        ((verdict, found, fix),) = bad(doctor()[1])
        assert (verdict, found) == (
            "warning",
            "orders.at leads no index, so every sync looks at all of about 200,000 rows",
        )
        with closing(sqlite3.connect("shop.db")) as shop, shop:
            shop.execute(fix)
        assert bad(doctor()[1]) == []

    def test_only_tables_that_are_chosen_are_looked_at(self, work, doctor):
        with closing(sqlite3.connect("shop.db")) as shop, shop:
            shop.execute("DROP INDEX orders_at")
            shop.execute("INSERT INTO orders VALUES (200000, datetime('now', '-1 day'))")
            shop.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
        (work / "strandline.yml").write_text(SPEC.replace("destinations:", "tables: [other], destinations:"))
        assert bad(doctor()[1]) == []

    def test_rows_whose_key_is_null(self, work, doctor):
        with closing(sqlite3.connect("shop.db")) as shop, shop:
            shop.execute("ALTER TABLE orders ADD COLUMN seen TEXT")
            shop.execute("CREATE INDEX orders_seen ON orders (seen)")
        (work / "strandline.yml").write_text(SPEC.replace("incremental_key: at", "incremental_key: seen"))
        assert bad(doctor()[1])[0][1] == "orders.seen is NULL in some rows, which are read again at every sync"


class TestProbe:
    @pytest.mark.parametrize(
        ("apart_s", "verdict", "said"),
        [
            (0.2, Verdict.OK, "agrees"),
            (-7.0, Verdict.WARNING, "7 s behind"),
            (3600.0, Verdict.WARNING, "3,600 s ahead of"),
        ],
    )
    def test_clocks(self, apart_s, verdict, said):
        probe = clock_probe(apart_s, whose="the server's clock")
        assert (probe.verdict, said in probe.found, bool(probe.fix)) == (verdict, True, verdict is not Verdict.OK)

    def test_crash_safety_that_was_turned_off(self):
        server = {"fsync": "off", "full_page_writes": "off", "commits": "on"}
        found = list(postgresql_probes._durable(server))
        assert [one.verdict for one in found] == [Verdict.PROBLEM, Verdict.WARNING]
        assert all(isinstance(one, Probe) and "ALTER SYSTEM SET" in one.fix for one in found)


def test_what_is_printed_cannot_move_the_terminals_cursor(work, run):
    with closing(sqlite3.connect("shop.db")) as shop, shop:
        shop.execute('CREATE TABLE "\x1b[2J" (a)')
    done = run("doctor")
    assert "\\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout


def test_help_imports_no_driver():
    script = (
        "import sys\nfrom strandline.cli import main\ntry:\n    main(['doctor', '--help'])\nexcept SystemExit:\n    pass\n"
        "print({'pydantic', 'pyarrow', 'duckdb'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
