"""What the directory of the destination ``files`` has to be able to do."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from strandline.disk import existing, file_system_probe, probe_folder, room_probes
from strandline.errors import UsageError
from strandline.probe import Probe, Verdict

__all__ = ["probe_root"]


def probe_root(root: Path, *, allow_network: bool) -> Iterator[Probe]:
    """The directory, or the nearest one above it that is there.

    Raises:
        UsageError: nothing can be made there.
    """
    place = existing(root)
    if not place.is_dir():
        raise UsageError(f"{place} is no directory", hint="fix `path`")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{place} is not writable", hint=f"chmod u+wx {place}, or run as its owner")
    yield Probe(
        "directory", Verdict.OK, f"{root}" if root.exists() else f"{root} is not there yet; the first sync makes it"
    )
    network = Verdict.WARNING if allow_network else Verdict.PROBLEM
    fix = "keep the files on a local disk; or set `allow_network: true`, and let one machine alone write to them"
    yield file_system_probe(root, network=network, fix=fix, what="what was synced")
    yield _commits(place)
    yield from room_probes(root)


def _commits(place: Path) -> Probe:
    """Whether a name can be taken once only, and a lock be held: what a commit is made of."""
    folder = probe_folder(place)
    try:
        one, other = folder / "one", folder / "other"
        one.write_bytes(b"")
        other.hardlink_to(one)
        with one.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fsync(file.fileno())
        try:
            other.hardlink_to(one)
        except FileExistsError:
            return Probe("commits", Verdict.OK, "names are taken once, files are locked and made durable")
        return Probe("commits", Verdict.PROBLEM, "a name was taken twice", "choose a `path` on another file system")
    except OSError as error:
        found = f"a commit cannot be made: {error.strerror}"
        return Probe("commits", Verdict.PROBLEM, found, "choose a `path` on another file system")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
