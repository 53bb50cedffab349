"""Time, as an argument."""

import time
from datetime import UTC, datetime

__all__ = ["Clock"]


class Clock:
    """The machine's clock. Tests pass another one."""

    def now(self) -> datetime:
        """The time of day, UTC. May go backwards; nothing but first guesses depend on it: of a pass's time, of a lease's age."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Seconds since some start."""
        return time.monotonic()
