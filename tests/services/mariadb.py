"""Servers of MariaDB for tests: on a free port of loopback, with a directory of their own, and gone afterwards."""

import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

import pymysql

from services.postgresql import free_port

__all__ = ["MariaDBServer", "programs"]

_START_S = 60
_MEMORY = Path("/dev/shm")
_SMALL = ("--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--innodb-data-file-path=ibdata1:1M:autoextend")
_SETTINGS = (*_SMALL, "--innodb-buffer-pool-load-at-startup=OFF", "--skip-name-resolve", "--bind-address=127.0.0.1")


def programs() -> tuple[str, str] | None:
    """The server, and what makes a directory for it; none where it is not installed."""
    found = [
        shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin") for name in ("mariadbd", "mariadb-install-db")
    ]
    return (found[0], found[1]) if all(found) else None


class MariaDBServer:
    """With these arguments, in memory unless ``directory`` is given. Starts again on the same port and directory."""

    def __init__(self, *arguments: str, directory: Path | None = None) -> None:
        self._server, install = programs()
        self._arguments = arguments
        where = directory or (_MEMORY if _MEMORY.is_dir() else None)
        self.root = Path(tempfile.mkdtemp(prefix="strandline-mariadb-", dir=where))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        made = subprocess.run(
            [install, "--no-defaults", f"--datadir={self.root / 'data'}", "--auth-root-authentication-method=normal", *self._who, "--skip-test-db", *_SMALL],
            capture_output=True,
            check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout.decode() + made.stderr.decode()

    @property
    def _who(self) -> tuple[str, ...]:
        return ("--user=root",)  # as root, it would choose another user, who may not write here

    def uri(self, database: str = "mysql", user: str = "root") -> str:
        """A connection string."""
        return f"mysql://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str | None = None, user: str = "root", password: str = "") -> pymysql.Connection:
        """A connection in autocommit."""
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user=user, password=password, database=database, autocommit=True
        )

    def execute(self, *statements: str, database: str | None = None) -> list[tuple]:
        """The rows of the last one."""
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def start(self) -> Self:
        own = (f"--datadir={self.root / 'data'}", f"--socket={self.root / 'socket'}", f"--pid-file={self.root / 'pid'}")
        command = [self._server, "--no-defaults", *self._who, *own, f"--port={self.port}", *_SETTINGS, *self._arguments]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(pymysql.Error), closing(self.connect()):
                return self
            time.sleep(0.02)
        raise AssertionError(f"it did not start: {(self.root / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """As a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.kill()
        shutil.rmtree(self.root, ignore_errors=True)
