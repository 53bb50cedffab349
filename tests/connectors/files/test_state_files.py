"""Local states on a disk that fails, beside files that are not theirs, and under other processes."""

import errno
import fcntl
import itertools
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from strandline import disk
from strandline.connectors.local import state as local_state
from strandline.connectors.local.state import LocalState
from strandline.errors import LockedError, StateConflictError, StateError, UsageError
from strandline.testing.state_backend import KEY, example_state

FILE = Path("shop/orders@warehouse.json")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def backend(root):
    return LocalState(LocalState.Spec(path=str(root)))


@pytest.fixture
def saved(backend):
    """Two commits; the states, the newest first, and the token."""
    first, second = example_state(1, note="\u00e9"), example_state(2)
    token = backend.save(KEY, second, expected=backend.save(KEY, first, expected=None))
    return [second, first], token


def loaded(backend):
    """What is loaded, if all of it can be trusted."""
    found = backend.load("shop")
    for state in found.values():
        if state.untrusted is not None:
            raise state.untrusted
    return found


def assert_refused(backend, text=None):
    """Nothing takes what is there for a state, or for none, or writes over it."""
    for attempt in (
        lambda: loaded(backend),
        lambda: backend.history(KEY),
        lambda: backend.save(KEY, example_state(9), expected=None),
        lambda: backend.save(KEY, example_state(9), expected="0" * 32),
    ):
        with pytest.raises(StateError, match=text) as caught:
            attempt()
        assert caught.value.hint


def error_of(call, *args, **kwargs):
    """The error that said it did not work, or none where it did."""
    try:
        call(*args, **kwargs)
    except StateError as error:
        return error
    return None


# Damage


def test_every_truncation_is_noticed(backend, root, saved):
    content = (root / FILE).read_bytes()
    assert content.endswith(b"}\n")
    for length in range(len(content) - 1):  # the last newline says nothing
        (root / FILE).write_bytes(content[:length])
        with pytest.raises(StateError, match=r"orders@warehouse\.json"):
            loaded(backend)
    assert_refused(backend)


@pytest.mark.parametrize("bit", [0x01, 0x10, 0x20, 0x80])
def test_every_flipped_bit_is_noticed(backend, root, saved, bit):
    states, token = saved
    content = (root / FILE).read_bytes()
    harmless = 0
    for place in range(len(content)):
        (root / FILE).write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        try:
            found = backend.history(KEY)
        except StateError:
            continue
        harmless += 1  # the case of a digit of an escape
        assert found == states
        assert found[0].token == token
    assert harmless <= 4


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 700, b"\n", b"null", b"[]", b"{}", b'{"states": []}', b"\xff\xfe{}", b"[" * 9999]
)
def test_what_is_no_state_is_not_empty(backend, root, saved, content):
    (root / FILE).write_bytes(content)
    assert_refused(backend, "not a Strandline state")


def test_a_state_file_of_cloudquery_is_not_taken_for_ours(backend, root, saved):
    (root / "shop/shop-orders.json").write_text('{\n  "hackernews": "34349000"\n}')
    with pytest.raises(StateError, match=r"shop-orders\.json: not a Strandline state"):
        backend.load("shop")


@pytest.mark.parametrize("version", [0, 3, 99, None])
def test_another_format_is_refused(backend, root, saved, version):
    body = json.loads((root / FILE).read_text())
    if version is None:
        del body["states"][0]["format_version"]
    else:
        body["states"][0]["format_version"] = version
    (root / FILE).write_text(json.dumps(body))
    assert_refused(backend, {0: "unknown", None: "not a Strandline state"}.get(version, "newer Strandline"))


def test_a_mixed_history_is_damage(backend, root, saved):
    body = json.loads((root / FILE).read_text())
    for states in (body["states"][::-1], body["states"][:1], body["states"] * 2, body["states"][1:]):
        (root / FILE).write_text(json.dumps(body | {"states": states}))
        assert_refused(backend, "damaged")


def test_a_token_of_another_save_is_damage(backend, root, saved):
    body = json.loads((root / FILE).read_text())
    (root / FILE).write_text(json.dumps(body | {"token": "0" * 32}))
    assert_refused(backend, "damaged")


@pytest.mark.parametrize(
    "key", [replace(KEY, source="crm"), replace(KEY, task="items"), replace(KEY, destination="lake")]
)
def test_a_state_of_another_lineage_is_refused(backend, root, saved, key):
    backend.save(key, example_state(), expected=None)
    where = root / key.source / f"{key.task}@{key.destination}.json"
    shutil.copy(where, root / FILE)
    assert_refused(backend, f"belongs to {key}")


# Things that are not plain files


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # the whole path may be too long


def make_link(path):
    path.symlink_to("/etc/passwd")


def make_link_to_the_state(path):
    path.symlink_to(path.with_name("moved"))


def make_device(path):
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero never ends


THINGS = [Path.mkdir, make_fifo, make_socket, make_link, make_link_to_the_state]
THINGS += [make_device] * (os.geteuid() == 0)


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.__name__)
def test_what_is_no_plain_file_is_refused_at_once(backend, root, saved, thing, monkeypatch):
    monkeypatch.chdir(root / "shop")
    (root / FILE).rename(root / "shop/moved")
    thing(root / FILE)
    assert_refused(backend)


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.__name__)
def test_whatever_stands_for_the_lock_a_save_neither_hangs_nor_lies(backend, root, saved, thing, monkeypatch):
    monkeypatch.chdir(root / "shop")
    (root / "shop/.lock").rename(root / "shop/moved")
    thing(root / "shop/.lock")
    state = example_state(3)
    error = error_of(backend.save, KEY, state, expected=saved[1])
    assert backend.history(KEY) == (saved[0] if error else [state, *saved[0]])


def test_a_linked_source_is_refused(backend, root, saved, tmp_path):
    (root / "shop").rename(tmp_path / "elsewhere")
    (root / "shop").symlink_to(tmp_path / "elsewhere")
    assert_refused(backend)
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == [".lock", FILE.name]


def test_a_dangling_link_is_not_empty(backend, root, saved):
    shutil.rmtree(root / "shop")
    (root / "shop").symlink_to(root / "nowhere")
    assert_refused(backend)


@pytest.mark.parametrize("place", ["state", "state/shop"])
def test_a_file_in_the_place_of_a_directory_is_not_empty(backend, root, tmp_path, place):
    root.parent.mkdir(exist_ok=True)
    if place == "state/shop":
        root.mkdir()
    (tmp_path / place).touch()
    assert_refused(backend)


def test_the_root_may_be_a_link(root, tmp_path):
    (tmp_path / "volume").mkdir()
    root.symlink_to(tmp_path / "volume")
    linked, direct = (LocalState(LocalState.Spec(path=str(path))) for path in (root, tmp_path / "volume"))
    state = example_state()
    linked.save(KEY, state, expected=None)
    assert direct.load("shop") == {KEY: state}


def test_other_files_are_left_alone(backend, root, saved):
    others = [
        root / "shop" / name for name in (".DS_Store", "._orders@warehouse.json", "orders@warehouse.json.bak", "x.tmp")
    ]
    for path in others:
        path.write_bytes(b"?")
    assert backend.load("shop") == {KEY: saved[0][0]}
    backend.save(KEY, example_state(3), expected=saved[1])
    assert all(path.read_bytes() == b"?" for path in others)


def test_nobody_else_may_read_the_states(backend, root):
    old = os.umask(0)
    try:
        backend.save(KEY, example_state(), expected=None)
    finally:
        os.umask(old)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in modes}
    assert len(modes) == 4


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = LocalState(LocalState.Spec())
    assert not list(tmp_path.iterdir())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    backend.save(KEY, example_state(), expected=None)
    assert (tmp_path / ".cq/state" / FILE).is_file()


def test_reading_creates_nothing(backend, root):
    assert backend.load("shop") == {}
    assert backend.history(KEY) == []
    assert not root.exists()


def test_states_that_were_removed_during_a_run_stop_it(backend, root, saved):
    shutil.rmtree(root)
    with pytest.raises(StateConflictError, match="it is gone"):
        backend.save(KEY, example_state(3), expected=saved[1])
    assert backend.load("shop") == {}


# A disk that fails


@dataclass
class Faults:
    """Counts the calls to the operating system, and fails one of them."""

    fail_at: int = 0
    number: int = errno.EIO
    after: bool = False
    """Whether the call takes effect all the same."""
    calls: list[str] = field(default_factory=list)
    opened: set[int] = field(default_factory=set)
    names: dict[int, str] = field(default_factory=dict)

    NAMES = ("open", "close", "read", "write", "fsync", "fstat", "stat", "mkdir", "rename", "unlink", "listdir")

    def around(self, name, call):
        def faulty(*args, **kwargs):
            self.calls.append(f"{name} {self.names[args[0]]}" if name == "fsync" else name)
            fails = len(self.calls) == self.fail_at
            result = None
            if not fails or self.after or name == "close":  # a descriptor is closed even when close fails
                result = call(*args, **kwargs)
            if name == "close":
                self.opened.discard(args[0])
            if fails and name == "open" and result is not None:
                os.close(result)
            if fails:
                raise OSError(self.number, os.strerror(self.number))
            if name == "open":
                self.opened.add(result)
                self.names[result] = Path(args[0]).suffix or Path(args[0]).name
            return result

        return faulty

    @contextmanager
    def injected(self):
        with pytest.MonkeyPatch.context() as patch:
            for name in self.NAMES:
                patch.setattr(os, name, self.around(name, getattr(os, name)))
            patch.setattr(fcntl, "flock", self.around("flock", fcntl.flock))
            yield


def fault_points(number, *, after):
    for fail_at in itertools.count(1):
        faults = Faults(fail_at, number, after)
        yield faults
        if len(faults.calls) < fail_at:
            assert fail_at > 10
            return


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("after", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("first", [False, True], ids=["update", "create"])
def test_whatever_call_fails_the_old_or_the_new_state_is_there(tmp_path, number, after, first):
    for count, faults in enumerate(fault_points(number, after=after)):
        spec = LocalState.Spec(path=str(tmp_path / str(count)))
        old, new = example_state(1), example_state(2)
        token = None if first else LocalState(spec).save(KEY, old, expected=None)
        before = [] if first else [old]
        with faults.injected():
            error = error_of(LocalState(spec).save, KEY, new, expected=token)
        assert faults.opened == set()
        backend = LocalState(spec)
        found = backend.history(KEY)
        assert found in ([before, [new, *before]] if error else [[new, *before]])
        assert backend.load("shop") == ({KEY: found[0]} if found else {})
        backend.save(KEY, example_state(3), expected=found[0].token if found else None)
        assert sorted(path.name for path in (tmp_path / str(count) / "shop").iterdir()) == [".lock", FILE.name]


def test_whatever_call_fails_nothing_is_read_as_empty(root, saved):
    for faults in fault_points(errno.EIO, after=False):
        backend = LocalState(LocalState.Spec(path=str(root)))
        found = []
        with faults.injected():
            error = error_of(lambda backend=backend, into=found: into.append(loaded(backend)))
        assert found == ([] if error else [{KEY: saved[0][0]}])
        assert faults.opened == set()


def test_the_order_of_calls_makes_a_save_durable(root):
    """The names of new directories, then the file's content, then its name."""
    faults = Faults()
    with faults.injected():
        LocalState(LocalState.Spec(path=str(root))).save(KEY, example_state(), expected=None)
    order = ("mkdir", "write", "fsync", "rename")
    assert [call for call in faults.calls if call.startswith(order)] == [
        *("mkdir", f"fsync {root.parent.name}", "mkdir", "fsync state"),
        *("write", "fsync .tmp", "rename", "fsync shop"),
    ]


def test_a_short_write_goes_on(backend, root, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:7]))
    state = example_state()
    backend.save(KEY, state, expected=None)
    assert backend.load("shop") == {KEY: state}


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "make it writable"),
        (errno.EACCES, "make it writable"),
        (errno.ENAMETOOLONG, "shorter `path`"),
        (errno.EIO, "disk"),
    ],
    ids=lambda value: errno.errorcode.get(value, "-"),
)
def test_what_the_system_refuses_is_explained(backend, root, saved, monkeypatch, number, hint):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StateError, match=f"orders@warehouse.json: .*{os.strerror(number)}") as caught:
        backend.save(KEY, example_state(3), expected=saved[1])
    assert hint in caught.value.hint
    assert backend.history(KEY) == saved[0]
    assert sorted(path.name for path in (root / "shop").iterdir()) == [".lock", FILE.name]


def test_a_path_that_is_too_long_is_explained(tmp_path):
    backend = LocalState(LocalState.Spec(path=str(tmp_path / ("x" * 256))))
    for attempt in (lambda: loaded(backend), lambda: backend.save(KEY, example_state(), expected=None)):
        with pytest.raises(StateError, match="File name too long") as caught:
            attempt()
        assert "shorter" in caught.value.hint


def test_what_a_killed_writer_left_is_removed(backend, root, saved):
    left = [root / "shop" / f".{name}.tmp" for name in ("0" * 32, "1" * 32)]
    left[0].touch()
    left[1].write_bytes((root / FILE).read_bytes()[:100])
    another = LocalState(LocalState.Spec(path=str(root)))
    assert another.load("shop") == {KEY: saved[0][0]}
    another.save(KEY, example_state(3), expected=saved[1])
    assert [path for path in left if path.exists()] == []


# Other processes


def test_a_save_does_not_wait_for_ever(backend, root, saved, monkeypatch):
    monkeypatch.setattr(local_state, "LOCK_WAIT_S", 0)
    with (root / "shop/.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LockedError) as caught:
            backend.save(KEY, example_state(3), expected=saved[1])
        assert "fuser" in caught.value.hint
        assert backend.history(KEY) == saved[0]
    backend.save(KEY, example_state(3), expected=saved[1])


def test_a_child_that_outlives_the_save_does_not_keep_the_lock(backend, saved, monkeypatch):
    """A descriptor that a fork has copied keeps a lock, unless the lock is given back by name."""
    copies = []
    flock = fcntl.flock

    def copying(fd, operation):
        flock(fd, operation)
        copies.append(os.dup(fd))

    monkeypatch.setattr(local_state, "LOCK_WAIT_S", 0)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", copying)
        token = backend.save(KEY, example_state(3), expected=saved[1])
    backend.save(KEY, example_state(4), expected=token)
    for fd in copies:
        os.close(fd)


RACE = """
import sys
from strandline.errors import StateConflictError
from strandline.state import State, StateKey
from strandline.connectors.local.state import LocalState

backend, key = LocalState(LocalState.Spec(path=sys.argv[1])), StateKey("shop", "orders", "warehouse")
won = 0
while won < 15:
    stored = backend.load("shop").get(key)
    number = stored.sequence + 1 if stored else 1
    try:
        backend.save(key, State({}, 1, number, sys.argv[2]), expected=stored.token if stored else None)
    except StateConflictError:
        continue
    won += 1
    print(number)
"""


def test_of_several_processes_each_save_has_one_winner(backend, root):
    command = [sys.executable, "-c", RACE, str(root)]
    racing = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(3)]
    won = [[int(line) for line in process.communicate(timeout=60)[0].split()] for process in racing]
    assert sorted(itertools.chain(*won)) == list(range(1, 46))
    winner = {number: str(process) for process, numbers in enumerate(won) for number in numbers}
    assert {state.sequence: state.run_id for state in backend.history(KEY)} == {n: winner[n] for n in range(26, 46)}


# Network file systems


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Says that the temporary directory is on a file system of this type."""

    def mount(kind):
        lines = [
            "22 27 0:999999 / /proc rw,relatime - nfs proc rw",
            f"23 27 0:42 / {tmp_path} rw shared:1 - {kind} server:/export rw",
        ]
        (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "mountinfo")

    return mount


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs"])
def test_a_network_file_system_is_refused_unless_it_is_allowed(root, mounted, kind):
    mounted(kind)
    backend = LocalState(LocalState.Spec(path=str(root / "deeper")))
    for attempt in (lambda: backend.load("shop"), lambda: backend.save(KEY, example_state(), expected=None)):
        with pytest.raises(UsageError, match=kind) as caught:
            attempt()
        assert "allow_network" in caught.value.hint
    assert not root.exists()
    LocalState(LocalState.Spec(path=str(root), allow_network=True)).save(KEY, example_state(), expected=None)


@pytest.mark.parametrize("kind", ["ext4", "overlay", "tmpfs", "fuse.mergerfs", "fuseblk", "9p"])
def test_a_local_file_system_is_not_refused(backend, mounted, kind):
    mounted(kind)
    backend.save(KEY, example_state(), expected=None)
    assert set(backend.load("shop")) == {KEY}


def test_where_nothing_tells_the_file_system_it_is_trusted(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "missing")
    backend.save(KEY, example_state(), expected=None)
    assert set(backend.load("shop")) == {KEY}
