"""What goes to PyPI, installed into fresh environments as a stranger would: alone, and with each extra."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from services.api import Api, Reply
from services.redis import DURABLE, RedisServer, valkey_program
from services.s3 import S3

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"])
UV = Path(sys.executable).with_name("uv")
MEGABYTES_MAX = 250
"""Of an environment without any extra."""


def run(*command, cwd=ROOT, code=0):
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "COV"))}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=ours, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    place = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--out-dir", place)
    (sdist,), (wheel,) = place.glob("*.tar.gz"), place.glob("*.whl")
    return sdist, wheel


def members(sdist):
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def long_description(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(metadata).decode().partition("\n\n")[2]


def test_twine_has_nothing_against_them(distributions):
    said = run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *distributions)
    assert said.count("PASSED") == 2


def test_the_sdist_holds_what_git_keeps_and_nothing_else(distributions):
    tracked = {name for name in run("git", "ls-files").splitlines() if (ROOT / name).exists()}
    new = set(run("git", "ls-files", "--others", "--exclude-standard").splitlines())
    found = members(distributions[0])
    assert tracked - found == set()
    assert found - tracked - new == {"PKG-INFO"}


def test_the_wheel_is_typed_and_has_no_tests(distributions):
    with zipfile.ZipFile(distributions[1]) as archive:
        names = archive.namelist()
    assert "strandline/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"strandline", f"strandline-{PROJECT['version']}.dist-info"}


def test_no_link_of_the_page_at_pypi_leads_nowhere(distributions):
    text = long_description(distributions[1])
    assert "## " in text
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")] == []


@pytest.fixture
def fresh(distributions, tmp_path):
    """``fresh("duckdb")``: a new environment with the wheel and an extra, of the versions in uv.lock; its ``bin``."""
    locked = tmp_path / "constraints.txt"
    export = ("--frozen", "--quiet", "--no-hashes", "--no-emit-project", "--all-extras", "--no-dev")
    run(UV, "export", *export, "--output-file", locked)

    def install(extra=None):
        run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "env")
        wanted = f"{distributions[1]}[{extra}]" if extra else distributions[1]
        python = tmp_path / "env" / "bin" / "python"
        run(UV, "pip", "install", "--quiet", "--python", python, "--constraints", locked, wanted)
        return python.parent

    return install


def shop(directory, destination=None, **source):
    """A database of two rows, and its spec."""
    with closing(sqlite3.connect(directory / "shop.db")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, updated_at TEXT)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", [(1, "2026-01-01"), (2, "2026-01-02")])
    settings = {"path": "shop.db", "tables": {"orders": {"incremental_key": "updated_at"}}}
    first = {"name": "shop", "path": "sqlite", "destinations": ["warehouse"], "spec": settings} | source
    second = {"name": "warehouse"} | (destination or {"path": "files", "spec": {"path": "lake"}})
    documents = [json.dumps({"kind": "source", "spec": first}), json.dumps({"kind": "destination", "spec": second})]
    (directory / "strandline.yml").write_text("\n---\n".join(documents), "utf-8")


def check_it_syncs(programs, directory):
    """All rows at first, then the new one, and again the one at the border."""
    place = directory / "summary.jsonl"
    for key in (3, 4):
        run(programs / "strandline", "sync", "--summary-location", place, cwd=directory)
        with closing(sqlite3.connect(directory / "shop.db")) as database, database:
            database.execute("INSERT INTO orders VALUES (?, ?)", (key, f"2026-01-{key:02}"))
    reports = [json.loads(line) for line in place.read_text("utf-8").splitlines()]
    assert [report["tasks"][0]["rows_read"] for report in reports] == [2, 2]
    assert reports[1]["tasks"][0]["cursor_to"]["shown"].startswith("2026-01-03")


def test_alone_it_syncs_from_its_own_drivers_and_says_how_to_get_others(fresh, tmp_path):
    programs = fresh()
    installed = [path for path in (tmp_path / "env").rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in installed) < MEGABYTES_MAX * 1_000_000
    for place, destination in (("files", None), ("sqlite", {"path": "sqlite", "spec": {"path": "w.db"}})):
        (tmp_path / place).mkdir()
        shop(tmp_path / place, destination)
        check_it_syncs(programs, tmp_path / place)
    shop(tmp_path, {"path": "duckdb", "spec": {"path": "w.duckdb"}})
    assert "pip install 'strandline[duckdb]'" in run(programs / "strandline", "sync", cwd=tmp_path, code=2)


@contextmanager
def states_in_redis(_request):
    with RedisServer(valkey_program(), *DURABLE) as server:
        yield None, {"backend": "redis", "backend_spec": {"url": server.url}}


@contextmanager
def states_in_objects(_request):
    with S3() as s3:
        yield None, {"backend": "objects", "backend_spec": {"url": "s3://bucket/states", "options": s3.options}}


@contextmanager
def states_in_mysql(request):
    yield None, {"backend": "mysql", "backend_spec": {"connection_string": request.getfixturevalue("mysql")}}


@contextmanager
def into_postgresql(request):
    yield {"path": "postgresql", "spec": {"connection_string": request.getfixturevalue("postgresql")}}, {}


@contextmanager
def into_duckdb(_request):
    yield {"path": "duckdb", "spec": {"path": "w.duckdb"}}, {}


@contextmanager
def into_delta(_request):
    yield {"path": "delta", "spec": {"path": "lake"}}, {}


@contextmanager
def into_iceberg(_request):
    yield {"path": "iceberg", "spec": {"path": "lake"}}, {}


WITH = {
    "all": into_duckdb,
    "delta": into_delta,
    "duckdb": into_duckdb,
    "iceberg": into_iceberg,
    "mysql": states_in_mysql,
    "objects": states_in_objects,
    "postgresql": into_postgresql,
    "redis": states_in_redis,
}
"""Of each extra, a destination or settings of a source that need it."""


def test_each_extra_is_tried():
    """But Ray, which is as large as all others together: `make executors` has it."""
    assert {*WITH, "dask", "ray", "rest", "testing"} == set(EXTRAS)


@pytest.mark.parametrize("extra", WITH)
def test_with_an_extra_it_syncs_with_what_that_is_for(extra, fresh, tmp_path, request):
    programs = fresh(extra)
    with WITH[extra](request) as (destination, settings):
        shop(tmp_path, destination, **settings)
        check_it_syncs(programs, tmp_path)


def test_with_the_extra_dask_a_cluster_does_the_tasks(fresh, tmp_path):
    programs = fresh("dask")
    shop(tmp_path, executor="dask", executor_spec={"workers": 1})
    check_it_syncs(programs, tmp_path)


def test_with_the_extra_rest_it_reads_an_api(fresh, tmp_path):
    programs = fresh("rest")
    with Api(lambda _: Reply([{"id": 1}, {"id": 2}])) as api:
        tables = {"orders": {"path": "orders", "primary_key": ["id"]}}
        shop(tmp_path, path="rest", spec={"base_url": api.url, "tables": tables})
        run(programs / "strandline", "sync", "--summary-location", "summary.jsonl", cwd=tmp_path)
    (report,) = map(json.loads, (tmp_path / "summary.jsonl").read_text("utf-8").splitlines())
    assert report["tasks"][0]["rows_read"] == 2


def test_the_extra_for_tests_brings_the_suites_and_the_campaign(fresh, tmp_path):
    """As the author of ``examples/plugin`` has them: only with what is in the wheel."""
    python, example = fresh("testing") / "python", ROOT / "examples" / "plugin"
    suites = ("source", "destination", "state_backend", "kills")
    run(python, "-c", "; ".join(f"import strandline.testing.{suite}" for suite in suites))
    run(UV, "pip", "install", "--quiet", "--python", python, "--no-deps", example)
    options = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", example, "-k", "Campaign")
    assert " passed" in run(python, "-m", "pytest", *options, example / "tests", cwd=tmp_path)
