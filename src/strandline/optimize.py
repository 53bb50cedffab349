"""What a destination of files may offer beside syncs: to join the small files of many windows, and to remove what nobody reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

__all__ = ["Optimizable", "Optimized"]


@dataclass(frozen=True, slots=True)
class Optimized:
    """What was done to one stored table."""

    before: int
    """Of files that a reader has to open, before."""
    after: int
    removed: int
    """Files that no table names: of commits that are older than was asked to keep, and of runs that were killed."""


@runtime_checkable
class Optimizable(Protocol):
    """A destination whose tables become many small files. Optional: no sync ever asks, only the command ``optimize``."""

    def optimizable(self) -> Sequence[str]:
        """The names of its stored tables. Looks only."""

    def optimize(self, table: str, *, keep: timedelta) -> Optimized:
        """Join the small files of a stored table, and remove what has not been named for so long.

        Rows, states and what a reader sees stay as they are, whenever it is cut off. Runs may write the table meanwhile: neither loses
        to the other anything but time. A reader that began at most ``keep`` ago reads on, and so does a run whose window began then.

        Args:
            table: one of ``optimizable``.
            keep: at least an hour.

        Raises:
            TaskError: the table is gone, or cannot be written to; nothing was done to it.
            RetryableError: others write to it so often that it could not be done.
        """
