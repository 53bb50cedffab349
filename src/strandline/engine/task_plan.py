"""What a sync would do with one task in one destination, as ``plan`` tells it."""

from dataclasses import dataclass, field

from strandline.destination import Change, WriteMode
from strandline.engine.unchanged import Settled
from strandline.errors import StrandlineError
from strandline.message import Cursor
from strandline.state import StateKey
from strandline.table import Guarantee
from strandline.warned import Warned

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
    warnings: tuple[Warned, ...] = ()
    error: StrandlineError | None = None
    """Why the task cannot run."""
    left_out: Warned | None = None
    """Why a sync would leave it out, and say so."""
    refresh: bool = False
    backfill: bool = False
    """Everything is read again to fill new columns."""
    lost: Warned | None = None
    """Which rows are dropped and cannot be read again, as the user has allowed."""

    settled: Settled | None = field(default=None, repr=False)
    """The task, if nothing is to be done for it where its source has nothing new."""
    evidence: str = ""
    """What proves that its source has nothing new, so that it is not read; empty: it is."""

    @property
    def problem(self) -> str:
        """Why it would not run, in words; empty: it would."""
        return self.error.message if self.error is not None else self.left_out or ""

    @property
    def said(self) -> tuple[Warned, ...]:
        """All that is warned of."""
        return (*self.warnings, *(one for one in (self.lost, self.left_out) if one))

    @property
    def hint(self) -> str:
        """What to do about the problem."""
        return self.error.hint if self.error is not None else ""

    @property
    def exit_code(self) -> int:
        """With which a sync would end because of it."""
        return self.error.exit_code if self.error is not None else 0
