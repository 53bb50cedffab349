"""What can go wrong, grouped by what the caller does next.

::

    StrandlineError
    ├── UsageError             fix the spec or the command                                  exit 2, nothing touched
    ├── RetryableError         the engine resumes from the last checkpoint, with back-off   exit 1 once it gives up
    │   └── UnreachableError   a source or destination does not answer                      exit 5 once it gives up
    ├── TaskError              this task fails, its cursor stays, the run goes on           exit 1
    │   ├── MassDeleteError    more would be deleted than was allowed
    │   ├── CursorExpiredError the source cannot go on from the cursor: the table has to be read again
    │   └── NothingYetError    a table is known by its rows only, and there are none: no failure where none were stored
    ├── StateError             corrupt, foreign, newer or contradicted state: stop          exit 3, never from zero
    └── StateConflictError     fenced out by another run: stop                              exit 4
        └── LockedError        another process holds the destination or the state          exit 4, at once

Every error says what happened, where, and what to do next. A text must never hold a secret: what comes from a driver
passes ``strandline.logs.redact`` before it is shown.
"""

import difflib
import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

__all__ = [
    "MACHINE",
    "CursorExpiredError",
    "LockedError",
    "MassDeleteError",
    "NothingYetError",
    "Problem",
    "RetryableError",
    "StateConflictError",
    "StateError",
    "StrandlineError",
    "TaskError",
    "UnreachableError",
    "UsageError",
    "did_you_mean",
    "raise_problems",
]

MACHINE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space, or raise the quota, and sync again"),
    errno.EIO: "look after the disk: dmesg",
    errno.EROFS: "mount it writable, or write elsewhere",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise `ulimit -n`, or lower `concurrency`"),
    errno.ENOMEM: "give the process more memory, or lower `memory_limit`",
}
"""Numbers of an ``OSError`` that say that the machine has failed and not a program, with what to do."""


def did_you_mean(wrong: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint: the nearest of ``known``, whatever its case, or ``otherwise``."""
    folded = {name.casefold(): name for name in reversed(list(known))}
    near = difflib.get_close_matches(wrong.casefold(), folded, n=1)
    return f"did you mean {folded[near[0]]!r}?" if near else otherwise


class StrandlineError(Exception):
    """The root of all errors that Strandline raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders with all that they say."""
        return _rebuild, (type(self), self.message, self.hint), self.__dict__


def _rebuild(cls: type[StrandlineError], message: str, hint: str) -> StrandlineError:
    return cls(message, hint=hint)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a spec, at the place where it stands."""

    message: str
    where: str = ""
    """``file:line:column``, or empty."""
    line: str = ""
    """The source line itself, as it was written."""
    hint: str = ""


class UsageError(StrandlineError):
    """The spec or the command is wrong; nothing was touched. ``problems`` holds everything that was found at once."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)

    def each(self) -> tuple[Problem, ...]:
        """Everything that was found; of a single thing, that."""
        return self.problems or (Problem(self.message, hint=self.hint),)


class RetryableError(StrandlineError):
    """A passing failure: the engine reads again from the last saved cursor.

    A bounded number of times, unless a cursor was saved in between that the run did not have yet.
    """

    def __init__(self, message: str, *, hint: str = "", after_s: float = 0.0) -> None:
        """See above.

        Args:
            message: what happened.
            hint: what to do about it.
            after_s: how long to wait at least before the next attempt, as a rate limit says.
        """
        super().__init__(message, hint=hint)
        self.after_s = after_s


class UnreachableError(RetryableError):
    """A source, destination or backend could not be reached."""

    exit_code = 5


class TaskError(StrandlineError):
    """This task cannot go on. Its cursor stays where it is; other tasks continue."""


class MassDeleteError(TaskError):
    """A delete would remove more of a table than is plausible; nothing was deleted."""


class CursorExpiredError(TaskError):
    """The source cannot go on from this cursor, through no fault of the state: it was restored, failed over, rewritten.

    In the overwrite modes the engine begins a pass over everything; in append mode, where that would store rows twice,
    the task fails.
    """

    def __init__(self, message: str, *, hint: str = "read the table again from nothing: --full-refresh") -> None:
        super().__init__(message, hint=hint)


class NothingYetError(TaskError):
    """A source knows a table by its rows only, and there are none now, as ``Table.unreadable``.

    Where none were stored, nothing is to be done, and no table is made.
    """


class StateError(StrandlineError):
    """The state cannot be trusted, or whether it was saved is unknown. Never start from zero on this."""

    exit_code = 3


class StateConflictError(StrandlineError):
    """The stored state is not the one this run wrote last: another run has taken over. Nothing was changed."""

    exit_code = 4


class LockedError(StateConflictError):
    """Another process holds what this run needs. Nothing was changed."""


def raise_problems(problems: Sequence[Problem], summary: str) -> NoReturn:
    """Raise the one problem itself where it has no place; otherwise all of them, with ``summary``."""
    if len(problems) == 1 and not problems[0].where:
        raise UsageError(problems[0].message, hint=problems[0].hint)
    raise UsageError(f"{summary}; nothing was touched", problems=problems)
