"""Names as parts of paths, and directories that many processes share."""

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from strandline.errors import LockedError

__all__ = ["FOLDER", "PLAIN", "encode_part", "locked", "make_directory", "opened", "replace_file", "write_file"]

_PART_BYTES_MAX = 97  # two parts, "@" and ".json" make at most 200 bytes
_DIGEST_HEX = 64
_SPELLED = [chr(byte) if re.match(rb"[a-z0-9._-]", bytes([byte])) else f"%{byte:02x}" for byte in range(256)]
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")

FOLDER = os.O_RDONLY | os.O_DIRECTORY
"""Flags that open a directory."""
PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK
"""Flags that open a plain file; opening a fifo must not wait for its other end."""


@lru_cache(maxsize=1024)
def encode_part(name: str) -> str:
    """A name as a part of a path: injective, at most 97 bytes, the same on every file system.

    Lower-case ASCII letters, digits, ``_``, ``-`` and inner dots stay. Other bytes of the UTF-8 form become ``%`` and
    two lower-case hex digits, so that the way back is the usual percent-decoding, and no two names differ only in case
    or in Unicode normalisation. A longer result keeps its beginning, then has ``%-`` and the SHA-256 of the name; the
    way back is then the name inside the file.
    """
    if not name:
        return "%"
    raw = name.encode("utf-8", "surrogatepass")
    part = "".join(map(_SPELLED.__getitem__, raw))
    if part.endswith("."):
        part = part[:-1] + "%2e"
    if part.startswith(".") or _WINDOWS_DEVICE.match(part):
        part = f"%{ord(part[0]):02x}{part[1:]}"
    if len(part) > _PART_BYTES_MAX:
        part = f"{part[: _PART_BYTES_MAX - _DIGEST_HEX - 2]}%-{hashlib.sha256(raw).hexdigest()}"
    return part


@contextmanager
def opened(path: Path | str, flags: int, *, directory: int | None = None) -> Iterator[int]:
    """A file descriptor, closed at the end."""
    fd = os.open(path, flags, 0o600, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def locked(directory: int, where: Path, *, wait_s: float) -> Iterator[None]:
    """Alone with an open directory, among threads and processes.

    Args:
        directory: holds the file ``.lock``.
        where: its path, for an error.
        wait_s: how long to wait for the others.

    Raises:
        LockedError: it took longer.
    """
    with opened(".lock", os.O_RDWR | os.O_CREAT | PLAIN, directory=directory) as fd:
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise LockedError(
                        f"{where}: another process has been saving for {wait_s:.0f} s",
                        hint=f"`fuser {where / '.lock'}` names it; let it go on, or end it",
                    ) from None
                time.sleep(0.002)
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # a forked child may share the descriptor and outlive the save


def make_directory(path: Path, *, mode: int = 0o700) -> None:
    """Create ``path`` and what is missing above it; each new name is durable before anything is kept below it."""
    if path.is_dir():
        return
    make_directory(path.parent, mode=mode)
    with suppress(FileExistsError):
        path.mkdir(mode)
    with opened(path.parent, FOLDER) as parent:
        os.fsync(parent)


def write_file(directory: int, name: str, content: bytes) -> None:
    """Make a new file in an open directory; durable but for its name. What cannot be written is removed again."""
    try:
        with opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, directory=directory) as fd:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)  # never tried again: a second fsync may succeed although the data is lost
    except OSError:
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise


def replace_file(directory: int, name: str, content: bytes) -> None:
    """Put ``content`` in the place of the file ``name``: a reader, and a power cut, find the old one or the new one.

    Args:
        directory: an open one.
        name: of a file in it, which need not be there.
        content: durable once this returns.
    """
    temporary = f".{secrets.token_hex(16)}.tmp"
    write_file(directory, temporary, content)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)
