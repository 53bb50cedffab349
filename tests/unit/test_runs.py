"""The records of runs, for people and for programs that read the summary."""

import json
from datetime import UTC, datetime

from strandline import runs
from strandline.runs import RunReport, RunStore, TaskReport, append_record


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
    assert [run["run_id"] for run in RunStore(tmp_path).read()[0]] == ["one", "three", "four"]


def test_old_runs_are_forgotten_when_there_are_too_many_bytes_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_RUNS_BYTES_MAX", 1_000)
    store = RunStore(tmp_path)
    for number in range(100):
        store.add(report(str(number)))
        kept = [int(run["run_id"]) for run in store.read()[0]]
        assert kept == list(range(number + 1))[-len(kept) :]
    assert len(kept) > 2
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3_000


def test_a_long_cursor_is_not_written_down_as_it_is(tmp_path):
    short, long = {"at": 7}, {"files": {str(number): [number] for number in range(10_000)}, "shown": "10,000 files"}
    one = report("one")
    one.tasks.append(TaskReport("shop", "orders", "copy", ("orders",), cursor_from=short, cursor_to=long))
    RunStore(tmp_path).add(one)
    ((task,),) = (run["tasks"] for run in RunStore(tmp_path).read()[0])
    assert (task["cursor_from"], task["cursor_to"]) == (short, {"shown": "10,000 files"})
    assert one.tasks[0].cursor_to == long
    one.tasks[0].cursor_to = {"files": ["x" * 10_000]}
    assert one.record()["tasks"][0]["cursor_to"]["shown"].startswith('{"files":["xxx')
    assert (tmp_path / "runs.jsonl").stat().st_size < 2_000
