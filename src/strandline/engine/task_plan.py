"""What a sync would do with one task in one destination, as ``plan`` tells it."""

from dataclasses import dataclass

from strandline.destination import Change, WriteMode
from strandline.errors import StrandlineError
from strandline.message import Cursor
from strandline.state import StateKey
from strandline.table import Guarantee

__all__ = ["TaskPlan"]


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What a sync would do with one task in one destination."""

    key: StateKey
    tables: tuple[str, ...]
    mode: WriteMode
    guarantees: tuple[Guarantee, ...]
    delivery: str
    """What is promised about duplicates."""
    access: tuple[str, ...]
    """How the source finds what changed."""
    cursor: Cursor | None
    full: bool
    resumed: bool
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    error: StrandlineError | None = None
    """Why the task cannot run."""
    left_out: str = ""
    """Why a sync would leave it out, and say so."""
    refresh: bool = False
    backfill: bool = False
    """Everything is read again to fill new columns."""
    lost: str = ""
    """Which rows are dropped and cannot be read again, as the user has allowed."""

    @property
    def problem(self) -> str:
        """Why it would not run, in words; empty: it would."""
        return self.error.message if self.error is not None else self.left_out

    @property
    def hint(self) -> str:
        """What to do about the problem."""
        return self.error.hint if self.error is not None else ""

    @property
    def exit_code(self) -> int:
        """With which a sync would end because of it."""
        return self.error.exit_code if self.error is not None else 0
