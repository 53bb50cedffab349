"""PgBouncer in front of a server of a test, on a free port of loopback, and gone afterwards."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Self

import psycopg

from services.postgresql import PostgreSQLServer, as_user, free_port

__all__ = ["PgBouncer", "program"]

_START_S = 30


@cache
def program() -> str | None:
    """Where PgBouncer is; none where it is not installed."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """Clients share ``size`` sessions of the server, each for one transaction at a time, or as ``mode`` says."""

    def __init__(
        self, server: PostgreSQLServer, *, mode: str = "transaction", size: int = 4, settings: str = ""
    ) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="strandline-pgbouncer-"))
        if not os.geteuid():
            user = pwd.getpwnam("postgres")
            os.chown(self._root, user.pw_uid, user.pw_gid)
        self.port = free_port()
        (self._root / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = {size}\n{settings}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program(), self._root / "ini"], stdout=log, stderr=log, cwd="/", **as_user()
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            time.sleep(0.02)
        raise AssertionError(f"PgBouncer did not start: {(self._root / 'log').read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_START_S)
        shutil.rmtree(self._root, ignore_errors=True)

    def uri(self, database: str) -> str:
        """A connection string."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str) -> "psycopg.Connection":
        """As an application behind it does; in autocommit."""
        return psycopg.connect(self.uri(database), autocommit=True, prepare_threshold=None, connect_timeout=5)
