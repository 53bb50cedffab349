"""Makes the demo's sources: an SQLite database of earthquakes, and directories of weather files. Usage: prepare.py [DIRECTORY]"""

import csv
import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import dataset

SCHEMA = """
CREATE TABLE earthquakes (
    id TEXT PRIMARY KEY NOT NULL,
    time DATETIME NOT NULL,
    updated DATETIME NOT NULL,
    magnitude REAL,
    magnitude_type TEXT,
    place TEXT,
    kind TEXT,
    status TEXT,
    network TEXT,
    felt INTEGER,
    tsunami INTEGER,
    significance INTEGER,
    longitude REAL,
    latitude REAL,
    depth_km REAL
);
CREATE INDEX earthquakes_updated ON earthquakes (updated);
"""


def upsert(connection: sqlite3.Connection, rows: list[dataset.Row]) -> None:
    columns = ", ".join(rows[0])
    values = ", ".join(f":{column}" for column in rows[0])
    connection.executemany(f"INSERT OR REPLACE INTO earthquakes ({columns}) VALUES ({values})", rows)


def write_csv(path: Path, rows: list[dataset.Row], *, append: bool = False) -> None:
    with path.open("a" if append else "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        if not append:
            writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dataset.Row]) -> None:
    words = {"date", "weather"}
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            record = {name: value if name in words or value is None else float(value) for name, value in row.items()}
            file.write(json.dumps(record) + "\n")


def prepare(directory: Path) -> None:
    seattle, new_york = directory / "weather" / "seattle", directory / "weather" / "new_york"
    for folder in (seattle, new_york):
        folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("strandline.yml"), directory)
    with closing(sqlite3.connect(directory / "quakes.db")) as connection, connection:
        connection.executescript(SCHEMA)
        upsert(connection, dataset.quakes_before())
    for year, days in dataset.weather("Seattle").items():
        known = [day for day in days if day["date"] < dataset.WEATHER_CUT]
        if known:
            write_csv(seattle / f"{year}.csv", known)
    for year, days in dataset.weather("New York").items():
        if year < "2015":
            write_jsonl(new_york / f"{year}.jsonl", days)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".demo")
    if target.exists():
        sys.exit(f"{target} exists already; remove it first")
    prepare(target)
