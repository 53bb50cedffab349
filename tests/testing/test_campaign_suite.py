"""The shipped campaign notices what it is there for: a destination that says more than it keeps, and a row that is not refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PLUGIN = '''
from dataclasses import replace

from strandline.destination import Delivery
from strandline.testing.plain import PlainDestination


class Boaster(PlainDestination):
    """It says that a window which comes again replaces itself, and appends its rows."""

    @property
    def capabilities(self):
        return replace(super().capabilities, delivery=Delivery.IDEMPOTENT)
'''
_TESTS = """
import pytest

from strandline.connectors.generated.source import GeneratedSource
from strandline.testing.campaign.chains import Spoiled
from strandline.testing.campaign.suite import CampaignConformance

SPEC = {"rows": 8, "types": ["int64"]}


class Campaign(CampaignConformance):
    CASES = 1000
    DESTINATION = "boaster"

    @pytest.fixture
    def documents(self):
        return lambda directory, step: [
            ("source", {"path": "test", "spec": SPEC, "backend_spec": {"path": str(directory / "states")}}),
            ("destination", {"path": self.DESTINATION, "write_mode": "append", "spec": {"path": str(directory / "rows")}}),
        ]

    @pytest.fixture
    def rows(self):
        made = GeneratedSource(GeneratedSource.Spec(**SPEC)).expected("test_1", 1)
        return lambda step: {"test_1": made.to_pylist()}

    @pytest.fixture
    def spoils(self):
        return lambda _: [Spoiled("nothing", lambda: None, lambda: None)]


class TestBoaster(Campaign):
    pass
"""


@pytest.mark.crash
def test_a_destination_that_stores_rows_twice_and_a_row_that_is_not_refused_are_found(tmp_path):
    (tmp_path / "boasting.py").write_text(_PLUGIN)
    (tmp_path / "test_boasting.py").write_text(_TESTS)
    info = tmp_path / "boasting-1.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: boasting\nVersion: 1\n")
    info.joinpath("entry_points.txt").write_text("[strandline.destination]\nboaster = boasting:Boaster\n")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    chosen = ["-k", "killed or refused", str(tmp_path / "test_boasting.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *chosen],
        env=ours | {"PYTHONPATH": str(tmp_path)},
        cwd=Path(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 failed" in done.stdout, done.stdout[-5000:]
    assert "too many" in done.stdout
    assert "a sync ended with 0" in done.stdout
