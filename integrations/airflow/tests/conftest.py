"""An Airflow of its own: SQLite, in a directory that goes when the tests have ended."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="airflow-"))
# before anything imports Airflow
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}
(HOME / "dags").mkdir()


def pytest_sessionstart():
    subprocess.run(["airflow", "db", "migrate"], check=True, capture_output=True)


def pytest_sessionfinish():
    for path in sorted(HOME.rglob("*"), reverse=True):
        path.unlink() if path.is_file() or path.is_symlink() else path.rmdir()
    HOME.rmdir()
