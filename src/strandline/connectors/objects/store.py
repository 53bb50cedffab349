"""A place in an object store: what is asked of it, what its errors mean, and whether it keeps its conditions."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal

from strandline.connectors.stores.drivers import obstore, obstore_exceptions
from strandline.connectors.stores.opening import advice, first_line, opened, refused, shown_url
from strandline.errors import StateError, UnreachableError, UsageError

__all__ = ["Store"]

Version = Mapping[str, str]
"""The driver's words for it."""
Seen = Version | Literal["create"]
"""What has to be there still when an object is replaced: a version, or nothing."""


class Store:
    """Reads are repeated by the driver for as long as ``timeout_s``; a write never, for it would conflict with itself.

    Raises:
        UsageError: a setting is wrong.
    """

    def __init__(self, url: str, options: Mapping[str, str], timeout_s: float) -> None:
        self.place = shown_url(url)
        if url.partition("://")[0] in {"file", "memory", "http"}:
            raise UsageError(f"`url` {self.place} is no object store", hint="s3://bucket/prefix, gs:// or az://")
        self._reads, self._writes = (
            opened(url, options, timeout_s, retries=count, what="`url` or `options`") for count in (5, 0)
        )

    def listed(self, folder: str) -> dict[str, str | None]:
        """The objects below a folder, by name, each with its ETag, which two contents never share."""
        with self._read(f"list {folder}"):
            return {one["path"]: one["e_tag"] for some in obstore.list(self._reads, prefix=folder) for one in some}

    def get(self, name: str) -> "tuple[bytes, Version] | None":
        """The content of an object, and what a write that replaces it has to name; ``None``: there is none."""
        with self._read(f"read {name}"):
            try:
                found = obstore.get(self._reads, name)
                return bytes(found.bytes()), _seen(found.meta)
            except (obstore_exceptions.NotFoundError, FileNotFoundError):
                return None

    def put(self, name: str, content: bytes, seen: Seen) -> Seen | None:
        """Write an object, if what was seen there is still there; ``None``: it is not, and nothing was written.

        Raises:
            StateError: it is not known whether it was written.
        """
        mode: Any = seen
        try:
            return _seen(obstore.put(self._writes, name, content, mode=mode, use_multipart=False))
        except (obstore_exceptions.AlreadyExistsError, obstore_exceptions.PreconditionError, FileExistsError):
            return None
        except (obstore_exceptions.BaseError, NotImplementedError, OSError) as error:
            raise StateError(
                f"{self.place}: {name} may not have been written: {first_line(error)}",
                hint="is the store up, and may this user write there?",
            ) from error

    def check_conditions(self, folder: str) -> None:
        """Try whether of two writers one is refused, on an object that is removed again.

        Raises:
            UsageError: it is not; or nothing can be written.
        """
        name = f"{folder}/.probe-{secrets.token_hex(8)}"
        try:
            first = self.put(name, b"1", "create")
            again = self.put(name, b"3", "create")
            second = self.put(name, b"2", first) if first is not None else None
            stale = self.put(name, b"3", first) if first is not None else None
        except StateError as error:
            raise UsageError(error.message, hint=f"{error.hint} A store that compares versions is needed") from error
        finally:
            with suppress(obstore_exceptions.BaseError, OSError):
                obstore.delete(self._writes, name)
        if again is not None or stale is not None:
            raise UsageError(
                f"{self.place} ignores conditions, so that of two runs none would be kept out",
                hint="use a store that keeps them (If-None-Match, If-Match), or another backend",
            )
        if first is None or second is None:
            raise UsageError(f"{self.place} refuses a condition that holds", hint="use another store, or backend")

    @contextmanager
    def _read(self, what: str) -> Iterator[None]:
        try:
            yield
        except (obstore_exceptions.BaseError, OSError) as error:
            if refused(error):
                hint = advice(error, "check the credentials, and what they allow")
                raise UsageError(f"{self.place}: could not {what}: {first_line(error)}", hint=hint) from error
            hint = advice(error, "is the store up, and can it be reached from here?")
            raise UnreachableError(f"{self.place}: could not {what}: {first_line(error)}", hint=hint) from error


def _seen(meta: Any) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}
