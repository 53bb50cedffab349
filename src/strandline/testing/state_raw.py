"""Cases: bits that flip, and ends that are missing, in what a store keeps of a state."""

import random
import re
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import ClassVar, Protocol, TypeAlias

import pytest

from strandline.errors import StateError
from strandline.state import Pass, Phase, State, StateBackend, StateKey, TableState
from strandline.testing.state_given_up import KEY, Reopen, example_state

__all__ = ["Fields", "Raw", "RawCases"]

Fields: TypeAlias = Mapping[str, bytes]
"""What a store has of one state, by the name that the store gives it: a file's content, a row's columns."""
Damage: TypeAlias = Callable[[bytes, int, int], tuple[str, bytes]]
"""The content of a field, which damage of how many: what it is, and the content afterwards."""


class Raw(Protocol):
    """A store behind the backend's back, as a disk or a careless hand changes it."""

    def read(self, key: StateKey) -> Fields:
        """What is stored as the newest state of a lineage: all that the backend reads there, but the names it is found by."""

    def write(self, key: StateKey, fields: Fields) -> bool:
        """Put these in its place; ``False``: the store takes no such content, and nothing has changed."""


def _flip(content: bytes, number: int, count: int) -> tuple[str, bytes]:
    """One bit of a word, or of what is between two words: the damages are spread evenly over them."""
    words = [one.span() for one in re.finditer(rb"\w+|\W+", content)]
    places = [(8 * begin, 8 * end) for begin, end in words]
    if count >= 8 * len(content):
        places = [(bit, bit + 1) for bit in range(8 * len(content))]
    least, most = (
        number * len(places) // count,
        max(number * len(places) // count + 1, (number + 1) * len(places) // count),
    )
    bit = random.randrange(*random.choice(places[least:most]))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return f"bit {bit % 8} of byte {bit // 8} flipped", bytes(changed)


def _cut(content: bytes, number: int, count: int) -> tuple[str, bytes]:
    """The first is empty, and the last lacks one byte."""
    length = number * (len(content) - 1) // max(1, count - 1)
    return f"cut after {length} bytes", content[:length]


class RawCases:
    """Part of ``StateBackendConformance``."""

    DAMAGES: ClassVar[int] = 15
    """How many bits are flipped in a state, others each time, by the seed of the tests. 0: each one."""

    @pytest.fixture
    def raw(self) -> Raw:
        """See ``Raw``."""
        raise NotImplementedError

    @pytest.fixture
    def damage(self, raw: Raw) -> Callable[[StateKey], None]:
        """Cuts off the end of the stored state of a key."""

        def damage(key: StateKey) -> None:
            fields = raw.read(key)
            name = max(fields, key=lambda one: len(fields[one]))
            assert raw.write(key, {**fields, name: fields[name][:-9]})

        return damage

    def test_a_bit_that_flips_is_noticed(self, backend: StateBackend, reopen: Reopen, raw: Raw) -> None:
        """Such a state cannot be trusted: it is never another cursor, nor none; who gives it up can save over it."""
        _judge_all(backend, reopen, raw, _flip, self.DAMAGES, each=8)

    def test_an_end_that_is_missing_is_noticed(self, backend: StateBackend, reopen: Reopen, raw: Raw) -> None:
        """As a torn write leaves it."""
        _judge_all(backend, reopen, raw, _cut, self.DAMAGES // 3, each=1)

    def test_what_was_loaded_once_is_looked_at_again(self, backend: StateBackend, reopen: Reopen) -> None:
        """A backend may remember what it has decoded, and never takes it for what is stored now."""
        saved = _saved()
        token = backend.save(KEY, saved, expected=None)
        before = backend.load(KEY.source)
        assert (before, before[KEY].token) == ({KEY: saved}, token)
        following = saved.following(run_id="another", epoch=4, cursor={"n": 1})
        with closing(reopen()) as other:
            token = other.save(KEY, following, expected=token)
        after = backend.load(KEY.source)
        assert (after, after[KEY].token) == ({KEY: following}, token)


def _judge_all(backend: StateBackend, reopen: Reopen, raw: Raw, damage: Damage, count: int, *, each: int) -> None:
    """Each damage is done to a source of its own, as a longer field has more of them."""
    saved, tried, noticed = _saved(), 0, 0
    backend.save(KEY, saved, expected=None)
    sizes = {name: len(content) for name, content in raw.read(KEY).items()}
    for name, size in sizes.items():
        share = max(2, count * size // max(sizes.values())) if count else each * size
        for number in range(share):
            key = replace(KEY, source=f"shop {name} {number:06}")
            backend.save(key, saved, expected=None)
            fields = raw.read(key)
            what, content = damage(fields[name], number, share)
            if raw.write(key, {**fields, name: content}):
                tried += 1
                with closing(reopen()) as other:
                    told = _is_told(other, key, saved, f"{name}, {what}")
                noticed += told is not False
                if told is None:
                    raw.write(key, fields)
    assert noticed > tried // 2, "what is written behind the backend's back is not what it reads"


def _saved() -> State:
    """With every field."""
    current = Pass(1_709_251_199_000_001, full=True, phase=Phase.READING, completed=("orders",), windows=3)
    tables = {"orders": TableState("0123456789abcdef", "mark", 5, ("f0",), {"filter": "x > 0"}, stored="orders")}
    cursor = {"updated_at": "2024-02-29T23:59:59Z", "id": 41, "open": [1.5, None, True]}
    more = {"current": current, "tables": tables, "note": "by m\u00fcller", "saved_at": "2024-02-29T23:59:59+00:00"}
    return example_state(41, epoch=3, cursor=cursor, **more)


def _is_told(backend: StateBackend, key: StateKey, saved: State, what: str) -> bool | None:
    """Whether the damage is noticed; else the state is the same still, as where its token alone was hit.

    ``None``: nothing can be told of any state.
    """
    try:
        found = backend.load(key.source)
    except StateError as error:
        assert (error.exit_code, bool(error.hint)) == (3, True), what  # noqa: PT017 -- it may be raised
        return None
    assert found.keys() == {key}, what
    with suppress(StateError):  # of a file with its history in it
        assert all(commit == saved or commit.untrusted is not None for commit in backend.history(key)), what
    state = found[key]
    if state.untrusted is None:
        assert state == saved, what
    else:
        assert (state.cursor, state.tables, state.untrusted.exit_code, bool(state.untrusted.hint)) == (
            None,
            {},
            3,
            True,
        ), what
    following = state.following(run_id="run", epoch=4, cursor={"n": 1})
    token = backend.save(key, following, expected=state.token)
    assert backend.load(key.source) == {key: following}, what
    assert backend.history(key)[0] == following, what
    assert token != state.token, what
    return state.untrusted is not None
