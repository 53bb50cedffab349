"""The nursery of the shipped campaign, with the doubles installed and all drivers imported."""

import sys
from pathlib import Path

import adbc_driver_postgresql.dbapi  # noqa: F401 -- only so that a child need not
import pgpq  # noqa: F401 -- likewise

from strandline import parted, state_format
from strandline.connectors.files import store as files_store
from strandline.connectors.local import state as local_state
from strandline.testing.campaign.nursery import serve

LOCK_WAIT_S = 5.0

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "doubles"))
    # a suspended run may hold these locks, and several saves in a row would wait for it
    local_state.LOCK_WAIT_S = files_store.LOCK_WAIT_S = LOCK_WAIT_S
    # so that the cursor of a few files has parts, which go with the second commit after
    parted.TAIL_BYTES = state_format.HISTORY_BYTES_MAX = 0
    serve()
