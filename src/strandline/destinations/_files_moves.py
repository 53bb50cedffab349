"""Files that a commit renames into sight: that they are there before it, and in their place after it."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from strandline.errors import RetryableError, StateError
from strandline.paths import FOLDER, make_directory, opened

__all__ = ["Moves"]


class Moves:
    """Of one root. To be used alone with its log.

    Args:
        root: to which all names are relative.
        own: the name of the directory in it that is private.
    """

    def __init__(self, root: Path, own: str) -> None:
        self._root, self._own = root, own

    def check(self, moves: Sequence[tuple[str, str]]) -> None:
        """Whether files can be moved; asked before a commit names them.

        Raises:
            RetryableError: one is gone.
        """
        for old, _ in moves:
            try:
                os.lstat(self._root / old)
            except FileNotFoundError as error:
                raise RetryableError(
                    f"{self._root / old}: it went away before it was committed; nothing was",
                    hint="let nothing clean up below `.strandline`",
                ) from error

    def carry_out(
        self, moves: Sequence[tuple[str, str]], removes: Iterable[str], *, is_due: Callable[[], bool], mend: str
    ) -> None:
        """Put files in their place, as far as a run that was interrupted has not done it.

        Args:
            moves: from, to.
            removes: may be gone already.
            is_due: whether it is known that nobody has come to the end of this before. Elsewhere a file that is neither
                here nor there was moved, and then removed by a user.
            mend: what to do if a file is lost, and was not.

        Raises:
            StateError: a file is neither here nor there, and nobody has had the time to remove it.
            OSError: the rest has to be done later.
        """
        folders: set[Path] = set()
        for old, new in moves:
            staged, target = self._root / old, self._root / new
            if not _is_there(staged):
                if is_due() and not _is_there(target):
                    raise StateError(
                        f"{target}: a commit has it, and it is gone, nor is it in {staged}: its rows are lost",
                        hint=f"restore it from a backup; or, {mend}",
                    )
                continue  # it was renamed before
            make_directory(target.parent, mode=0o700 if new.startswith(self._own) else 0o777)
            staged.rename(target)
            folders |= {target.parent, staged.parent}
        for name in removes:
            with suppress(FileNotFoundError):
                (self._root / name).unlink()
                folders.add((self._root / name).parent)
        for folder in folders:
            with opened(folder, FOLDER) as directory:
                os.fsync(directory)


def _is_there(path: Path) -> bool:
    """Only what is certainly gone is not there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True
