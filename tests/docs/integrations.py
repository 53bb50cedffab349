"""Tests the packages below integrations/ with the orchestrator that each is for, in an environment of its own. `make integrations`.

Not part of the test suite, for what it installs has 500 MB, and changes without us.
"""

import os
import subprocess
import sys

from environments import environment
from pages import ROOT

PACKAGES = {
    "airflow": ["apache-airflow==3.3.*"],
    "dagster": ["dagster==1.13.*", "dagster-dg-cli"],
}


def verify(name: str) -> bool:
    """Whether its tests pass."""
    place = ROOT / "integrations" / name
    ours = ["-e", f"{ROOT}[duckdb]", "-e", str(place)]
    programs = environment(ROOT / ".cache" / "integrations" / name, *ours, *PACKAGES[name], "pytest")
    variables = {one: value for one, value in os.environ.items() if one != "PYTHONPATH"}
    variables["PATH"] = f"{programs}:{variables['PATH']}"
    return (
        subprocess.run([programs / "python", "-m", "pytest", "-q"], cwd=place, env=variables, check=False).returncode
        == 0
    )


def main() -> None:
    """Each that is named, or all."""
    bad = [name for name in sys.argv[1:] or PACKAGES if not verify(name)]
    sys.exit(", ".join(bad) or 0)


if __name__ == "__main__":
    main()
