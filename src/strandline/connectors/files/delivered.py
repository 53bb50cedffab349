"""The delivered set of ``strandline.connectors.arrow.delivered``, in files that are mapped into memory.

A bit that flips in such a file would lose a row, or store one twice. So its name ends in the SHA-256 of its content, and the
log has a checksum over the name. Files that older versions have written have no digest in their names.
"""

import hashlib
import re
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from strandline.connectors.arrow.delivered import COLUMNS
from strandline.connectors.files.formats import DataFile
from strandline.errors import RetryableError, TaskError
from strandline.lazy import pa

__all__ = ["mapped", "write_set"]

_DIGEST = re.compile(r"-([0-9a-f]{64})\.arrow$")


def mapped(root: Path, verified: set[str], file: str) -> "pa.Table":
    """What a file holds.

    Args:
        root: to which the file is relative.
        verified: files whose content this process has compared with their digests; added to.
        file: as the log names it.

    Raises:
        TaskError: it is damaged.
        RetryableError: it is gone.
    """
    path, digest = root / file, _DIGEST.search(file)
    try:
        with pa.memory_map(str(path)) as source:
            content = source.read_buffer()
            if digest and file not in verified:
                # what is mapped is what is compared
                if hashlib.sha256(content).hexdigest() != digest[1]:
                    raise _damaged(path, "its content is not what its name says")
                verified.add(file)
            return pa.ipc.open_file(content).read_all().select(COLUMNS)
    except FileNotFoundError as error:
        # it went with a commit of another run, which the next look at the log shows; or by hand, and then it stays
        # away
        raise RetryableError(
            f"{path}: gone, so it is not known which rows were delivered",
            hint="let one run at a time sync this source; if a person removed it, restore the directory from a backup",
        ) from error
    except OSError as error:
        if error.errno:
            raise  # of the system, and not of what is in the file
        raise _damaged(path, error) from error
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _damaged(path, error) from error


class _Hashing:
    """What is written into a file, and its digest."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.tell, self.flush = file.tell, file.flush

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._file.write(content)


def write_set(path: Path, table: "pa.Table") -> str:
    """Write a file of a set, durable but for its name; the digest of its content.

    Args:
        path: of a file that is not there; nor is it if this fails.
        table: what ``settle`` gave.
    """
    hashed: list[_Hashing] = []

    def writer(raw: IO[bytes], opened: ExitStack) -> "pa.RecordBatchFileWriter":
        hashed.append(_Hashing(raw))
        return opened.enter_context(pa.ipc.new_file(hashed[0], table.schema))

    file = DataFile(path, writer)
    try:
        file.write(table)
        file.close()
    except BaseException:
        file.abort()
        with suppress(OSError):
            path.unlink()
        raise
    return hashed[0].digest.hexdigest()


def _damaged(path: Path, why: object) -> TaskError:
    return TaskError(
        f"{path}: damaged, so it is not known which rows were delivered ({why})",
        hint="restore the directory from a backup; or move it away, reset the states, and sync again",
    )
