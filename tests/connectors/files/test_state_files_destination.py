"""The states that the destination files keeps in its commit log."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from raw_states import RawFile

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_parts import PartsCases, PutPart
from strandline.testing.state_raw import Raw


def folder(root: Path, key: StateKey) -> Path:
    return root / "lake" / ".strandline" / "parts" / key.source / f"{key.task}@{key.destination}"


class TestFilesState(StateBackendConformance, PartsCases):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], StateBackend]]:
        cls = load_plugin("destination", "files")
        with ExitStack() as opened:
            yield lambda: opened.enter_context(closing(cls(cls.Spec(path=str(tmp_path / "lake"))))).states

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        backend = reopen()
        yield backend
        backend.close()

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Raw:
        def entry(key: StateKey) -> Path:
            for path in sorted((tmp_path / "lake" / ".strandline" / "log").glob("*.commit"), reverse=True):
                head = json.loads(path.read_text().splitlines()[0])
                if [key.source, key.task, key.destination] in [one[:3] for one in head["states"]]:
                    return path
            pytest.fail(f"no entry has a state of {key}")

        return RawFile(entry)

    @pytest.fixture
    def parts(self, tmp_path: Path) -> Callable[[StateKey], set[str]]:
        return lambda key: {path.name for path in folder(tmp_path, key).glob("*")}

    @pytest.fixture
    def put_part(self, tmp_path: Path) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            path = folder(tmp_path, key) / name
            path.unlink() if text is None else path.write_text(text)

        return put
