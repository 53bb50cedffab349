"""The contract of a destination that can look at many tables at once."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

__all__ = ["LooksAtMany"]


@runtime_checkable
class LooksAtMany(Protocol):
    """A destination to which one question about a thousand tables costs less than a thousand. Optional."""

    def looking_at(self, names: Sequence[str]) -> AbstractContextManager[None]:
        """Until it ends, ``Destination.migrate`` without ``apply`` may answer in this thread as of its beginning.

        What it answers is what it would answer of each table alone; so where the look at all of them fails, it looks at each. Only
        looks are made in between, and by this thread only.

        Args:
            names: of stored tables; some may not be there. Others may be asked for, too.
        """
