"""docs/recipes.md: every way to start a sync, as far as it can be tried without its scheduler (`make recipes` tries the rest)."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import BEFORE, ROOT, blocks
from ruamel.yaml import YAML

PAGE = blocks(ROOT / "docs" / "recipes.md")
FILES = {block.file: block.text for block in PAGE if block.file}
PROGRAM = Path(sys.executable).with_name("strandline")


@pytest.fixture
def srv(tmp_path):
    """The project of the page, in place of /srv/shop."""
    BEFORE["shop"](tmp_path)
    (tmp_path / "strandline.yml").write_text(FILES["strandline.yml"], "utf-8")
    return tmp_path


def shell(command, cwd):
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-ec", command], cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def test_cron_mails_nothing_but_errors(srv):
    (crontab,) = (block.text for block in PAGE if block.language == "crontab")
    line = crontab.splitlines()[-1]
    command = re.sub(r"^(\S+ ){5}", "", line).replace("/srv/shop", str(srv))
    command = command.replace("/opt/strandline/bin/strandline", str(PROGRAM))
    done = shell(command, "/")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (srv / "shop.db").unlink()
    done = shell(command, "/")
    assert done.returncode != 0
    assert "error: " in done.stderr


def test_systemd_has_nothing_against_the_units(srv):
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("LOUD: systemd-analyze is not installed; on Debian: apt-get install systemd")
    units = []
    for name, text in FILES.items():
        if name.startswith("/etc/systemd"):
            units.append(srv / Path(name).name)
            units[-1].write_text(text.replace("/opt/strandline/bin/strandline", str(PROGRAM)), "utf-8")
    done = subprocess.run(
        [systemd, "verify", "--man=no", "--recursive-errors=no", *units], capture_output=True, text=True, check=False
    )
    assert len(units) == 2
    assert (done.returncode, done.stderr) == (0, "")


def test_a_new_runner_of_github_goes_on_where_the_last_one_stopped(srv, tmp_path_factory):
    workflow = YAML(typ="safe").load(FILES[".github/workflows/sync.yml"])
    steps = workflow["jobs"]["sync"]["steps"]
    # the project is not on a package index; tests/package installs the wheel with each extra
    lines = [step["run"] for step in steps if "run" in step and not step["run"].startswith("pip install ")]
    assert len(lines) == 2
    read = []
    for _ in range(2):
        runner = tmp_path_factory.mktemp("runner")
        shutil.copy(srv / "strandline.yml", runner)
        for name in ("shop.db", "warehouse.duckdb"):  # which are servers, elsewhere
            (runner / name).symlink_to(srv / name)
        done = shell("\n".join(lines), runner)
        assert done.returncode == 0, done.stderr
        (report,) = map(json.loads, (runner / "summary.jsonl").read_text("utf-8").splitlines())
        read.append({task["task"]: task["rows_read"] for task in report["tasks"]})
    assert read == [{"customers": 2, "orders": 2}, {"customers": 2, "orders": 1}]


@pytest.mark.parametrize("block", [block for block in PAGE if block.language == "python"], ids=lambda block: block.file)
def test_python_is_python(block):
    compile(block.text, block.place, "exec")


@pytest.mark.parametrize("name", ["dbt_project.yml", "profiles.yml", "models/sources.yml"])
def test_dbt_files_are_yaml_about_the_shop(name):
    assert "shop" in json.dumps(YAML(typ="safe").load(FILES[name]))
