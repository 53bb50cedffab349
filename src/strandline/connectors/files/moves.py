"""Files that a commit renames into sight: that they can be, before it; and that they are in their place, after it.

Whatever is in the way has to be found before: a commit that is durable, and whose files cannot be put in their place, stops
everybody who uses the root.
"""

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from strandline.errors import RetryableError, StateError, TaskError
from strandline.paths import FOLDER, make_directory, opened

__all__ = ["Moves"]

_MEND = "move what is there away, or choose another `path`; a table's directory belongs to the file system of `path`"


class Moves:
    """Of one root. To be used alone with its log.

    Args:
        root: to which all names are relative.
        own: the name of the directory in it that is private.
    """

    def __init__(self, root: Path, own: str) -> None:
        self._root, self._own = root, own
        self._named: set[Path] = set()
        """Directories whose names this process has made durable, or found so."""

    def name(self, folders: Iterable[Path]) -> None:
        """Make the names of directories durable, up to the root's: whoever made them may have been killed before."""
        self._sync((), folders)

    def check(self, moves: Sequence[tuple[str, str]]) -> None:
        """Whether files can be moved; asked before a commit names them.

        Raises:
            RetryableError: one is gone.
            TaskError: one cannot be where it belongs.
        """
        for _, new in moves:
            self._check_length(new)
        for old, new in moves:
            try:
                device = os.lstat(self._root / old).st_dev
            except FileNotFoundError as error:
                raise RetryableError(
                    f"{self._root / old}: it went away before it was committed; nothing was",
                    hint="let nothing clean up below `.strandline`",
                ) from error
            self._check_folder((self._root / new).parent, new, device)

    def _check_length(self, new: str) -> None:
        target = self._root / new
        names = os.pathconf(self._root, "PC_NAME_MAX")
        whole = os.pathconf(self._root, "PC_PATH_MAX")
        longest = max(len(os.fsencode(part)) for part in Path(new).parts)
        if longest > names or len(os.fsencode(target)) >= whole:  # a zero byte ends it
            raise TaskError(
                f"{str(target)[:200]}…: longer than the {names} bytes of a name, or {whole} of a path, that this file "
                "system allows; nothing was committed",
                hint="partition by fewer columns, or by others; or choose a shorter `path`",
            )

    def _check_folder(self, folder: Path, new: str, device: int) -> None:
        """Whether files can be renamed into a directory, which is made."""
        try:
            self._make(folder, new)
            found = os.stat(folder)  # noqa: PTH116 -- as it is used; a link to a directory is one
        except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise TaskError(
                f"{folder}: no directory can be made there ({error.strerror}); nothing was committed", hint=_MEND
            ) from error
        problem = ""
        if not stat.S_ISDIR(found.st_mode):
            problem = "is no directory"
        elif found.st_dev != device:
            problem = "is on another file system, into which no file can be renamed"
        elif not os.access(folder, os.W_OK | os.X_OK):
            problem = "is not writable"
        if problem:
            raise TaskError(f"{folder}: {problem}; nothing was committed", hint=_MEND)

    def _make(self, folder: Path, new: str) -> None:
        make_directory(folder, mode=0o700 if new.startswith(f"{self._own}/") else 0o777)

    def carry_out(
        self,
        moves: Sequence[tuple[str, str]],
        removes: Iterable[str],
        *,
        first: Path | None,
        is_due: Callable[[], bool],
        fix: str,
    ) -> None:
        """Put files in their place, as far as a run that was interrupted has not done it, and make all of it durable.

        Args:
            moves: from, to.
            removes: may be gone already.
            first: the directory that has to be durable before, if it may not be.
            is_due: whether it is known that nobody has come to the end of this before. Elsewhere a file that is neither
                here nor there was moved, and then removed by a user.
            fix: what to do if a file is lost, and was not.

        Raises:
            StateError: a file is neither here nor there, and nobody has had the time to remove it.
            OSError: the rest has to be done later.
        """
        if moves and first is not None:
            self._sync([first], [first])
        changed, targets = set[Path](), set[Path]()
        for old, new in moves:
            staged, target = self._root / old, self._root / new
            # also where it is renamed already: whoever did that may have been killed before it was durable
            changed |= {target.parent, staged.parent}
            targets.add(target.parent)
            if not _is_there(staged):
                if is_due() and not _is_there(target):
                    raise StateError(
                        f"{target}: a commit has it, and it is gone, nor is it in {staged}: its rows are lost",
                        hint=f"restore it from a backup; or, {fix}",
                    )
                continue
            self._make(target.parent, new)
            staged.rename(target)
        for name in removes:
            with suppress(FileNotFoundError):
                (self._root / name).unlink()
                changed.add((self._root / name).parent)
        self._sync(changed, targets)

    def _sync(self, changed: Iterable[Path], named: Iterable[Path]) -> None:
        """Make what is in directories durable, and the names of others, with those of all above them up to the root."""
        unknown = {one for folder in named for one in self._below_root(folder)} - self._named
        for folder in {*changed, *(one.parent for one in unknown)}:
            forgiven: tuple[type[OSError], ...] = (FileNotFoundError, NotADirectoryError)  # a user has removed it
            if folder == self._root.parent:
                forgiven += (PermissionError,)  # it is not ours
            with suppress(*forgiven), opened(folder, FOLDER) as directory:
                os.fsync(directory)
        self._named |= unknown

    def _below_root(self, folder: Path) -> Sequence[Path]:
        """A directory, and those above it; the root is the last."""
        above = [folder, *folder.parents]
        return above[: above.index(self._root) + 1]


def _is_there(path: Path) -> bool:
    """Only what is certainly gone is not there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True
