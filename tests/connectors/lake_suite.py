"""What the suites of a lake share, whatever the format of its tables."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import ClassVar

import pytest
from raw_states import RawFile

from strandline.destination import Destination
from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.destination import DestinationConformance
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_raw import Raw


class LakeConformance(DestinationConformance):
    plugin: ClassVar[str]

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Destination]:
        cls = load_plugin("destination", self.plugin)
        return lambda: cls(cls.Spec(path=str(tmp_path / "lake")))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()


class LakeStateConformance(StateBackendConformance):
    """The states in the log of the lake are a backend like any other."""

    plugin: ClassVar[str]
    log: ClassVar[str]
    """The folder of the log, below the lake."""

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], StateBackend]]:
        cls = load_plugin("destination", self.plugin)
        with ExitStack() as opened:
            yield lambda: opened.enter_context(closing(cls(cls.Spec(path=str(tmp_path / "lake"))))).states

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        backend = reopen()
        yield backend
        backend.close()

    @pytest.fixture
    def entry(self, tmp_path: Path) -> Callable[[StateKey], Path]:
        """The file that has the newest state of a lineage."""

        def entry(key: StateKey) -> Path:
            for path in sorted((tmp_path / "lake" / self.log).glob("*.json"), reverse=True):
                lineages = [one[:3] for one in json.loads(path.read_text())["head"]["states"]]
                if [key.source, key.task, key.destination] in lineages:
                    return path
            pytest.fail(f"no entry has a state of {key}")

        return entry

    @pytest.fixture
    def raw(self, entry: Callable[[StateKey], Path]) -> Raw:
        return RawFile(entry)

    @pytest.fixture
    def damage(self, entry: Callable[[StateKey], Path]) -> Callable[[StateKey], None]:
        """Of the state alone: where the rest of an entry is damaged, nothing is known of any lineage."""

        def damage(key: StateKey) -> None:
            path = entry(key)
            whole = json.loads(path.read_text())
            path.write_text(json.dumps({**whole, "texts": [text[:-9] for text in whole["texts"]]}))

        return damage
