"""What Google's server does and fake-gcs-server does not: a PUT with a condition. A proxy before it, on a free port of loopback.

Its own PUT answers 400. Here it becomes an upload of the JSON API, whose `ifGenerationMatch` is the header
`x-goog-if-generation-match`; all else is passed on as it came.
"""

import http.client
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

__all__ = ["GCSProxy"]

_DEADLINE_S = 30
_KEPT = ("Content-Type", "Content-Length", "ETag", "Last-Modified", "Range", "Content-Range", "X-Goog-Generation")
"""Headers that mean something on both sides."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_PUT(self) -> None:
        """As an upload."""
        bucket, _, name = self.path.partition("?")[0].removeprefix("/").partition("/")
        asked = {"uploadType": "media", "name": urllib.parse.unquote(name)}
        if condition := self.headers.get("x-goog-if-generation-match"):
            asked["ifGenerationMatch"] = condition
        status, headers, body = self._ask("POST", f"/upload/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(asked)}")
        if status == http.client.OK:
            stored = json.loads(body)
            headers, body = {"ETag": f'"{stored["etag"]}"', "X-Goog-Generation": stored["generation"]}, b""
        self._answer(status, headers, body)

    def do_GET(self) -> None:
        """As it came."""
        self._answer(*self._ask(self.command, self.path))

    def do_HEAD(self) -> None:
        """As it came."""
        self.do_GET()

    def do_DELETE(self) -> None:
        """As it came."""
        self.do_GET()

    def _ask(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        headers = {name: value for name in ("Content-Type", "Range") if (value := self.headers.get(name))}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=_DEADLINE_S)
        try:
            connection.request(method, path, sent, headers)
            response = connection.getresponse()
            found = {name: value for name in _KEPT if (value := response.headers.get(name))}
            return response.status, found, response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    behind: int


class GCSProxy:
    """Before the server on port ``behind``."""

    def __init__(self, behind: int) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.behind = behind
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
