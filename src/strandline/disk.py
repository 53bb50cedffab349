"""What a directory stands on: its file system, the room that is left, and who has locked a file in it."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from strandline.errors import UsageError
from strandline.probe import Probe, Verdict

__all__ = [
    "check_locks_hold",
    "existing",
    "file_system_probe",
    "holders",
    "probe_folder",
    "room_probes",
    "size_in_words",
]

NETWORK = re.compile(
    r"afs|beegfs|ceph|cifs|coda|glusterfs|gpfs|lustre|ncpfs|nfs4?|smb3|smbfs"
    r"|fuse\.(ceph|gcsfuse|glusterfs|goofys|juicefs|rclone|s3fs|sshfs)"
)
"""File systems whose locks may not hold."""

_FLEETING = {
    "tmpfs": "memory",
    "ramfs": "memory",
    "overlay": "the container's own layer",
    "aufs": "the container's own layer",
}
_PROBED = ".strandline-probe-"
_PROBED_S = 3600
"""A probe's directory that is older was left by one that was killed."""
_MOUNTS = Path("/proc/self/mountinfo")
_LOCKS = Path("/proc/locks")
_ESCAPE = re.compile(r"\\([0-7]{3})")
_FREE_BYTES_MIN = 1 << 20
_FREE_BYTES_FEW = 256 << 20
_FREE_INODES_FEW = 1_000
_KILO = 1_000


def existing(path: Path) -> Path:
    """``path``, or the nearest directory above it that is there."""
    whole = path.absolute()
    return next(one for one in (whole, *whole.parents) if one.exists())


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, or will; empty where the system does not tell."""
    try:
        lines = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    place = existing(path).resolve()
    best, found = -1, ""
    for line in lines:
        mount, _, system = line.partition(" - ")
        # what is mounted later hides what was mounted there before
        point = Path(_ESCAPE.sub(lambda code: chr(int(code[1], 8)), mount.split(" ")[4]))
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), system.split(" ")[0]
    return found


def check_locks_hold(path: Path, *, otherwise: str) -> None:
    """Before anything is written there; ``path`` need not be there yet.

    Raises:
        UsageError: it is on a network file system; ``otherwise`` says what to do.
    """
    kind = file_system(path)
    if NETWORK.fullmatch(kind):
        raise UsageError(f"{path} is on a network file system ({kind}), where locks may not hold", hint=otherwise)


def file_system_probe(path: Path, *, network: Verdict, fix: str, what: str) -> Probe:
    """Whether locks hold there, and whether it outlives the machine's next start.

    Args:
        path: need not be there yet.
        network: how bad a network file system is.
        fix: what to do about that.
        what: would be lost with a file system in memory.
    """
    kind, subject = file_system(path), "file system"
    if NETWORK.fullmatch(kind):
        return Probe(subject, network, f"a network file system ({kind}), where locks may not hold", fix)
    if kind in _FLEETING:
        found = f"{kind}: {_FLEETING[kind]}; {what} ends with the machine's or the container's life"
        return Probe(subject, Verdict.WARNING, found, f"mount a volume, and keep {what} there")
    return Probe(subject, Verdict.OK, kind or "unknown: this system does not tell")


def probe_folder(place: Path) -> Path:
    """A new directory to try things in, which the caller removes; those that killed probes left there are swept."""
    with suppress(OSError):  # whether anything can be made is told below
        for old in place.glob(f"{_PROBED}*"):
            if time.time() - os.lstat(old).st_mtime > _PROBED_S:
                shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_PROBED, dir=place))


def room_probes(path: Path) -> Iterator[Probe]:
    """Free bytes and inodes, as an ordinary user has them."""
    found = os.statvfs(existing(path))
    free = found.f_bavail * found.f_frsize
    verdict = Verdict.PROBLEM if free < _FREE_BYTES_MIN else Verdict.WARNING if free < _FREE_BYTES_FEW else Verdict.OK
    fix = f"free some: df -h {existing(path)}" if verdict is not Verdict.OK else ""
    yield Probe("free space", verdict, f"{size_in_words(free)} free", fix)
    if found.f_files and found.f_favail < _FREE_INODES_FEW:
        fix = f"delete files: df -i {existing(path)}"
        yield Probe("free space", Verdict.WARNING, f"{found.f_favail:,} files can be made, no more", fix)


def holders(path: Path) -> list[int]:
    """The processes that hold a lock on a file, as far as the system tells."""
    try:
        inode = path.stat()
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return []
    wanted = f"{os.major(inode.st_dev):02x}:{os.minor(inode.st_dev):02x}:{inode.st_ino}"
    held = [line.replace("-> ", "").split() for line in lines]
    return sorted({int(one[4]) for one in held if one[5] == wanted and int(one[4]) > 0})


def size_in_words(count: float) -> str:
    """Bytes for people: ``1200 MB``; each unit is a thousand of the one before."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < _KILO:
            return f"{count:.0f} {unit}"
        count /= _KILO
    return f"{count:.1f} TB"
