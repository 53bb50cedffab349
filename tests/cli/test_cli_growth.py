"""What a sync that finds nothing new leaves behind, where the cursor is large."""

import os
from pathlib import Path

import pytest

from strandline.connectors.files import positions

FILES = 2_500
"""Their cursor is larger than what a history keeps of every commit."""


def kept(path):
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


@pytest.mark.parametrize("into", ["sqlite", "files"])
def test_idle_syncs_of_many_files_leave_nothing_that_grows_with_them(cli, into, monkeypatch):
    # files that are just made are looked at again, which changes the cursor at some later sync
    monkeypatch.setattr(positions, "_RACY_NS", -(10**18))
    Path("in/t").mkdir(parents=True)
    for number in range(FILES):
        path = Path(f"in/t/{number}.csv")
        path.write_text(f"id\n{number}\n")
        os.utime(path, (0, 0))
    place = {"path": "out.sqlite"} if into == "sqlite" else {"path": "out", "format": "parquet"}
    source = {"name": "shop", "path": "files", "tables": ["*"], "destinations": ["copy"], "spec": {"path": "in"}}
    copy = {"name": "copy", "path": into, "write_mode": "append", "spec": place}
    cli.spec(("source", source), ("destination", copy))
    states, runs = [], []
    for _ in range(5):
        assert cli("sync").exit_code == 0
        states.append(kept(".cq/state"))
        runs.append(kept(".cq/runs"))
    cursor = states[0] / 2
    assert max(states[1:]) - min(states[1:]) < cursor / 10
    assert runs[-1] < cursor / 10
