"""A shard: a share of the tasks of a source, which one run brings up to date while others do the rest.

A task belongs to a shard by its id alone, so that it makes no difference in which order tasks are listed, what other tasks there
are, or who else runs. Another number of shards moves tasks among runs, and no cursor: a lineage knows no shard.
"""

import hashlib
import re
from dataclasses import dataclass
from math import gcd
from typing import Self

from strandline.state import RUN_TASK

__all__ = ["Shard"]

_COUNT_MAX = 10_000
_WRITTEN = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One of ``count`` shards, which are numbered from 0: as Kubernetes numbers the pods of an Indexed Job."""

    number: int
    count: int

    def __post_init__(self) -> None:
        """Refuse what is no shard.

        Raises:
            ValueError: there is no such shard.
        """
        if not 1 <= self.count <= _COUNT_MAX or not 0 <= self.number < self.count:
            raise ValueError(f"there is no shard {self}: of 16 shards the first is 0/16, and the last 15/16")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def of(cls, text: str) -> Self:
        """``3/16``, as it is written.

        Raises:
            ValueError: it is written otherwise, or there is no such shard.
        """
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no shard: write 3/16 for the fourth of 16 shards, which are numbered from 0")
        return cls(*map(int, found.groups()))

    @classmethod
    def of_run(cls, task: str) -> "Shard | None":
        """Whose run keeps its epoch under this name of a task; ``None``: one of all tasks, for all that is known."""
        try:
            return cls.of(task.removeprefix(RUN_TASK))
        except ValueError:
            return None

    @property
    def run(self) -> str:
        """The name of the task under which a run of this shard keeps its epoch and its lease."""
        return f"{RUN_TASK} {self}"

    def owns(self, task: str) -> bool:
        """Whether a task of this id belongs to it. Of the shards of one count, exactly one owns a task."""
        digest = hashlib.sha256(task.encode()).digest()
        return int.from_bytes(digest, "big") % self.count == self.number

    def meets(self, other: "Shard | None") -> bool:
        """Whether a task can belong to both; ``None`` is a run of all tasks."""
        return other is None or (self.number - other.number) % gcd(self.count, other.count) == 0
