from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from raw_states import RawFile

from strandline.paths import encode_part
from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_parts import PartsCases, PutPart
from strandline.testing.state_raw import Raw


def folder(root: Path, key: StateKey) -> Path:
    return root / "state" / key.source / ".parts" / f"{key.task}@{key.destination}"


class TestLocalState(StateBackendConformance, PartsCases):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], StateBackend]:
        cls = load_plugin("state_backend", "local")
        return lambda: cls(cls.Spec(path=str(tmp_path / "state")))

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        backend = reopen()
        yield backend
        backend.close()

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Raw:
        return RawFile(lambda key: tmp_path / "state" / encode_part(key.source) / f"{key.task}@{key.destination}.json")

    @pytest.fixture
    def parts(self, tmp_path: Path) -> Callable[[StateKey], set[str]]:
        return lambda key: {path.name for path in folder(tmp_path, key).glob("*")}

    @pytest.fixture
    def put_part(self, tmp_path: Path) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            path = folder(tmp_path, key) / name
            path.unlink() if text is None else path.write_text(text)

        return put
