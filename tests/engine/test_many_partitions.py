"""A source of very many partitions, of which hardly any has something new."""

import os
from collections import Counter

from test_engine import Numbers, backend, destination, job
from test_engine_borders import Plain

from strandline.engine.run import sync
from strandline.source import Task
from strandline.state import RUN_TASK, StateKey

PARTITIONS = int(os.environ.get("STRANDLINE_PARTITIONS") or 2_000)


class Many(Numbers):
    """One table, and a task for each partition."""

    partitions = 1

    def tasks(self, tables):
        return [Task(f"a/{number}", tuple(tables), str(number)) for number in range(self.partitions)]


class Counting:
    """What is asked of a backend, or of a destination, is counted by name of method and task."""

    def __init__(self, inner, counts):
        self._inner, self._counts = inner, counts

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def save(self, key, state, *, expected):
        self._counts["save", key.task == RUN_TASK] += 1
        return self._inner.save(key, state, expected=expected)

    def write(self, window, *, mode, fence):
        self._counts["write"] += 1
        return self._inner.write(window, mode=mode, fence=fence)


def test_thousands_of_partitions_that_have_nothing_new_write_nothing(request):
    kept, source, store = backend(), Many("a"), Plain(destination(request.node.nodeid))
    assert sync(job(source, store, backend=kept)).exit_code == 0
    state = kept.load("numbers")[StateKey("numbers", "a/0", "d0")]
    for number in range(1, PARTITIONS):
        kept.save(StateKey("numbers", f"a/{number}", "d0"), state, expected=None)
    before, counts = kept.load("numbers"), Counter()
    source.partitions = PARTITIONS
    report = sync(job(source, Counting(store, counts), backend=Counting(kept, counts)))
    assert (report.exit_code, len(report.tasks)) == (0, PARTITIONS)
    assert counts.keys() == {("save", True)}
    after = kept.load("numbers")
    assert {key: one.token for key, one in after.items() if key.task != RUN_TASK} == {
        key: one.token for key, one in before.items() if key.task != RUN_TASK
    }
