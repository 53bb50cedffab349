"""S3 for tests, in this process: moto, on a free port of loopback."""

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

import requests
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

__all__ = ["S3"]


_CONDITIONS = {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"}


class _Whole:
    """One request at a time: moto compares and writes in two steps, and S3 in one."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._lock = app, threading.Lock()
        self.asked: list[tuple[str, str, str | None]] = []
        self.careless = False
        self.lost: dict[int, str] = {}

    def __call__(self, environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        condition = environment.get("HTTP_IF_MATCH") or environment.get("HTTP_IF_NONE_MATCH")
        if self.careless:
            environment = {name: environment[name] for name in environment.keys() - _CONDITIONS}
        with self._lock:
            loss = self.lost.pop(len(self.asked), "")
            self.asked.append((environment["REQUEST_METHOD"], environment["PATH_INFO"], condition))
            if not loss:
                return list(self._app(environment, start_response))
            list(self._app(environment, lambda *_: None))
        if loss == "reset":
            environment["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        start_response("503 Slow Down", [("Content-Length", "0")])
        return [b""]


class S3:
    """A server with a bucket, ``bucket``."""

    def __init__(self) -> None:
        app = _Whole(DomainDispatcherApplication(create_backend_app))
        self.asked = app.asked
        """Method, path and condition of each request."""
        self.lost = app.lost
        """Requests by their place in ``asked``, which are done, and the reply of which is lost: "503" or "reset"."""
        self._app = app
        self._server: BaseWSGIServer = make_server("127.0.0.1", 0, app, threaded=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it says each request
        self._thread.start()
        self.empty()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def ignore_conditions(self, *, ignores: bool = True) -> None:
        """As some stores do that speak S3."""
        self._app.careless = ignores

    def empty(self) -> None:
        """As it was at first."""
        requests.post(f"{self.endpoint}/moto-api/reset", timeout=30).raise_for_status()
        requests.put(f"{self.endpoint}/bucket", timeout=30).raise_for_status()

    @property
    def options(self) -> dict[str, str]:
        """How a client finds it."""
        words = {"access_key_id": "someone", "secret_access_key": "s3cret-word", "region": "us-east-1"}
        return {"endpoint": self.endpoint, **words}
