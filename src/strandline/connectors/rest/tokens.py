"""A refresh token that the server may replace: the last one is durable before anything is asked with what came with it."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strandline.errors import StrandlineError, TaskError
from strandline.logs import register_secret
from strandline.paths import FOLDER, PLAIN, locked, make_directory, opened, replace_file

__all__ = ["Kept", "TokenFile"]

_BYTES_MAX = 1 << 20
_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What a token file holds."""

    refresh_token: str
    """The one that the server gave last."""
    access_token: str = ""
    expires_at: float = 0.0
    """Of the access token, seconds since 1970 by our clock."""


class TokenFile:
    """One file for one refresh token of a spec, shared by threads and processes.

    A spec with another refresh token begins again with that one: what is kept is of the one before.
    """

    def __init__(self, path: Path, first: str) -> None:
        self._path, self._first = path, first
        self._origin = hashlib.sha256(first.encode()).hexdigest()
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator["Hold"]:
        """Alone with the file: of two processes one asks for new tokens, and the other one finds them.

        Raises:
            TaskError: the file cannot be read or written, which is known before a token is used up.
        """
        try:
            with self._lock:
                make_directory(self._path.parent)
                with opened(self._path.parent, FOLDER) as folder, locked(folder, self._path.parent, wait_s=_WAIT_S):
                    yield Hold(self._kept(folder), lambda kept: self._keep(folder, kept))
        except StrandlineError:
            raise
        except OSError as error:
            raise TaskError(
                f"the token file {self._path} cannot be used: {error.strerror}",
                hint="without it, a token that the server replaces would be lost: make it writable, or name another `file`",
            ) from error

    def _kept(self, folder: int) -> Kept:
        try:
            with opened(self._path.name, PLAIN, directory=folder) as fd, open(fd, "rb", closefd=False) as file:
                found: Any = json.loads(file.read(_BYTES_MAX))
            if found["of"] != self._origin:
                return Kept(self._first)
            kept = Kept(found["refresh_token"], found["access_token"], found["expires_at"])
        except FileNotFoundError:
            return Kept(self._first)
        except (ValueError, TypeError, KeyError) as error:
            raise TaskError(
                f"the token file {self._path} is damaged",
                hint="remove it, and write a refresh token into the spec that the server has just given",
            ) from error
        for secret in (kept.refresh_token, kept.access_token):
            register_secret(secret)
        return kept

    def _keep(self, folder: int, kept: Kept) -> None:
        content = {
            "of": self._origin,
            "refresh_token": kept.refresh_token,
            "access_token": kept.access_token,
            "expires_at": kept.expires_at,
        }
        replace_file(folder, self._path.name, json.dumps(content).encode())


@dataclass(frozen=True, slots=True)
class Hold:
    """The file, while nobody else has it."""

    kept: Kept
    keep: Callable[[Kept], None]
    """Durable once it returns."""
