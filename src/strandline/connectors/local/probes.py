"""What a directory has to be able to do before states can be trusted to it: each thing is tried."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from strandline.disk import existing, file_system_probe, probe_folder, room_probes
from strandline.errors import StateError
from strandline.probe import Probe, Verdict

__all__ = ["probe_directory"]

_PRIVATE = 0o700
_CHILD_S = 20
_TRY_TO_LOCK = (
    "import fcntl, sys\n"
    "with open(sys.argv[1]) as held:\n"
    "    try:\n"
    "        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    "    except BlockingIOError:\n"
    "        print('refused')\n"
)


def probe_directory(root: Path, *, allow_network: bool) -> Iterator[Probe]:
    """Probes of the directory that keeps states, or will."""
    yield _directory(root)
    yield file_system_probe(
        root,
        network=Verdict.WARNING if allow_network else Verdict.PROBLEM,
        fix="choose a `path` in backend_spec on a local disk, or another backend",
        what="what is in the state directory",
    )
    yield from _tried(root)
    yield from room_probes(root)


def _directory(root: Path) -> Probe:
    subject = "directory"
    if not root.exists():
        return Probe(subject, Verdict.OK, f"{root} is not there yet; the first sync makes it")
    if not root.is_dir():
        fix = "move it away, or choose another `path` in backend_spec"
        return Probe(subject, Verdict.PROBLEM, f"{root} is no directory", fix)
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & ~_PRIVATE:
        found = f"{root} is open to others (mode {mode:04o}); cursors may tell what tables hold"
        return Probe(subject, Verdict.WARNING, found, f"chmod 700 {root}")
    return Probe(subject, Verdict.OK, f"{root}, mode {mode:04o}")


def _tried(root: Path) -> Iterator[Probe]:
    """In a directory of its own, which is removed: beside the states, or where they will be."""
    place = existing(root)
    try:
        tried = probe_folder(place)
    except OSError as error:
        raise StateError(
            f"nothing can be written in {place}: {error.strerror}",
            hint="make it writable, or choose another `path` in backend_spec",
        ) from error
    try:
        yield _saved(tried)
        yield _locked(tried)
    except OSError as error:
        fix = "look after the disk, or choose another `path` in backend_spec"
        yield Probe("writing", Verdict.PROBLEM, f"what a save does failed in {place}: {error.strerror}", fix)
    finally:
        shutil.rmtree(tried, ignore_errors=True)


def _saved(folder: Path) -> Probe:
    """What a save does: create, write, sync, rename, sync the directory."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        fd = os.open("new", how, 0o600, dir_fd=directory)
        try:
            os.write(fd, b"state")
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.close(os.open("new", how, 0o600, dir_fd=directory))
        except FileExistsError:
            pass
        else:
            raise OSError(errno.EIO, "a file could be created twice")
        os.rename("new", "kept", src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    finally:
        os.close(directory)
    if (folder / "kept").read_bytes() != b"state":
        raise OSError(errno.EIO, "what was written does not come back")
    return Probe("writing", Verdict.OK, "create, write, fsync, rename and fsync of the directory work")


def _locked(folder: Path) -> Probe:
    """Whether a lock that is held keeps others out: another descriptor, and another process."""
    subject, path = "locks", folder / "lock"
    path.touch()
    with path.open() as held, path.open() as other:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            command = [sys.executable, "-I", "-S", "-c", _TRY_TO_LOCK, str(path)]
            child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_CHILD_S)  # noqa: S603 -- our own interpreter and text
            if child.stdout.strip() == "refused":
                return Probe(subject, Verdict.OK, "flock keeps another process out")
    fix = "choose a `path` in backend_spec on a local disk, or another backend"
    return Probe(subject, Verdict.PROBLEM, "flock does not keep others out, so two runs may both believe they won", fix)
