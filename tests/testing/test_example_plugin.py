"""The package in ``examples/plugin`` as its author would test it: built, installed beside, found by its entry points."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the package is installed."""
    site, uv = tmp_path_factory.mktemp("site"), Path(sys.executable).with_name("uv")
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", site, "--no-deps", EXAMPLE]
    subprocess.run(install, check=True)
    return site


def run(site, directory, *command):
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=ours | {"PYTHONPATH": str(site)},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def test_a_package_of_plugins_passes_the_shipped_suites(site, tmp_path):
    """The campaign is run by tests/package, where nothing but the wheel is installed."""
    options = ["-k", "not Campaign", "-q", "-n", "2", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", EXAMPLE]
    said = run(site, tmp_path, "pytest", *options, EXAMPLE / "tests")
    assert " passed" in said
    assert "skipped" not in said


def test_its_plugins_are_used_by_their_names(site, tmp_path):
    assert "valid: 1 source, 1 destination" in run(site, tmp_path, "strandline", "validate-config", EXAMPLE)
