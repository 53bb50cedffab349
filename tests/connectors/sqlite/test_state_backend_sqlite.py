"""The state backend ``sqlite``."""

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError
from raw_states import RawRow

from strandline.errors import LockedError, StateError, UsageError
from strandline.plugins import load_plugin
from strandline.probe import Verdict
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state
from strandline.testing.state_parts import PartsCases, PutPart
from strandline.testing.state_raw import Raw

PLUGIN = load_plugin("state_backend", "sqlite")


def opened(path: Path, **settings) -> StateBackend:
    return PLUGIN(PLUGIN.Spec(path=str(path), **settings))


def executed(path: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


class TestSQLiteBackend(StateBackendConformance, PartsCases):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], StateBackend]:
        return lambda: opened(tmp_path / ".cq" / "state.db")

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        with closing(reopen()) as backend:
            yield backend

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Raw:
        def run(*asked):
            with closing(sqlite3.connect(tmp_path / ".cq" / "state.db", isolation_level=None)) as connection:
                return connection.execute(*asked).fetchall()

        return RawRow(run, "cq_cursors", text="CAST(? AS TEXT)")

    @pytest.fixture
    def parts(self, tmp_path: Path) -> Callable[[StateKey], set[str]]:
        names = "SELECT token FROM cq_cursors_history WHERE number < 0 AND task = '{}'"
        return lambda key: {name for (name,) in executed(tmp_path / ".cq" / "state.db", names.format(key.task))}

    @pytest.fixture
    def put_part(self, tmp_path: Path) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            change = (
                "DELETE FROM cq_cursors_history" if text is None else f"UPDATE cq_cursors_history SET state = '{text}'"
            )
            executed(
                tmp_path / ".cq" / "state.db", f"{change} WHERE number < 0 AND token = '{name}' AND task = '{key.task}'"
            )

        return put


def test_the_file_is_private_and_looking_makes_none(tmp_path):
    path = tmp_path / "deep" / "er" / "state.db"
    with closing(opened(path)) as backend:
        assert dict(backend.load("shop")) == {}
        assert not path.exists()
        backend.save(KEY, example_state(), expected=None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_backends_of_one_file_keep_their_own_states(tmp_path):
    path = tmp_path / "state.db"
    with closing(opened(path)) as one, closing(opened(path, table="others")) as other:
        one.save(KEY, example_state(1), expected=None)
        assert dict(other.load(KEY.source)) == {}
        other.save(KEY, example_state(2), expected=None)
        assert (one.load(KEY.source)[KEY].sequence, other.load(KEY.source)[KEY].sequence) == (1, 2)


@pytest.mark.parametrize("table", ["cq_state", "cq_delivered", "cq_tables"])
def test_what_a_destination_keeps_is_no_backend_s_table(tmp_path, table):
    with pytest.raises(ValidationError, match="choose another name"):
        PLUGIN.Spec(path=str(tmp_path / "state.db"), table=table)


def test_somebody_s_table_of_that_name_is_not_touched(tmp_path):
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE cq_cursors (id INTEGER)")
    with closing(opened(path)) as backend:
        for attempt in (lambda: backend.load("shop"), lambda: backend.save(KEY, example_state(), expected=None)):
            with pytest.raises(UsageError, match="keeps no states"):
                attempt()


def test_a_history_that_is_gone_is_no_empty_one(tmp_path):
    path = tmp_path / "state.db"
    with closing(opened(path)) as backend:
        backend.save(KEY, example_state(), expected=None)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE cq_cursors_history")
    with closing(opened(path)) as backend, pytest.raises(StateError, match="gone"):
        backend.load("shop")


def test_a_file_that_another_process_writes_to_is_waited_for_no_longer_than_said(tmp_path):
    path = tmp_path / "state.db"
    with closing(opened(path, busy_timeout=0.1)) as backend:
        token = backend.save(KEY, example_state(), expected=None)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(LockedError):
                backend.save(KEY, example_state(2), expected=token)
        backend.save(KEY, example_state(2), expected=token)


def test_doctor_says_whether_the_file_is_whole(tmp_path):
    path = tmp_path / "state.db"
    with closing(opened(path)) as backend:
        assert {probe.verdict for probe in backend.probes()} <= {Verdict.OK, Verdict.WARNING}
        token = None
        for number in range(40):
            token = backend.save(KEY, example_state(number), expected=token)
        assert not [probe for probe in backend.probes() if probe.verdict is Verdict.PROBLEM]
    content = bytearray(path.read_bytes())
    for at in range(8192, len(content) - 100, 4096):
        content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    with closing(opened(path)) as backend:
        try:
            found = [probe.verdict for probe in backend.probes()]
        except StateError:
            found = [Verdict.PROBLEM]
    assert Verdict.PROBLEM in found
