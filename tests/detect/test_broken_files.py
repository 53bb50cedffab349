"""A files source that takes a file for what its name says: logs that are rotated tell.

The shared suite knows of no names, so what notices are the tests of rotated logs.
"""

import pytest
import test_files_rotation as rotation
from checks import Check
from rotated_logs import RotatedLog

from strandline.connectors.files import survey as files_survey
from strandline.connectors.files.local import LocalFile

BROKEN = []


def broken(what, case, *arguments):
    """What is broken, by the test that notices it, with its arguments after the log."""

    def register(breaks):
        marks = pytest.mark.detects("P7", f"files: {what}", by=case.__name__)
        BROKEN.append(pytest.param(case, arguments, breaks, marks=marks, id=breaks.__name__))
        return breaks

    return register


@broken("they are known by their names only", rotation.test_a_log_that_is_copied_and_truncated_is_delivered_once, 2)
def goes_by_names(patch):
    real = files_survey._Loose.matches

    def matches(loose, file, coding):
        return (match for match in real(loose, file, coding) if match.key == file.key)

    patch.setattr(files_survey._Loose, "matches", matches)


@broken(
    "names are believed for as long as files are read", rotation.test_a_log_is_rotated_while_it_is_read, "rename", 4
)
def compares_nothing_again(patch):
    patch.setattr(files_survey.Survey, "moved", lambda *_: False)


@broken("a truncated file is read on", rotation.test_a_log_is_rotated_while_it_is_read, "copytruncate", 4)
def reads_on(patch):
    patch.setattr(LocalFile, "_read", lambda self, size_bytes: self._raw.read(size_bytes))


@pytest.fixture
def findings(tmp_path):
    def find(case, arguments, name):
        log = RotatedLog(tmp_path / name, csv=True)
        return Check(case.__name__, lambda: case(log, *arguments)).findings()

    return find


@pytest.mark.parametrize(("case", "arguments", "breaks"), BROKEN)
def test_a_source_that_believes_names_is_noticed(case, arguments, breaks, findings, monkeypatch):
    assert not findings(case, arguments, "sound")
    breaks(monkeypatch)
    assert findings(case, arguments, "broken")
