"""Object stores of other people, built once and kept outside the checkout: versitygw and fake-gcs-server (Go), s3rver and azurite (npm)."""

import base64
import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from services.gcs import GCSProxy
from services.postgresql import free_port

__all__ = ["STORES", "ObjectStore"]

STORES = ("versitygw", "fake-gcs-server", "s3rver", "azurite")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strandline"
_GO = {
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
    "fake-gcs-server": "github.com/fsouza/fake-gcs-server@v1.56.1",
}
_NPM = ("s3rver@3.7.1", "azurite@3")
_BUILD_S, _START_S = 1800, 60
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of azurite, which has no other."""


def _program(name: str) -> list[str]:
    """Built or installed, if it is not yet."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    if name in _GO:
        built = _CACHE / "bin" / name
        if not built.exists():
            environment = {**os.environ, "GOBIN": str(built.parent), "GOFLAGS": "-modcacherw"}
            subprocess.run(["go", "install", _GO[name]], check=True, timeout=_BUILD_S, env=environment)
        return [str(built)]
    installed = _CACHE / "npm" / "node_modules" / ".bin" / ("azurite-blob" if name == "azurite" else name)
    if not installed.exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(_CACHE / "npm"), *_NPM]
        subprocess.run(command, check=True, timeout=_BUILD_S)
    return ["node", str(installed)]


class ObjectStore:
    """A server with a bucket, ``bucket``, on a free port of loopback."""

    def __init__(self, name: str) -> None:
        self._name, self._program = name, _program(name)
        self._root = Path(tempfile.mkdtemp(prefix="strandline-store-"))
        self._port = free_port()
        self._proxy = GCSProxy(self._port)

    @property
    def url(self) -> str:
        return f"{ {'azurite': 'az', 'fake-gcs-server': 'gs'}.get(self._name, 's3') }://bucket/states"

    @property
    def options(self) -> dict[str, str]:
        """How a client finds it."""
        endpoint = f"http://127.0.0.1:{self._port}"
        if self._name == "fake-gcs-server":
            return {"base_url": f"http://127.0.0.1:{self._proxy.port}", "bearer_token": "anybody"}
        if self._name == "azurite":
            return {"account_name": _ACCOUNT, "account_key": _KEY, "endpoint": f"{endpoint}/{_ACCOUNT}"}
        words = ("S3RVER", "S3RVER") if self._name == "s3rver" else ("someone", "s3cret-word")
        return dict(zip(("access_key_id", "secret_access_key"), words, strict=True)) | {
            "endpoint": endpoint,
            "region": "us-east-1",
        }

    def _arguments(self) -> list[str]:
        data, port = str(self._root / "data"), str(self._port)
        if self._name == "versitygw":
            (self._root / "data" / "bucket").mkdir(parents=True)
            words = ("--access", "someone", "--secret", "s3cret-word", "--region", "us-east-1", "--quiet")
            return [*words, "--port", f"127.0.0.1:{port}", "posix", data]
        if self._name == "fake-gcs-server":
            own = ("-scheme", "http", "-host", "127.0.0.1", "-backend", "memory", "-log-level", "error")
            return [*own, "-port", port, "-public-host", f"127.0.0.1:{port}"]
        if self._name == "s3rver":
            return ["-d", data, "-a", "127.0.0.1", "-p", port, "--silent", "--configure-bucket", "bucket"]
        own = ("--skipApiVersionCheck", "--silent", "--blobHost", "127.0.0.1")
        return [*own, "--blobPort", port, "--location", data]

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        with (self._root / "log").open("wb") as log:
            command = [*self._program, *self._arguments()]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                if self._name == "azurite":
                    self._make_container()
                if self._name == "fake-gcs-server":
                    self._make_bucket()
                return self
            time.sleep(0.05)
        raise AssertionError(f"it did not start: {(self._root / 'log').read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._proxy.__exit__()
        shutil.rmtree(self._root, ignore_errors=True)

    def _make_bucket(self) -> None:
        url, body = f"http://127.0.0.1:{self._port}/storage/v1/b?project=one", b'{"name": "bucket"}'
        urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30).close()

    def _make_container(self) -> None:
        date, version = f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S GMT}", "2021-08-06"
        named = f"x-ms-date:{date}\nx-ms-version:{version}\n/{_ACCOUNT}/{_ACCOUNT}/bucket\nrestype:container"
        digest = hmac.new(base64.b64decode(_KEY), f"PUT{chr(10) * 12}{named}".encode(), hashlib.sha256).digest()
        signed = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
        headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": signed, "Content-Length": "0"}
        url = f"{self.options['endpoint']}/bucket?restype=container"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=30).close()
