"""The engine killed at every outside call while a cursor is saved in parts."""

import os

import pytest

from strandline import parted, state_format
from strandline.connectors.files import positions
from strandline.plugins import load_plugin
from strandline.testing.kills import KillConformance

pytestmark = pytest.mark.crash

FILES = (3, 4)
"""How many there are at each step."""


def rows_of(number):
    return [{"id": 10 * number + place} for place in range(4)]


class KilledParts(KillConformance):
    """A source of files, where each commit has parts, and removes those of the versions before the last two."""

    STEPS, ROWS_MAX = len(FILES), 5

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(parted, "TAIL_BYTES", 0)
        monkeypatch.setattr(state_format, "HISTORY_BYTES_MAX", 0)
        monkeypatch.setattr(positions, "_RACY_NS", -(10**18))

    @pytest.fixture
    def rows(self):
        return lambda step: {"t": [row for number in range(FILES[step]) for row in rows_of(number)]}

    @pytest.fixture
    def plugins(self, tmp_path_factory):
        made = tmp_path_factory.mktemp("in")
        for step, count in enumerate(FILES):
            (made / str(step) / "t").mkdir(parents=True)
            for number in range(count):
                path = made / str(step) / "t" / f"{number}.csv"
                path.write_text("id\n" + "".join(f"{row['id']}\n" for row in rows_of(number)))
                os.utime(path, (0, 0))
        read, keep, write = (
            load_plugin(kind, name)
            for kind, name in (("source", "files"), ("state_backend", "local"), ("destination", self.INTO))
        )
        suffix = {"sqlite": "rows.db", "files": "lake"}[self.INTO]
        return lambda directory, step: (
            read(read.Spec(path=str(made / str(step)))),
            write(write.Spec(path=str(directory / suffix))),
            keep(keep.Spec(path=str(directory / "states"))),
        )


class TestBesideTheRows(KilledParts):
    INTO = "sqlite"


class TestInALog(KilledParts):
    INTO = "files"
