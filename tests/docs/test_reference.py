import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_is_fresh():
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "run `make reference`"


def test_the_reference_names_every_command_and_built_in_plugin():
    page = (ROOT / "docs" / "reference.md").read_text()
    for name in (
        "`strandline sync`",
        "`strandline state reset`",
        "`sqlite`",
        "`files`",
        "`duckdb`",
        "`local`",
        "`none`",
    ):
        assert f"### {name}" in page
