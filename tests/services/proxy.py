"""A TCP proxy in front of a server that loses what it is told to: a COMMIT (of another server: what commits), or its reply.

It looks for the statement in what passes, so connections through it are not encrypted.
"""

import contextlib
import enum
import socket
import threading
from typing import Self

__all__ = ["CommitProxy", "Loss"]

_COMMIT = b"COMMIT\0"
_CHUNK = 65_536


class Loss(enum.Enum):
    """What happens to the next COMMIT."""

    REPLY = "it reaches the server, and its reply never reaches the client"
    REQUEST = "it never reaches the server"
    LATE = "the client is cut off, and the server gets it when it is delivered"


class CommitProxy:
    """Listens on ``port`` of loopback. ``lose`` names what happens to the next COMMIT of any connection, once."""

    def __init__(self, server_port: int, statement: bytes = _COMMIT) -> None:
        self._server_port, self._statement = server_port, statement
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loss: Loss | None = None
        self._deliver = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listener]
        self._start(self._accept)

    def lose(self, loss: Loss) -> None:
        """The next COMMIT is lost in this way."""
        self._loss = loss

    def spare(self) -> bool:
        """From now on lose nothing; whether a COMMIT was lost."""
        struck, self._loss = self._loss is None, None
        return struck

    def deliver(self) -> None:
        """Hand over a COMMIT that was held back."""
        self._deliver.set()

    def close(self) -> None:
        """End all connections."""
        self._deliver.set()
        for one in self._sockets:
            _end(one)
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, run, *arguments) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets += [client, server]
                self._start(self._requests, client, server)
                self._start(self._replies, server, client)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                if self._loss is None or self._statement not in data:
                    server.sendall(data)
                    continue
                loss, self._loss = self._loss, None
                _end(client)
                if loss is Loss.LATE:
                    self._deliver.wait()
                if loss is not Loss.REQUEST:
                    server.sendall(data)
                break
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)  # it does what it was sent, and then ends

    @staticmethod
    def _replies(server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_CHUNK):
                with contextlib.suppress(OSError):
                    client.sendall(data)
        _end(client)
        _end(server)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
