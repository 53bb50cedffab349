"""Lets time pass in the demo's sources. Usage: advance.py [DIRECTORY]

Earthquakes happen and others are revised; a file of weather grows, and each city gets a new one.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import dataset
from prepare import upsert, write_csv, write_jsonl


def advance(directory: Path) -> None:
    seattle, new_york = directory / "weather" / "seattle", directory / "weather" / "new_york"
    with closing(sqlite3.connect(directory / "quakes.db")) as connection, connection:
        upsert(connection, dataset.quakes_after())
    days = dataset.weather("Seattle")
    write_csv(seattle / "2014.csv", [day for day in days["2014"] if day["date"] >= dataset.WEATHER_CUT], append=True)
    write_csv(seattle / "2015.csv", days["2015"])
    write_jsonl(new_york / "2015.jsonl", dataset.weather("New York")["2015"])


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".demo")
    if not target.exists():
        sys.exit(f"there is no {target}; run prepare.py first")
    if (target / "weather" / "seattle" / "2015.csv").exists():
        sys.exit(f"{target} has advanced already; remove it and run prepare.py again")
    advance(target)
