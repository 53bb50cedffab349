"""Small files joined, and files that nothing names removed."""

from datetime import timedelta
from typing import cast

from strandline.connectors.delta.delta_table import DeltaTable
from strandline.connectors.lake.lake import DELIVERED, KEYS, Lake
from strandline.connectors.lake.log import Log
from strandline.errors import TaskError
from strandline.optimize import Optimized

__all__ = ["optimize"]


def optimize(lake: Lake, name: str, keep: timedelta) -> Optimized:
    """See ``strandline.optimize.Optimizable``."""
    with lake.alone([name]):
        record = lake.journal.look().tables.get(name)
        if record is None or not lake.is_intact(name, record):
            raise TaskError(f"there is no table {name!r} in {lake.where} any more", hint="sync it again")
        opened = lake.opened(name, record)
        opened.check_writable()
        before = len(opened.found.files)
        delta = cast("DeltaTable", opened.stored)
        delta.compact()
        removed = delta.vacuum(keep)
        found = delta.snapshot()
    return Optimized(before, len(found.files) if found is not None else 0, removed + _swept(lake, keep))


def _swept(lake: Lake, keep: timedelta) -> int:
    """Remove the files beside the log that no entry names; how many."""
    old = [
        *lake.store.older(KEYS, keep),
        *lake.store.older(DELIVERED, keep),
    ]  # before the log: what is new is in neither
    gone = sorted(set(old) - _named(lake.journal.look()))
    lake.store.delete(gone)
    return len(gone)


def _named(log: Log) -> set[str]:
    intents = {record.intent.gone for record in log.tables.values()}
    return intents.union(*log.delivered.values())
