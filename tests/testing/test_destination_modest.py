"""The suite on destinations that cannot do everything: it checks that they refuse what they declare unsupported."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from strandline.connectors.memory.destination import MemoryDestination
from strandline.destination import Capabilities, Delivery, Destination, WriteMode
from strandline.errors import UsageError
from strandline.message import Delete, Present, Replace, Stale, Swap, Truncate
from strandline.testing.data import families
from strandline.testing.destination import DestinationConformance


class Modest:
    """Stores in memory what its capabilities allow, and keeps no states that anyone could see."""

    def __init__(self, name: str, capabilities: Capabilities) -> None:
        self._inner, self.capabilities = MemoryDestination(MemoryDestination.Spec(name=name)), capabilities

    def migrate(self, table, *, mode, fence, apply=True, ownership=None, replaces=None):
        refused = set().union(*(families(one.type) for one in table.schema)) & set(self.capabilities.types_refused)
        if refused:
            raise UsageError(f"{table.name}: {', '.join(refused)}: {self.capabilities.types_refused[refused.pop()]}")
        return self._inner.migrate(table, mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces)

    def write(self, window, *, mode, fence):
        if mode not in self.capabilities.write_modes:
            raise UsageError(f"cannot {mode}")
        stored = self._inner.states.load(window.key.source).get(window.key)
        receipt = self._inner.write(
            Unfenced(window, self._refused(mode), stored), mode=mode, fence=replace(fence, epoch=10**9)
        )
        return replace(receipt, state=None)

    def _refused(self, mode):
        """Messages that fail a window; when appending, deletes are ignored."""
        deletes = (
            (Delete, Truncate, Present, Replace, Stale)
            if not self.capabilities.deletes and mode is not WriteMode.APPEND
            else ()
        )
        return deletes if self.capabilities.replace else (*deletes, Swap)

    def holds(self, table, *, scope):
        return self._inner.holds(table, scope=scope)

    def read(self, table, *, columns=None):
        return self._inner.read(table, columns=columns)

    def close(self) -> None:
        self._inner.close()


class Unfenced:
    def __init__(self, window, refused, stored) -> None:
        self._window, self._refused = window, refused
        self.expected = stored.token if stored else None

    def __getattr__(self, name):
        return getattr(self._window, name)

    def __iter__(self):
        for message in self._window:
            if isinstance(message, self._refused):
                raise UsageError(f"cannot {type(message).__name__}")
            yield message


class ModestConformance(DestinationConformance):
    CAPABILITIES: Capabilities

    @pytest.fixture
    def reopen(self) -> Iterator[Callable[[], Destination]]:
        name = uuid.uuid4().hex
        yield lambda: Modest(name, self.CAPABILITIES)
        MemoryDestination.reset(name)

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()


class TestAppendOnly(ModestConformance):
    CAPABILITIES = Capabilities(
        write_modes=frozenset({WriteMode.APPEND}),
        delivery=Delivery.PLAIN,
        deletes=False,
        replace=False,
        writers_max=1,
        types_refused=dict.fromkeys(["struct", "map", "null", "duration", "uint64"], "there is no such type here"),
    )

    def test_no_other_mode_was_used(self, lineage) -> None:
        assert lineage.mode is WriteMode.APPEND


class TestStateless(ModestConformance):
    CAPABILITIES = Capabilities(write_modes=frozenset(WriteMode), delivery=Delivery.PLAIN, replace=False)


class TestNoDeletes(ModestConformance):
    CAPABILITIES = Capabilities(write_modes=frozenset({WriteMode.OVERWRITE}), delivery=Delivery.PLAIN, deletes=False)
