"""A person moves a cursor while something else happens."""

from datetime import UTC, datetime

import pytest
from test_engine import Numbers, backend, destination, job

from strandline.engine.lease import Claim
from strandline.engine.moving import move_cursors
from strandline.engine.run import sync
from strandline.errors import StateConflictError, TaskError
from strandline.state import StateKey

LINEAGE = StateKey("numbers", "a", "d0")


def moved(one, cursor, may=lambda _: True):
    return move_cursors(one, "a", (), lambda _: cursor, may=may, note="set by a test", now=datetime.now(UTC))


@pytest.fixture
def synced(request):
    one = job(Numbers("a"), destination(request.node.nodeid), backend=backend())
    assert sync(one).exit_code == 0
    return one


@pytest.mark.parametrize("wait_s", [0, 5], ids=["at once", "with --wait-lock"])
def test_what_a_run_saves_while_somebody_is_asked_is_not_overwritten(synced, wait_s):
    synced.claim = Claim(wait_s=wait_s)

    def may(_):
        synced.source.count = 9
        assert sync(synced).exit_code == 0
        return True

    with pytest.raises(StateConflictError):
        moved(synced, {"next": 2}, may)
    assert synced.backend.load("numbers")[LINEAGE].cursor == {"next": 9}


def test_a_cursor_that_json_would_change_is_not_saved(synced):
    with pytest.raises(TaskError, match="JSON"):
        moved(synced, {"next": (1, 2)})
    assert synced.backend.load("numbers")[LINEAGE].cursor == {"next": 6}


def test_the_destination_and_the_backend_have_the_same_cursor_after_it(synced):
    (move,) = moved(synced, {"next": 2})
    assert move.before.cursor == {"next": 6}
    stores = [synced.backend, synced.into[0].destination.states]
    assert [store.load("numbers")[LINEAGE].cursor for store in stores] == [{"next": 2}] * 2
    assert len({store.load("numbers")[LINEAGE].nonce for store in stores}) == 1
