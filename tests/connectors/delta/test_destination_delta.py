import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from raw_states import RawFile

from strandline.destination import Destination
from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.destination import DestinationConformance
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_raw import Raw


class TestDelta(DestinationConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Destination]:
        cls = load_plugin("destination", "delta")
        return lambda: cls(cls.Spec(path=str(tmp_path / "lake")))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()


class TestDeltaState(StateBackendConformance):
    """The states in the log of the lake are a backend like any other."""

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], StateBackend]]:
        cls = load_plugin("destination", "delta")
        with ExitStack() as opened:
            yield lambda: opened.enter_context(closing(cls(cls.Spec(path=str(tmp_path / "lake"))))).states

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        backend = reopen()
        yield backend
        backend.close()

    @staticmethod
    def entry(root: Path, key: StateKey) -> Path:
        for path in sorted((root / "lake" / "_strandline" / "log").glob("*.json"), reverse=True):
            if [key.source, key.task, key.destination] in [
                one[:3] for one in json.loads(path.read_text())["head"]["states"]
            ]:
                return path
        pytest.fail(f"no entry has a state of {key}")

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Raw:
        return RawFile(lambda key: self.entry(tmp_path, key))

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Callable[[StateKey], None]:
        """Of the state alone: where the rest of an entry is damaged, nothing is known of any lineage."""

        def damage(key: StateKey) -> None:
            path = self.entry(tmp_path, key)
            whole = json.loads(path.read_text())
            path.write_text(json.dumps({**whole, "texts": [text[:-9] for text in whole["texts"]]}))

        return damage
