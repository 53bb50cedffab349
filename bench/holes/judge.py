"""Stored rows against the rows there should be. A verdict is counted, never assumed."""

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    text: str
    note: str = ""

    @property
    def is_ok(self):
        return self.text == "ok"


def compare(expected, stored, *, gone_is="not deleted"):
    """Both are rows (id, value), with repetitions. In append mode each version of a row is expected once.

    LOST: an id that is not there at all. Stale: an id is there, but not this value of it. Duplicates: more often than
    expected. Not deleted: an id that should be there no more; ``gone_is`` says it otherwise, where it never was anywhere.
    """
    wanted, found = Counter(expected), Counter(stored)
    ids, there = {row[0] for row in wanted}, {row[0] for row in found}
    lost = len(ids - there)
    stale = sum(1 for row in wanted if row[0] in there and row not in found)
    duplicates = sum(max(0, count - wanted[row]) for row, count in found.items() if row in wanted)
    gone = len(there - ids)
    # an old value beside the new one, where only the last one should be; one instead of it is stale already
    beside = sum(count for row, count in found.items() if row[0] in ids and row not in wanted)
    duplicates += max(0, beside - stale)
    parts = [
        f"{word} {count}"
        for word, count in (("LOST", lost), ("stale", stale), ("duplicates", duplicates), (gone_is, gone))
        if count
    ]
    return ", ".join(parts) or "ok"
