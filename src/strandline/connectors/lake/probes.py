"""What the place of a lake has to be able to do."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from strandline.connectors.lake.journal import OWN
from strandline.connectors.lake.store import LocalStore, Store, explained
from strandline.disk import existing, file_system_probe, room_probes
from strandline.errors import UsageError
from strandline.probe import Probe, Verdict

__all__ = ["probe_lake"]


def probe_lake(store: Store) -> Iterator[Probe]:
    """Whether it is there, can be written to, and refuses the second of two who create one name.

    Raises:
        UsageError: nothing can be made there.
    """
    if isinstance(store, LocalStore):
        yield from _local(store.root)
        if not store.root.is_dir():
            return
    with explained(f"{store.where}: cannot be written to"):
        name = f"{OWN}/probe-{secrets.token_hex(8)}"
        try:
            first, second = store.create(name, b"1"), store.create(name, b"2")
        finally:
            store.delete([name])
    if first and not second:
        yield Probe("commits", Verdict.OK, "of two who create one name, one is refused")
    else:
        fix = "use a store that keeps the condition If-None-Match"
        yield Probe("commits", Verdict.PROBLEM, "a name was taken twice, so that runs would overwrite each other", fix)


def _local(root: Path) -> Iterator[Probe]:
    place = existing(root)
    if not place.is_dir():
        raise UsageError(f"{place} is no directory", hint="fix `path`")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{place} is not writable", hint=f"chmod u+wx {place}, or run as its owner")
    there = f"{root}" if root.exists() else f"{root} is not there yet; the first sync makes it"
    yield Probe("directory", Verdict.OK, there)
    fix = "keep the lake on a local disk, or in an object store"
    yield file_system_probe(root, network=Verdict.WARNING, fix=fix, what="what was synced")
    yield from room_probes(root)
