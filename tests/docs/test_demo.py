import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def strandline(directory, *arguments):
    return run("-m", "strandline", *arguments, cwd=directory)


def sync(directory):
    """Bring the warehouse up to date; rows read, and whether all of it was, by task."""
    place = directory / "summary.jsonl"
    place.unlink(missing_ok=True)
    strandline(directory, "sync", "--summary-location", place.name)
    reports = [json.loads(line) for line in place.read_text("utf-8").splitlines()]
    return {task["task"]: task["rows_read"] for report in reports for task in report["tasks"]}


@pytest.fixture
def demo(tmp_path):
    run(DEMO / "prepare.py", tmp_path / "demo", cwd=ROOT)
    return tmp_path / "demo"


def shipped(name):
    with gzip.open(DEMO / "data" / name, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def query(directory, sql):
    with duckdb.connect(str(directory / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.sql(sql).fetchall()


def check_everything_is_there(directory):
    """Against the shipped data themselves, not against what the demo's scripts make of them."""
    quakes = sorted(
        (row["id"], row["status"], float(row["magnitude"]), row["place"]) for row in shipped("earthquakes.csv.gz")
    )
    assert query(directory, "SELECT id, status, magnitude, place FROM earthquakes ORDER BY ALL") == quakes
    for table, city in (("seattle", "Seattle"), ("new_york", "New York")):
        days = sorted(
            (row["date"], float(row["temp_max"]), row["weather"])
            for row in shipped("weather.csv.gz")
            if row["location"] == city
        )
        assert query(directory, f"SELECT date::VARCHAR, temp_max, weather FROM {table} ORDER BY ALL") == days


def test_the_demo_says_what_it_does_and_ends_with_the_whole_data(tmp_path):
    output = run(DEMO / "demo.py", tmp_path / "demo", cwd=ROOT)
    assert output.count("$ strandline sync") == 3
    check_everything_is_there(tmp_path / "demo")


def test_a_later_sync_of_the_demo_reads_only_what_changed(demo):
    assert sync(demo) == {"earthquakes": 930, "seattle": 912, "new_york": 1096}
    run(DEMO / "advance.py", demo, cwd=ROOT)
    read = sync(demo)
    # 777 new and 176 revised earthquakes, and once more the one at the border; half a year appended, and a new year each
    assert read == {"earthquakes": 954, "seattle": 549, "new_york": 365}
    check_everything_is_there(demo)
    assert sum(sync(demo).values()) <= 1


def test_the_spec_of_the_demo_is_valid_wherever_it_stands(demo, tmp_path):
    strandline(demo, "validate-config")
    shutil.copy(DEMO / "strandline.yml", tmp_path / "other.yml")
    strandline(tmp_path, "validate-config", "other.yml")
