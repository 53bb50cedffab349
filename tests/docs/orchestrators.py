"""Runs the recipes of docs/recipes.md for real: Airflow, Prefect, dbt, each in an environment of its own. `make recipes`.

Not part of the test suite, for what it installs has 500 MB, and changes without us.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
from environments import environment
from pages import BEFORE, ROOT, blocks

FILES = {block.file: block.text for block in blocks(ROOT / "docs" / "recipes.md") if block.file}
RECIPES = {
    "airflow": ("dags/shop.py", ["apache-airflow"], "airflow db migrate && airflow dags test shop"),
    "prefect": ("flow.py", ["prefect"], "python flow.py"),
    # a newer one fetches a binary from GitHub
    "dbt": ("dbt_project.yml", ["dbt-duckdb", "dbt-core<1.12"], "strandline sync && dbt build"),
}


def attempt(name: str, place: Path) -> int:
    """How many orders the warehouse has afterwards."""
    file, packages, command = RECIPES[name]
    BEFORE["shop"](place)
    wanted = [file, "strandline.yml"]
    wanted += [other for other in FILES if other.startswith(("models/", "profiles"))] if name == "dbt" else []
    for one in wanted:
        (place / one).parent.mkdir(parents=True, exist_ok=True)
        (place / one).write_text(FILES[one].replace("/srv/shop", str(place)), "utf-8")
    path = f"{environment(place / 'env', *packages)}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {
        "AIRFLOW_HOME": str(place),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "HOME": str(place),
        "PATH": path,
    }
    done = subprocess.run(
        ["sh", "-ec", command], cwd=place, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.stdout.write((done.stdout + done.stderr)[-4000:])
        return 0
    with duckdb.connect(str(place / "warehouse.duckdb"), read_only=True) as warehouse:
        tables = "orders_by_status" if name == "dbt" else "orders"
        return len(warehouse.sql(f"SELECT * FROM {tables}").fetchall())


def main() -> None:
    """Each that is named, or all."""
    bad = []
    for name in sys.argv[1:] or RECIPES:
        with tempfile.TemporaryDirectory() as place:
            count = attempt(name, Path(place))
        sys.stdout.write(f"{name}: {'synced' if count == 2 else 'FAILED'}\n")
        bad += [name] * (count != 2)
    sys.exit(", ".join(bad) or 0)


if __name__ == "__main__":
    main()
