"""What happens at a source between syncs: a seeded series of changes, and what the destination has to hold after each.

A row is ``(id, v)``, and ``v`` is another at every change of a row. Times are long past, so that the clock of no machine
matters; a row that is ``late`` has a smaller time than what was read before, but within the look-back window.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

STEPS = 3
"""The first load, changes of every kind, and some more."""
WINDOW_ROWS = 5
LAG = "1m"
_STEP_S, _LATE_S = 600, 20


@dataclass
class Change:
    """Between two syncs, to one table."""

    upserts: dict = field(default_factory=dict)
    """id → (seconds or none, v)"""
    deletes: list = field(default_factory=list)
    late: dict = field(default_factory=dict)
    """Like ``upserts``: written by a transaction that is open while the sync before this one runs, where that is possible."""


class Series:
    """The changes of one table, and what is in it after each.

    Args:
        seed: of everything.
        first_rows: at the first load.
        few: rows that a later step adds.
    """

    def __init__(self, seed, *, first_rows, few):
        self._chance = random.Random(seed)
        self._next_id, self._versions = 1, Counter()
        self._now_s = 0
        self._rows = {}
        self.steps = []
        self.contents = []
        """After each step: id → v."""
        for step in range(STEPS):
            change = self._first(first_rows) if step == 0 else self._later(few if step < STEPS - 1 else 1)
            self._rows |= {id_: v for id_, (_, v) in {**change.late, **change.upserts}.items()}
            for id_ in change.deletes:
                del self._rows[id_]
            self.steps.append(change)
            self.contents.append(dict(self._rows))

    def ever(self, step):
        """All versions of rows that a sync up to this step could see: each is delivered once."""
        return Counter({(id_, v) for content in self.contents[: step + 1] for id_, v in content.items()})

    def newest(self, step):
        """Each row that ever was, as it was last."""
        rows = {}
        for content in self.contents[: step + 1]:
            rows |= content
        return Counter(rows.items())

    def current(self, step):
        return Counter(self.contents[step].items())

    def _first(self, rows):
        change = Change()
        for number in range(rows):
            # ties lie across the border of two windows
            change.upserts |= self._new(None if number % 6 == 5 else self._now_s + 10 * (number // 5))
        self._now_s += 10 * (rows // 5)
        return change

    def _later(self, few):
        newest_s = self._now_s
        self._now_s += _STEP_S
        change = Change(late=self._new(newest_s - _LATE_S))
        known = self._chance.sample(sorted(self._rows), min(2 * few, len(self._rows) // 2))
        for id_ in known[:few]:
            change.upserts[id_] = (self._now_s, self._version(id_))
        for number in range(few):
            change.upserts |= self._new((newest_s, self._now_s, self._now_s, None)[number % 4])
        change.deletes = known[few : few + max(1, few // 2)]
        return change

    def _new(self, second):
        id_, self._next_id = self._next_id, self._next_id + 1
        return {id_: (second, self._version(id_))}

    def _version(self, id_):
        self._versions[id_] += 1
        return f"{id_}.{self._versions[id_]}"
