"""An API for a test without the API: its responses, as they were recorded once, with the secrets removed.

::

    from strandline.testing.replay import replayed

    def test_issues_are_synced(tmp_path):
        with replayed("tests/issues.json", of="https://api.example.com/v1") as url:
            report = sl.sync(issues(url), to=sl.duckdb(tmp_path / "w.duckdb"), name="t")
        assert report.arrow("issues").num_rows == 42

The test runs against a server of its own on loopback, at ``url``, so it does not matter what asks: the source ``rest``, a function with any
client, or a plugin. ``STRANDLINE_RECORD=1 pytest tests/test_issues.py`` asks the real API and writes the file; without it nothing leaves
the machine, and a request that was not recorded fails the test.

- No header of a request is written down, and of those of a response only what says how it continues, and when. Values that are called like
  secrets (``token``, ``password``, ``api_key``), in a query, a form or JSON, are replaced; so is what ``secrets`` names, wherever it is. Read
  the file before you commit it: an API may send secrets, and people's data, under any name.
- What a response calls a token goes into the file under another value, and so does a later request that sends it.
- Addresses of the API in a response are those of the server, so that links lead there.
- The same request, asked again, gets the next response that was recorded for it; the last one as often as it is asked for.
"""

import hashlib
import json
import os
import threading
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from strandline.connection_string import is_secret_name

__all__ = ["RECORD", "replayed"]

RECORD = "STRANDLINE_RECORD"
"""The variable of the environment that makes a test ask the API."""
_PLACE = "{api}"
_HIDDEN = "***"
_KEPT = ("content-type", "link", "date", "etag", "retry-after", "location")
_LIMITS = ("x-ratelimit-", "ratelimit")
_NOT_SENT = {"host", "connection", "accept-encoding", "content-length"}
_TIMEOUT_S = 60
_SHORT = 4
"""Shorter values are no secrets, and would be replaced in the middle of words."""
_NOT_RECORDED = 501


@contextmanager
def replayed(file: str | Path, *, of: str, secrets: Sequence[str] = (), record: bool | None = None) -> Iterator[str]:
    """A server that answers as the API did; yields what stands for ``of``.

    Args:
        file: where the responses are, as JSON.
        of: the base URL of the API.
        secrets: texts that are not to be in the file.
        record: ask the API, and write the file; ``None``: as ``STRANDLINE_RECORD`` says.

    Raises:
        FileNotFoundError: nothing was recorded.
        AssertionError: something was asked that was not recorded.
    """
    path, origin = Path(file), "{0.scheme}://{0.netloc}".format(urlsplit(of))
    records = bool(os.environ.get(RECORD)) if record is None else record
    if not records and not path.exists():
        raise FileNotFoundError(f"{path}: nothing was recorded; with {RECORD}=1 the test asks {origin}, and writes it")
    tape = _Tape(origin, secrets, [] if records else json.loads(path.read_text("utf-8"))["responses"])
    server = _Server(("127.0.0.1", 0), _Handler)
    server.tape, server.records = tape, records
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.url + urlsplit(of).path
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        if records:
            path.write_text(json.dumps({"of": of, "responses": tape.responses}, indent=1) + "\n", "utf-8")
    assert not tape.unknown, f"{path} has no response to {tape.unknown[0]}; with {RECORD}=1 the test records it"


class _Tape:
    """What was recorded, and what stands for secrets. Safe to share between threads."""

    def __init__(self, origin: str, secrets: Sequence[str], responses: list[dict[str, Any]]) -> None:
        self.origin, self.responses, self.unknown = origin, responses, list[str]()
        self._lock = threading.Lock()
        self._instead = dict.fromkeys(secrets, _HIDDEN)
        self._asked: defaultdict[str, int] = defaultdict(int)

    def name(self, method: str, target: str, body: bytes) -> str:
        """A request in the words by which it is found again, without secrets."""
        parts = urlsplit(target)
        query = [(name, self._hidden(name, value)) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
        said = f"{method} {self._masked(parts.path)}" + (f"?{urlencode(query, safe='*{}')}" if query else "")
        return said if not body else f"{said} #{hashlib.sha256(self._body(body).encode()).hexdigest()[:16]}"

    def _body(self, body: bytes) -> str:
        text = body.decode(errors="replace")
        with suppress(ValueError):
            return json.dumps(self._of_json(json.loads(text)), sort_keys=True)
        fields = parse_qsl(text, keep_blank_values=True)
        return urlencode([(one, self._hidden(one, value)) for one, value in fields]) if fields else self._masked(text)

    def _of_json(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {one: self._of_json(inner, one) for one, inner in value.items()}
        if isinstance(value, list):
            return [self._of_json(one, name) for one in value]
        return self._hidden(name, value) if isinstance(value, str) else value

    def _hidden(self, name: str, value: str) -> str:
        with self._lock:
            known = self._instead.get(value)
        if known is not None:
            return known
        return _HIDDEN if is_secret_name(name) and value and not value.startswith("secret-") else self._masked(value)

    def _masked(self, text: str) -> str:
        with self._lock:
            for secret, instead in self._instead.items():
                text = text.replace(secret, instead)
        return text

    def keep(self, name: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Record a response."""
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"the response to {name} is no text, and cannot be recorded") from error
        with suppress(ValueError):
            self._learn(json.loads(text))
        said = {one: value for one, value in headers.items() if one in _KEPT or one.startswith(_LIMITS)}
        kept = {"status": status, "headers": {one: self._at_home(value) for one, value in said.items()}}
        one = {"request": name, **kept, "body": self._at_home(text)}
        with self._lock:
            self.responses.append(one)

    def _at_home(self, text: str) -> str:
        return self._masked(text.replace(self.origin, _PLACE))

    def _learn(self, value: Any, name: str = "") -> None:
        """What a response calls a secret."""
        for one, inner in value.items() if isinstance(value, dict) else ():
            self._learn(inner, one)
        for inner in value if isinstance(value, list) else ():
            self._learn(inner, name)
        if isinstance(value, str) and len(value) >= _SHORT and is_secret_name(name):
            with self._lock:
                self._instead.setdefault(value, f"secret-{len(self._instead) + 1}")

    def find(self, name: str) -> Mapping[str, Any] | None:
        """The next response to a request; ``None``: there is none."""
        with self._lock:
            found = [one for one in self.responses if one["request"] == name]
            at, self._asked[name] = self._asked[name], self._asked[name] + 1
            if not found:
                self.unknown.append(name)
                return None
            return found[min(at, len(found) - 1)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tape: _Tape
    records: bool

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """The client of the test follows it, by way of this server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        tape = self.server.tape
        name = tape.name(self.command, self.path, body)
        if self.server.records:
            status, headers, content = self._ask(body)
            tape.keep(name, status, headers, content)
            text = content.decode().replace(tape.origin, self.server.url)
            headers = {one: value.replace(tape.origin, self.server.url) for one, value in headers.items()}
        elif (found := tape.find(name)) is not None:
            status, text = found["status"], found["body"].replace(_PLACE, self.server.url)
            headers = {one: value.replace(_PLACE, self.server.url) for one, value in found["headers"].items()}
        else:
            status, headers, text = _NOT_RECORDED, {}, f"not recorded: {name}"
        self._send(status, headers, text.encode())

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815 -- names of http.server

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {one: value for one, value in self.headers.items() if one.lower() not in _NOT_SENT}
        url = self.server.tape.origin + self.path
        asked = urllib.request.Request(url, body or None, headers, method=self.command)  # noqa: S310 -- the author names it
        try:
            with urllib.request.build_opener(_NoRedirects).open(asked, timeout=_TIMEOUT_S) as answer:
                return answer.status, _lower(answer.headers), answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, _lower(answer.headers), answer.read()

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name in _KEPT or name.startswith(_LIMITS):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def _lower(headers: Any) -> dict[str, str]:
    """By names in small letters; several of one name in one line, as HTTP has it."""
    return {name.lower(): ", ".join(headers.get_all(name)) for name in headers}
