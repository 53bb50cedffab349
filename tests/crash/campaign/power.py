"""The kind `power`: power cuts of the state directory, on file systems of their own.

A writer saves states on a file system in an image, and says so after each save. At random instants it is suspended, and
the image is copied: what the file system had handed to its disk, and nothing of what it kept in memory. The copy is
mounted, and has to hold a whole state, not older than the last save that was acknowledged.
"""

import filecmp
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from strandline.connectors.local.state import LocalState
from strandline.errors import StateError
from strandline.state import State, StateKey
from strandline.testing.campaign.chains import Case

CUTS = 40
IMAGE_BYTES = {"ext4": 16 << 20, "xfs": 320 << 20}
"""xfs makes none smaller than 300 MiB."""
_MOUNT = {"ext4": "loop", "xfs": "loop,nouuid"}
_KEYS = [StateKey("shop", name, "warehouse") for name in ("t", "f")]

WRITER = """
import sys
from itertools import count
from strandline.state import State, StateKey
from strandline.connectors.local.state import LocalState

backend = LocalState(LocalState.Spec(path=sys.argv[1]))
tokens = {}
for number in count(1):
    for name in ("t", "f"):
        key = StateKey("shop", name, "warehouse")
        state = State({"n": number, "more": "x" * (number * 37 % 3000)}, 1, number, "run")
        tokens[name] = backend.save(key, state, expected=tokens.get(name))
        sys.stdout.write(f"{name} {number}\\n")
        sys.stdout.flush()
"""


@cache
def refused(kind):
    """Why power cuts of such a file system cannot be tried here; nothing where they can."""
    if os.geteuid():
        return "it needs root, to mount"
    if not shutil.which(f"mkfs.{kind}"):
        return f"there is no mkfs.{kind}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _mounted(kind, _image(kind, Path(folder)), Path(folder) / "disk"):
                return ""
        except AssertionError as error:
            return str(error)


def strike(bench, kind):
    """Cut the power again and again; a case each."""
    chance, folder = bench.chance("power", kind), bench.root / f"power-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    image, copy = _image(kind, folder), folder / "copy"
    with _mounted(kind, image, folder / "disk") as disk, ExitStack() as stack:
        command = [sys.executable, "-c", WRITER, str(disk / "state")]
        writer = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(writer.kill)
        os.set_blocking(writer.stdout.fileno(), False)
        acknowledged = {}
        while len(acknowledged) < len(_KEYS):
            _hear(writer, acknowledged)
            time.sleep(0.01)
        for number in range(max(1, round(CUTS * bench.share))):
            time.sleep(chance.random() * 0.05)
            writer.send_signal(signal.SIGSTOP)
            _await_stop(writer.pid)
            _hear(writer, acknowledged)
            _copy(image, copy)
            case = Case(f"local state on {kind}", "power", 0, f"cut {number}", number)
            with _mounted(kind, copy, folder / "after") as after:
                _judge(case, after / "state", acknowledged)
            writer.send_signal(signal.SIGCONT)
            yield case


def _image(kind, folder):
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES[kind])
    _run(f"mkfs.{kind}", "-q", str(image))
    return image


def _judge(case, path, acknowledged):
    """The old state or the new one, and a backend that goes on from there."""
    began_s = time.monotonic()
    backend = LocalState(LocalState.Spec(path=str(path)))
    try:
        states = backend.load("shop")
    except StateError as error:
        case.gaps += len(_KEYS)
        case.problems.append(f"saved {acknowledged}, found {error}")
        return
    for key in _KEYS:
        last, found = acknowledged[key.task], states.get(key)
        if found is None or found.sequence not in {last, last + 1}:
            case.gaps += 1
            case.problems.append(f"{key.task}: saved {last}, found {found and found.sequence}")
            continue
        backend.save(key, State({}, 1, found.sequence + 1, "after"), expected=found.token)
    case.recovery_s = round(time.monotonic() - began_s, 3)


def _hear(writer, acknowledged):
    for line in iter(writer.stdout.readline, ""):
        name, number = line.split()
        acknowledged[name] = int(number)


def _await_stop(pid):
    while _state(pid) != "T":
        time.sleep(0.001)


def _state(pid):
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 -- a file of the kernel, not of ours
        return file.read().rpartition(")")[2].split()[0]


def _copy(image, copy):
    """The image at one instant: until two looks at it are the same."""
    while True:
        shutil.copyfile(image, copy)
        if filecmp.cmp(image, copy, shallow=False):
            return


@contextmanager
def _mounted(kind, image, place):
    place.mkdir(exist_ok=True)
    _run("mount", "-t", kind, "-o", _MOUNT[kind], str(image), str(place))
    try:
        yield place
    finally:
        _run("umount", str(place))


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
