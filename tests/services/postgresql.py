"""PostgreSQL servers for tests: each with a data directory of its own, on a free port of loopback, and gone afterwards.

As root, the server runs as the user ``postgres``, since it refuses to run as root. What a test kills, it started.
"""

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import psycopg

__all__ = ["PostgreSQLServer", "as_user", "free_port", "programs", "run"]

START_S = 60
_STRATEGIES = 150_000
"""The version from which on a database can be made in two ways."""
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
max_prepared_transactions = 10
shared_buffers = 64MB
max_wal_size = 256MB
wal_level = logical
hot_standby = on
max_wal_senders = 4
log_min_messages = fatal
"""
# What a power cut would lose is no concern of a test that kills processes, and syncing makes each test slow.
_FAST = "fsync = off\nfull_page_writes = off\n"
_MEMORY, _MEMORY_BYTES_MIN = Path("/dev/shm"), 4 << 30
_originals: list[Path] = []
"""Data directories of which a copy makes a new server in a moment. Of each there is one server at a time, since they are
one to who asks for their identity."""


@cache
def programs() -> Path | None:
    """The directory of ``initdb`` and ``postgres``, the newest one; none where there is no server."""
    for folder in sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: float(one.parent.name), reverse=True
    ):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def free_port() -> int:
    """Of loopback; somebody else may take it meanwhile."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def as_user() -> dict[str, object]:
    """How a process is started that refuses to run as root."""
    if os.geteuid():
        return {}
    name = pwd.getpwnam("postgres")
    return {"user": name.pw_uid, "group": name.pw_gid, "extra_groups": []}


class PostgreSQLServer:
    """One server. ``start`` and ``stop`` as often as wanted; ``remove`` at the end."""

    def __init__(self, settings: str = "", *, durable: bool = False) -> None:
        self._root = _folder(durable=durable)
        self._data = self._root / "data"
        self._original: Path | None = None
        self._settings = _SETTINGS + ("" if durable else _FAST) + settings
        self._fast = not durable
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    # life ------------------------------------------------------------------------------------------------------------

    def create(self) -> "PostgreSQLServer":
        """A new cluster, started."""
        self._original = _originals.pop() if _originals else _new_original()
        subprocess.run(["cp", "-Rp", self._original, self._data], check=True)
        self.start().execute("SELECT 1", "template1")  # leaves files that make the first look into a copy of it cheaper
        return self

    def start(self) -> "PostgreSQLServer":
        """Start it on the port it had, or on a free one."""
        self.port = self.port or free_port()
        (self._data / "postgresql.auto.conf").write_text(f"port = {self.port}\n{self._settings}")
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [programs() / "postgres", "-D", self._data], stdout=log, stderr=log, cwd="/", **as_user()
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError), self.connect():
                return self
            time.sleep(0.02)
        raise AssertionError(f"PostgreSQL did not start: {(self._root / 'log').read_text()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is a fast shutdown; SIGKILL is a crash of the whole server."""
        if self._process is None:
            return
        children = self._children()
        self._process.send_signal(how)
        self._process.wait(START_S)
        if how == signal.SIGKILL:
            # Orphans of a killed postmaster end by themselves, soon; a restart needs them gone.
            deadline = time.monotonic() + START_S
            while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
                time.sleep(0.02)
            (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    def crash(self) -> None:
        """As after a power cut of the machine that keeps what was written."""
        self.stop(signal.SIGKILL)

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._root, ignore_errors=True)
        if self._original is not None:
            _originals.append(self._original)
            self._original = None

    def standby(self) -> "PostgreSQLServer":
        """A new server that follows this one."""
        other = PostgreSQLServer(self._settings)
        run("pg_basebackup", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-D", other._data, "-R", "-X", "stream", "-c", "fast")  # fmt: skip
        # -R wrote it into the file that `start` writes.
        other._settings += f"primary_conninfo = 'host=127.0.0.1 port={self.port} user=postgres'\n"
        return other.start()

    # use -------------------------------------------------------------------------------------------------------------

    def uri(self, database: str = "postgres") -> str:
        """A connection string."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", *, autocommit: bool = True) -> "psycopg.Connection":
        """A connection; in autocommit unless told otherwise."""
        return psycopg.connect(self.uri(database), autocommit=autocommit, connect_timeout=5)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple]:
        """One statement; its rows, if it has any."""
        with self.connect(database) as connection, connection.execute(sql) as cursor:
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> str:
        """A new, empty database; its connection string."""
        with self.connect() as connection:
            # without syncing, copying files takes less than logging each page
            way = "STRATEGY file_copy" if self._fast and connection.info.server_version >= _STRATEGIES else ""
            connection.execute(f'CREATE DATABASE "{name}" {way}')
        return self.uri(name)

    def _children(self) -> list[int]:
        assert self._process is not None
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
            return [int(one) for one in text.split()]
        return []


def _folder(*, durable: bool = False) -> Path:
    """A new one, which the server may write: in memory if there is room, since a database is hundreds of files."""
    roomy = not durable and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES_MIN
    folder = Path(tempfile.mkdtemp(prefix="strandline-pg-", dir=_MEMORY if roomy else None))
    if not os.geteuid():
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def _new_original() -> Path:
    folder = _folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    run("initdb", "-D", folder, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    return folder


def run(program: str, *arguments: object) -> None:
    """One of PostgreSQL's programs, to its end."""
    done = subprocess.run(
        [str(programs() / program), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        **as_user(),
    )
    assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
