"""The records of runs, for people and for programs that read the summary."""

import json
from datetime import UTC, datetime

from strandline.runs import RunReport, RunStore, append_record


def report(run_id):
    return RunReport(run_id, "shop", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_record_that_a_full_disk_tore_takes_no_other_with_it(tmp_path):
    path = tmp_path / "runs.jsonl"
    append_record(path, report("one"))
    with path.open("a") as file:
        file.write('{"run_id": "to')
    append_record(path, report("three"))
    append_record(path, report("four"))
    first, torn, *rest = path.read_text().splitlines()
    assert torn == '{"run_id": "to'
    assert [json.loads(line)["run_id"] for line in (first, *rest)] == ["one", "three", "four"]
    assert [run["run_id"] for run in RunStore(tmp_path).runs()] == ["one", "three", "four"]
