"""A server of HTTP on loopback that answers as a test says: well, or in every way in which a server can fail."""

import json
import threading
import urllib.parse
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["Api", "Asked", "Reply", "paged"]

_CHUNK = b"x" * 65_536


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    """By their names in small letters."""
    content: bytes
    number: int
    """Of the request, from 0."""
    url: str
    """Of the server."""

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def form(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.content.decode(), keep_blank_values=True))


@dataclass
class Reply:
    """An answer. ``failure`` says what becomes of its body."""

    body: Any = None
    """Bytes as they are, anything else as JSON; ``None``: there is none."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    failure: str = ""
    """``cut``: half of it, then the connection ends. ``cut unsaid``: so, without a length. ``endless``. ``bomb``: it is
    endless, and packed. ``hang up``: nothing at all."""
    date: float | None = None
    """The server's clock, if it is not ours; seconds since 1970."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.api.handle(self)

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 -- names of http.server

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: "Api"

    def handle_error(self, *_: object) -> None:
        """A client that leaves in the middle is part of a test."""


class Api:
    """Listens on a free port of loopback. ``answer`` may be replaced at any time; ``asked`` has all requests."""

    def __init__(self, answer: Callable[[Asked], Reply], port: int = 0) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.api = self
        self.port = self._server.server_port
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self, method: str = "GET") -> list[str]:
        """What was asked for, in order."""
        return [one.path for one in self.asked if one.method == method]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def handle(self, http: _Handler) -> None:
        parts = urllib.parse.urlsplit(http.path)
        length = int(http.headers.get("Content-Length", 0))
        content = http.rfile.read(length)
        with self._lock:
            asked = Asked(
                http.command,
                parts.path,
                dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)),
                {name.lower(): value for name, value in http.headers.items()},
                content,
                len(self.asked),
                self.url,
            )
            self.asked.append(asked)
        reply = self.answer(asked)
        with suppress(ConnectionError):
            self._send(http, reply)

    def _send(self, http: _Handler, reply: Reply) -> None:
        if reply.failure == "hang up":
            http.close_connection = True
            return
        body = (
            reply.body
            if isinstance(reply.body, bytes)
            else b""
            if reply.body is None
            else json.dumps(reply.body).encode()
        )
        headers = {"Date": formatdate(reply.date, usegmt=True), "Content-Type": "application/json", **reply.headers}
        if reply.failure in {"endless", "bomb", "cut unsaid"}:
            headers["Connection"] = "close"
            http.close_connection = True
        else:
            headers["Content-Length"] = str(len(body))
        if reply.failure == "bomb":
            headers["Content-Encoding"] = "gzip"
        http.send_response_only(reply.status)
        for name, value in headers.items():
            for one in value.split("\n") if value else ():
                http.send_header(name, one)
        http.end_headers()
        if http.command != "HEAD":
            self._send_body(http, body, reply.failure)

    def _send_body(self, http: _Handler, body: bytes, failure: str) -> None:
        pack = zlib.compressobj(9, zlib.DEFLATED, 31)
        while failure in {"endless", "bomb"} and not self.ended.is_set():
            http.wfile.write(pack.compress(_CHUNK) if failure == "bomb" else _CHUNK)
        cut = failure.startswith("cut")
        http.wfile.write(body[: len(body) // 2] if cut else body)
        http.close_connection = http.close_connection or cut


def paged(asked: Asked, rows: list[Any], size: int) -> Reply:
    """A page of ``rows``, by the parameter ``page``, with a header ``Link`` to the next one."""
    number = int(asked.query.get("page", 1))
    page = rows[(number - 1) * size : number * size]
    query = urllib.parse.urlencode({**asked.query, "page": number + 1})
    more = f'<{asked.url}{asked.path}?{query}>; rel="next"' if number * size < len(rows) else ""
    return Reply(page, headers={"Link": more})
