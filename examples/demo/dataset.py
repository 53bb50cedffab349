"""The demo's data, cut at a moment: what was known on 4 February 2018, and what came after."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parent / "data"
CUT = "2018-02-04 00:00:00.000"
"""Earthquakes that happened, or were revised, after this moment come with the second sync."""
WEATHER_CUT = "2014-07-01"
"""Likewise days of weather from here on."""

Row = dict[str, str | None]


def _rows(name: str) -> Iterator[Row]:
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {column: value or None for column, value in row.items()}


def quakes_before() -> list[Row]:
    """The events up to the cut, as they were known then.

    The feed tells only the last revision of an event. Of one that was revised after the cut we take the same row as a
    first, automatic report, dated when the earth shook.
    """
    rows = [row for row in _rows("earthquakes.csv.gz") if row["time"] <= CUT]
    return [row if row["updated"] <= CUT else row | {"status": "automatic", "updated": row["time"]} for row in rows]


def quakes_after() -> list[Row]:
    """The events that happened or were revised after the cut, as the feed told them."""
    return [row for row in _rows("earthquakes.csv.gz") if row["updated"] > CUT]


def weather(city: str) -> dict[str, list[Row]]:
    """The days of a city by year, without the city's name."""
    years: dict[str, list[Row]] = {}
    for row in _rows("weather.csv.gz"):
        if row.pop("location") == city:
            years.setdefault(row["date"][:4], []).append(row)
    return years
