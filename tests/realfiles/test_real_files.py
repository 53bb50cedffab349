"""A sample of real files, read as people would read them; `make realfiles` reads all. The judges are judged first."""

import json
import tarfile
from pathlib import Path

import pytest
from realfiles.archives import FILES_MAX, packages
from realfiles.values import Moment, Rows, same_as_json, same_as_text
from realfiles.verdicts import judged

from realfiles import judges

HERE = Path(__file__).parent
SAMPLE = json.loads((HERE / "sample.json").read_text("utf-8"))


@pytest.mark.filterwarnings("ignore")  # of the other readers
@pytest.mark.parametrize("expected", SAMPLE, ids=[one["file"] for one in SAMPLE])
def test_what_is_stored_is_what_the_file_says(expected):
    with tarfile.open(HERE / "sample.tar.gz") as archive:
        content = archive.extractfile(expected["file"]).read()
    verdict = judged("sample", expected["file"], content)
    found = {"file": verdict.file, "outcome": verdict.outcome, "settings": verdict.settings, "rows": verdict.rows}
    assert found == expected, verdict.reason


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "2"),
        (7, "7.1"),
        (0.1, "0.1000000000000000055"),
        (None, "NA"),
        ("7", "007"),
        (" a", "a"),
        (True, "false"),
        (Moment(0), "1970-01-02"),
        (Moment(0), "1970-01-01T00:00:00+01:00"),
    ],
)
def test_a_cell_that_is_not_what_the_text_says_is_noticed(value, text):
    assert not same_as_text(value, text)


@pytest.mark.parametrize(
    ("value", "raw"),
    [({"a": 1}, {"a": 1, "b": 2}), ([1], [1, 2]), (None, 0), ("1", 2), (True, 1), ({"a": None}, {"a": ""})],
)
def test_a_value_that_is_not_what_the_document_says_is_noticed(value, raw):
    assert not same_as_json(value, raw)


@pytest.mark.parametrize("rows", [[], [("1",)], [("1",), ("2",), ("2",)], [("1",), ("1",)]])
def test_rows_that_are_lost_or_come_twice_are_noticed(rows):
    text = judges.text_of(b"a\n1\n2\n", {})
    assert judges.against_text(Rows(["a"], [("2",), ("1",)]), text) is None
    assert judges.against_text(Rows(["a"], rows), text) is not None


def test_no_package_decides_alone_and_each_is_pinned():
    for package in packages():
        assert 0 < len(set(package.files)) == len(package.files) <= FILES_MAX
        assert len(bytes.fromhex(package.sha256)) == 32
        assert package.version
