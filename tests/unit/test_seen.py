"""States that were decoded already."""

from pathlib import Path

from strandline.connectors.local.state import LocalState
from strandline.seen import Seen
from strandline.state import State, StateKey, TableState

KEY = StateKey("shop", "orders", "warehouse")


def local(folder: Path, name: str) -> LocalState:
    return LocalState(LocalState.Spec(path=str(folder / name)))


def state(**changes: object) -> State:
    return State({"kind": "xid", "xmin": "12"}, 1, 1, "run", tables={"orders": TableState("f")}).following(
        run_id="run", epoch=1, **changes
    )


def test_other_content_at_the_same_place_was_not_seen() -> None:
    seen, kept = Seen(), state()
    seen.add("place", b"content", KEY, kept)
    assert seen.at("place", b"content") == (KEY, kept)
    assert seen.at("place", b"another") is None
    assert seen.at("elsewhere", b"content") is None


def test_what_nobody_has_any_more_is_not_kept() -> None:
    seen = Seen()
    seen.add("place", b"content", KEY, state())
    assert seen.at("place", b"content") is None


def test_what_was_damaged_since_it_was_loaded_is_noticed(tmp_path: Path) -> None:
    backend = local(tmp_path, "one")
    backend.save(KEY, state(), expected=None)
    before = backend.load("shop")
    assert before[KEY].untrusted is None
    file = tmp_path / "one" / "shop" / "orders@warehouse.json"
    file.write_bytes(file.read_bytes().replace(b'"12"', b'"13"'))
    assert backend.load("shop")[KEY].untrusted is not None


def test_a_mirror_costs_no_second_copy_of_a_cursor(tmp_path: Path) -> None:
    one, other, kept = local(tmp_path, "one"), local(tmp_path, "other"), state()
    one.save(KEY, kept, expected=None)
    other.save(KEY, kept, expected=None)
    found, mirrored = one.load("shop")[KEY], other.load("shop")[KEY]
    assert found == mirrored == kept
    assert found.cursor is mirrored.cursor
    assert found.token != mirrored.token


def test_states_that_differ_in_anything_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """A nonce is random; whoever edits a state by hand, and its checksum, leaves the nonce as it is."""
    one, other, kept = local(tmp_path, "one"), local(tmp_path, "other"), state(nonce="same")
    edited = state(nonce="same", cursor={"kind": "xid", "xmin": "11"})
    one.save(KEY, kept, expected=None)
    other.save(KEY, edited, expected=None)
    found = one.load("shop")[KEY]
    assert (found.cursor, other.load("shop")[KEY].cursor) == (kept.cursor, edited.cursor)
