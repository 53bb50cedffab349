"""Objects below a prefix, and syncs of them; and a server that answers as it is told."""

import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

import obstore
from obstore.store import S3Store
from synced_files import SyncedFiles

from services.s3 import S3


class SyncedObjects(SyncedFiles):
    """Below ``s3://bucket/in``."""

    def __init__(self, s3: S3, pattern: str = "", **spec) -> None:
        self.spec = {"path": f"s3://bucket/in{pattern}", "options": s3.options} | spec
        self.cursors, self.messages = {}, []
        self.store = S3Store("bucket", prefix="in", client_options={"allow_http": True}, **s3.options)

    def write(self, name: str, content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else content
        obstore.put(self.store, name, data, use_multipart=False)  # fake-gcs-server takes no parts

    def append(self, name: str, content: str) -> None:
        """As most stores do it: by another object in its place."""
        self.write(name, bytes(obstore.get(self.store, name).bytes()) + content.encode())

    def rename(self, name: str, new: str) -> None:
        obstore.rename(self.store, name, new)

    def remove(self, name: str) -> None:
        obstore.delete(self.store, name)


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: dict[str, str]


class Server:
    """Answers requests of HTTP on loopback: ``answer(asked)`` gives status, headers and body."""

    def __init__(self, answer: Callable[[Asked], tuple[int, dict[str, str], bytes]]) -> None:
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
                outer.asked.append(asked)
                status, headers, body = answer(asked)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    with suppress(BrokenPipeError, ConnectionResetError):  # nobody waits for the rest
                        self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 -- its name there

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def served(content: bytes, headers: dict[str, str]) -> Callable[[Asked], tuple[int, dict[str, str], bytes]]:
    """A file at every path, in ranges."""

    def answer(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        times = {"Last-Modified": "Tue, 01 Dec 2020 05:00:00 GMT"} | headers
        if asked.method == "HEAD":
            return 200, times | {"Content-Length": str(len(content))}, b""
        if "range" not in asked.headers:
            return 200, times, content
        first, _, last = asked.headers["range"].removeprefix("bytes=").partition("-")
        body = content[int(first) : int(last) + 1]
        return 206, times | {"Content-Range": f"bytes {first}-{int(first) + len(body) - 1}/{len(content)}"}, body

    return answer
