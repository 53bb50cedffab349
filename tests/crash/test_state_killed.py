"""Kill the writer of states in files at every call that changes anything, and read what is left."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from strandline.plugins import load_plugin
from strandline.testing.state_backend import KEY, example_state

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed: no kill points were tried"),
]

CALLS = [
    *(("local", call) for call in ("mkdir,mkdirat", "openat", "flock", "write", "fsync", "close")),
    *(("local", call) for call in ("rename,renameat,renameat2", "unlink,unlinkat")),
    *(("local/parts", call) for call in ("rename,renameat,renameat2", "unlink,unlinkat")),
    *(("sqlite", call) for call in ("openat", "pwrite64", "fsync,fdatasync", "unlink,unlinkat")),
]

# Imports once, then forks a writer for each line. A writer waits for one byte, so that strace can attach to it.
NURSERY = """
import ctypes, os, sys
from strandline import parted, state_format
from strandline.plugins import load_plugin
from strandline.state import State, StateKey

PR_SET_PTRACER, ANYBODY = 0x59616D61, -1
key = StateKey("shop", "orders", "warehouse")
plugins = {name: load_plugin("state_backend", name) for name in ("local", "sqlite")}
while line := os.read(0, 4096).decode().rstrip("\\n"):
    name, path = line.split(" ", 1)
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY)
        os.write(1, f"{os.getpid()}\\n".encode())
        os.read(0, 1)
        name, _, parts = name.partition("/")
        backend, token = plugins[name](plugins[name].Spec(path=path)), None
        if parts:
            parted.TAIL_BYTES = state_format.HISTORY_BYTES_MAX = 0  # each commit has a part, and the third one removes one
        for number in (1, 2, 3) if parts else (1, 2):
            cursor = {"n": parted.Parted.of({"n": number}) if parts else number}
            token = backend.save(key, State(cursor, 1, number, "run"), expected=token)
            os.write(1, b"saved\\n")
        os._exit(0)
    os.write(1, f"ended {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\\n".encode())
"""


@pytest.fixture
def nursery():
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        yield process
        process.stdin.close()
        assert process.wait(60) == 0


def write_and_be_killed(nursery: subprocess.Popen, name: str, path: Path, call: str, nth: int) -> tuple[int, bool]:
    """How many saves the writer reported, and whether it was killed."""
    nursery.stdin.write(f"{name} {path}\n".encode())
    pid = nursery.stdout.readline().decode().strip()
    command = ["strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}"]
    with subprocess.Popen([*command, "-p", pid], stderr=subprocess.PIPE, text=True) as strace:
        said = strace.stderr.readline()
        nursery.stdin.write(b"!")
        lines = [nursery.stdout.readline()]
        while lines[-1] and not lines[-1].startswith(b"ended"):
            lines.append(nursery.stdout.readline())
        strace.communicate(timeout=60)
    if "attached" not in said:
        pytest.skip(f"strace cannot attach here: {said}")
    assert lines[-1] in {b"ended 0\n", b"ended -9\n"}
    return len(lines) - 1, lines[-1] == b"ended -9\n"


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_a_writer_killed_at_any_call_leaves_the_old_or_the_new_state(nursery, tmp_path, name, call):
    plugin, _, parts = name.partition("/")
    nth, killed, cls, keeps = 0, True, load_plugin("state_backend", plugin), 2 if parts else 20
    while killed:
        nth += 1
        root = tmp_path / str(nth)
        saved, killed = write_and_be_killed(nursery, name, root, call, nth)
        backend = cls(cls.Spec(path=str(root)))
        history = backend.history(KEY)
        assert [state.sequence for state in history] in [[*range(last, 0, -1)][:keeps] for last in (saved, saved + 1)]
        assert [state.cursor["n"] for state in history] == [
            {"n": one.sequence} if parts else one.sequence for one in history
        ]
        assert backend.load("shop") == ({KEY: history[0]} if history else {})
        backend.close()
        following = example_state(9)
        backend.save(KEY, following, expected=history[0].token if history else None)
        assert backend.history(KEY) == [following, *history]
        backend.close()
        left = sorted(path.name for path in (root / "shop").iterdir()) if root.is_dir() else []
        assert not left or [one for one in left if one != ".parts"] == [".lock", "orders@warehouse.json"]
        stored = [path.name for path in root.glob("shop/.parts/*/*")]
        assert len(stored) == (len(history) if parts else 0), (
            "a part of every version, and nothing that a dead writer left"
        )
    assert saved == (3 if parts else 2)
    assert nth > 2 or call.startswith("unlink")
