"""A plugin of another package is no lesser one: every command knows it as it knows a built-in."""

import logging
import re
import sys
from pathlib import Path

import pytest
import third_party
from click.testing import CliRunner

from strandline.cli import main
from strandline.describe import Description
from strandline.plugins import load_plugin


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run ``strandline`` inside this process, with the kiosk installed, in an empty directory."""
    root, ours = logging.getLogger(), logging.getLogger("strandline")
    kept = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    third_party.install_kiosk(tmp_path / "site")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield lambda *arguments, **env: CliRunner(env=env).invoke(main, list(map(str, arguments)), prog_name="strandline")
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = kept
    logging.captureWarnings(capture=False)
    sys.modules.pop("kiosk_strandline", None)


@pytest.fixture
def spec(run):
    """A spec as ``init`` writes it, with the kiosk's backend."""
    done = run("init", "--from", "kiosk://corner", "--to", "copy.kiosk")
    assert done.exit_code == 0, done.output
    path = Path("strandline.yml")
    path.write_text(path.read_text().replace("  destinations:", "  backend: kiosk\n  destinations:"))
    return path


def test_plugin_list(run):
    rows = [line.split() for line in run("plugin", "list").stdout.splitlines()]
    kinds = [row[0] for row in rows if row[1:] == ["kiosk", "kiosk-strandline", "1.2"]]
    assert kinds == ["source", "destination", "state_backend"]


def test_init_understands_its_uris_and_files(run, spec):
    text = spec.read_text()
    assert "  name: corner\n  path: kiosk\n" in text
    assert "  name: copy\n  path: kiosk\n" in text
    assert "    till: kiosk://corner\n    follow: true\n  # incremental by at, a till's clock\n" in text
    assert "    path: copy.kiosk\n" in text
    assert re.search("    # sales: +# 2 rows, settled \\(till\\)\n", text)
    assert "  write_mode: overwrite-delete-stale" in text


def test_init_writes_down_no_secret_of_it(run):
    done = run("init", "--from", "kiosk://canary-canary@corner", "--to", "copy.kiosk")
    assert done.exit_code == 0, done.output
    text = Path("strandline.yml").read_text()
    assert "canary" not in text + done.output
    assert "    till: ${CORNER_URL}" in text
    assert "export CORNER_URL=" in done.stdout
    assert run("sync", CORNER_URL="kiosk://canary-canary@corner").exit_code == 0


def test_init_says_what_it_says_of_a_uri_that_is_wrong(run):
    done = run("init", "--from", "kiosk://", "--to", "copy.kiosk")
    assert (done.exit_code, done.stderr) == (2, "error: a kiosk has a name\nhint: kiosk://NAME\n")
    done = run("init", "--from", "kiosk://corner", "--to", "not/there/copy.kiosk")
    assert "there is no directory" in done.stderr


def test_init_names_it_among_the_examples(run):
    assert "kiosk://corner" in run("init", "--from", "what", "--to", "copy.kiosk").stderr
    assert "corner.kiosk" in run("init", "--from", "kiosk://corner", "--to", "what").stderr


def test_init_says_why_a_plugin_of_that_name_cannot_be_imported(run, tmp_path):
    third_party.install(tmp_path / "site" / "more")
    sys.path.insert(0, str(tmp_path / "site" / "more"))
    try:
        done = run("init", "--from", "absent://x", "--to", "copy.kiosk")
    finally:
        sys.path.remove(str(tmp_path / "site" / "more"))
    assert done.exit_code == 2
    assert "the source plugin 'absent' cannot be imported: No module named 'acme_absent'" in done.stderr
    assert "hint: pip install -U acme-strandline" in done.stderr


def test_a_file_that_only_a_destination_knows_is_not_taken_for_another_one_by_its_name(run):
    Path("shop.db").write_bytes(bytes(8) + b"DUCK" + bytes(100))
    done = run("init", "--from", "shop.db", "--to", "copy.kiosk")
    assert (done.exit_code, "no source plugin is known for 'shop.db'" in done.stderr) == (2, True)


def test_plan_has_its_words(run, spec):
    done = run("plan", "-v")
    assert done.exit_code == 0, done.output
    assert "incrementally by the till's roll (mirror: True), the first sync reads everything" in done.stdout
    assert "a till never sells in the past" in done.stdout


def test_sync_goes_on_where_it_was(run, spec):
    done = run("sync")
    assert done.exit_code == 0, done.output
    assert "from cursor" in run("plan", "-v").stdout
    assert "1 of 1 task completed: 0 rows read, " in run("sync").stdout


def test_doctor_shows_its_probes(run, spec):
    done = run("doctor")
    assert done.exit_code == 0, done.output
    for said in ("drawer", "it closes", "shelf", "there is room on it", "paper", "buy another roll"):
        assert said in done.stdout


def test_doctor_names_a_driver_that_is_missing(run, spec, monkeypatch):
    lacking = Description(drivers=("no_till_driver",), installs="kiosk-strandline[till]")
    monkeypatch.setattr(load_plugin("source", "kiosk"), "description", lacking)
    done = run("doctor")
    assert done.exit_code == 1
    assert "source 'corner' needs no_till_driver, which is not installed" in done.stdout
    assert "pip install 'kiosk-strandline[till]'" in done.stdout
    assert run("validate-config").exit_code == 0
    assert run("sync").exit_code == 2


def test_tables_describes_its_tables(run, spec):
    assert "settled (till)" in run("tables").stdout
    assert run("tables", "--format", "markdown").exit_code == 0
    assert Path("cq-docs/corner/README.md").read_text().startswith("# Source Plugin: kiosk\n")


def test_the_schema_has_its_settings(run):
    schema = run("schema").stdout
    for said in ("Which till.", "Which drawer of the till.", "The directory; made if it is missing."):
        assert said in schema
    assert schema.count('"kiosk",') == 2
    assert '"const": "kiosk"' in schema
