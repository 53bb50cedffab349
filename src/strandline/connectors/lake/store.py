"""Where a lake is: a local directory or a prefix of an object store, and the few things that are asked of it.

Names are relative to the root, with ``/`` between their parts. ``create`` is what every commit is made of: of two writers that
create one name, one is told that it is taken.
"""

import io
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from strandline.connectors.stores.drivers import obstore, obstore_exceptions
from strandline.connectors.stores.opening import first_line, object_place, shown_url
from strandline.connectors.stores.opening import opened as opened_store
from strandline.errors import MACHINE, RetryableError, TaskError, UnreachableError, UsageError
from strandline.lazy import pa
from strandline.paths import FOLDER, PLAIN, make_directory, opened, write_file
from strandline.place import file_places

__all__ = ["LocalStore", "ObjectStore", "Store", "explained", "store_of"]

_TIMEOUT_S = 60
_COPIES = ("s3://", "s3a://", "gs://")


class Store(Protocol):
    """See ``LocalStore`` and ``ObjectStore``."""

    @property
    def where(self) -> str:
        """For people."""

    @property
    def options(self) -> Mapping[str, str] | None:
        """How the driver reaches it."""

    def uri(self, folder: str) -> str:
        """Of a folder, for the driver."""

    def listed(self, folder: str) -> list[str]:
        """The names of what is in a folder, without the folder; what is below them may be named or not."""

    def folders(self) -> list[str]:
        """The names of what has something below it in the root."""

    def older(self, folder: str, age: timedelta) -> list[str]:
        """The whole names of files that are directly in a folder, and were last written so long ago."""

    def get(self, name: str) -> bytes | None:
        """The content; ``None``: there is none."""

    def create(self, name: str, content: bytes) -> bool:
        """Make it, durable; ``False``: the name is taken, and nothing was changed."""

    def check(self, name: str) -> None:
        """Whether of two who create this name one is refused; it is removed again.

        Raises:
            UsageError: it is not.
        """

    def sink(self, name: str) -> Any:
        """A file object for a name that nobody else has. ``close`` makes it durable, ``discard`` leaves nothing."""

    def readable(self, name: str) -> Any:
        """What Arrow opens to read it."""

    def pieces(self, name: str) -> "pa.NativeFile":
        """What Arrow reads piece by piece, without all of it in memory."""

    def settle(self, folder: str) -> None:
        """Make the names of new files in a folder durable."""

    def delete(self, names: Iterable[str]) -> None:
        """Remove what is there of these names."""

    def remove(self, folder: str) -> None:
        """Remove all that is below a folder."""

    def places(self) -> Sequence[str]:
        """See ``strandline.place``."""


def store_of(path: str, options: Mapping[str, str]) -> Store:
    """By a path or a URL."""
    return ObjectStore(path, options) if "://" in path else LocalStore(Path(path).absolute())


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an error of the system or the driver into ours, where nothing was committed."""
    try:
        yield
    except (FileNotFoundError, obstore_exceptions.NotFoundError) as error:
        raise RetryableError(f"{what}: {first_line(error)}", hint="a file was removed meanwhile") from error
    except OSError as error:
        if error.errno is None:
            raise UnreachableError(f"{what}: {first_line(error)}", hint="is the store up?") from error
        text = f"{what}: {error.strerror or error}"
        if error.errno in MACHINE:
            raise RetryableError(text, hint=MACHINE[error.errno]) from error
        raise TaskError(text, hint="`path` must be a directory that this user may write to, or a new one") from error
    except obstore_exceptions.BaseError as error:
        raise UnreachableError(
            f"{what}: {first_line(error)}", hint="is the store up, and may this user read and write there?"
        ) from error


class LocalStore:
    """A directory. Whatever is said to be durable survives a power cut."""

    options: Mapping[str, str] | None = None

    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)

    def uri(self, folder: str) -> str:
        """See ``Store``."""
        return str(self.root / folder)

    def listed(self, folder: str) -> list[str]:
        """See ``Store``."""
        try:
            return [path.name for path in (self.root / folder).iterdir()]
        except FileNotFoundError:
            return []

    def folders(self) -> list[str]:
        """See ``Store``."""
        return [path.name for path in self.root.iterdir() if path.is_dir()]

    def older(self, folder: str, age: timedelta) -> list[str]:
        """See ``Store``."""
        latest_s, found = time.time() - age.total_seconds(), []
        for name in self.listed(folder):
            with suppress(FileNotFoundError):
                if (self.root / folder / name).stat().st_mtime < latest_s:
                    found.append(f"{folder}/{name}")
        return found

    def get(self, name: str) -> bytes | None:
        """See ``Store``."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> bool:
        """See ``Store``. Written beside, then linked: whoever sees the name sees all of it."""
        path = self.root / name
        make_directory(path.parent, mode=0o777)
        with opened(path.parent, FOLDER) as directory:
            temporary = f".{secrets.token_hex(16)}.tmp"
            write_file(directory, temporary, content)
            try:
                os.link(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            except FileExistsError:
                return False
            finally:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=directory)
            os.fsync(directory)
        return True

    def check(self, name: str) -> None:
        """See ``Store``. A link replaces nothing."""

    def sink(self, name: str) -> "_LocalFile":
        """See ``Store``."""
        path = self.root / name
        make_directory(path.parent, mode=0o777)
        return _LocalFile(path)

    def readable(self, name: str) -> str:
        """See ``Store``."""
        return str(self.root / name)

    def pieces(self, name: str) -> "pa.NativeFile":
        """See ``Store``."""
        return pa.OSFile(str(self.root / name))

    def settle(self, folder: str) -> None:
        """See ``Store``."""
        with opened(self.root / folder, FOLDER) as directory:
            os.fsync(directory)

    def delete(self, names: Iterable[str]) -> None:
        """See ``Store``."""
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def remove(self, folder: str) -> None:
        """See ``Store``."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.root / folder)

    def places(self) -> Sequence[str]:
        """See ``Store``."""
        return file_places(self.root)


class _LocalFile(io.FileIO):
    """A new file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, 0o666), "wb")

    def keep(self) -> None:
        """Make it durable, but for its name."""
        os.fsync(self.fileno())
        self.close()

    def discard(self) -> None:
        """Leave nothing."""
        self.close()
        with suppress(OSError):
            self._path.unlink()


class ObjectStore:
    """A prefix of S3, GCS, Azure, or whatever speaks S3 and keeps the condition ``If-None-Match``."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self.where = shown_url(url)
        self._url, self._given = url.rstrip("/"), dict(options)
        plain = any(value.startswith("http://") for name, value in options.items() if name.endswith("endpoint"))
        self.options = {**options, "allow_http": "true"} if plain else dict(options) or None
        self._opened: Any = None

    @property
    def _store(self) -> Any:
        """Opened when it is first needed: looking for credentials may ask the network."""
        if self._opened is None:
            self._opened = opened_store(self._url, self._given, _TIMEOUT_S, what="`path` or `options`")
        return self._opened

    def uri(self, folder: str) -> str:
        """See ``Store``."""
        return f"{self._url}/{folder}"

    def listed(self, folder: str) -> list[str]:
        """See ``Store``."""
        return list(self.names(folder))

    def names(self, folder: str) -> Iterator[str]:
        """As ``listed``, a page at a time."""
        found = (one["path"] for some in obstore.list(self._store, prefix=folder) for one in some)
        return (path.removeprefix(f"{folder}/") for path in found)

    def folders(self) -> list[str]:
        """See ``Store``."""
        found = obstore.list_with_delimiter(self._store)["common_prefixes"]
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    def older(self, folder: str, age: timedelta) -> list[str]:
        """See ``Store``."""
        latest = datetime.now(UTC) - age
        found = (one for some in obstore.list(self._store, prefix=folder) for one in some)
        return [one["path"] for one in found if one["last_modified"] < latest]

    def get(self, name: str) -> bytes | None:
        """See ``Store``."""
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except (obstore_exceptions.NotFoundError, FileNotFoundError):
            return None

    def create(self, name: str, content: bytes) -> bool:
        """See ``Store``. What the driver repeats after a lost reply may find its own object: the caller compares."""
        try:
            obstore.put(self._store, name, content, mode="create", use_multipart=False)
        except (obstore_exceptions.AlreadyExistsError, obstore_exceptions.PreconditionError, FileExistsError):
            return False
        return True

    def check(self, name: str) -> None:
        """See ``Store``."""
        try:
            self.create(name, b"1")
            second, content = self.create(name, b"2"), self.get(name)
        finally:
            with suppress(obstore_exceptions.BaseError, OSError):
                self.delete([name])
        if second or content != b"1":
            raise UsageError(
                f"{self.where} ignores conditions, so that of two runs none would be kept out",
                hint="use a store that keeps the condition If-None-Match",
            )

    def size(self, name: str) -> int | None:
        """In bytes; ``None``: there is none."""
        try:
            return int(obstore.head(self._store, name)["size"])
        except (obstore_exceptions.NotFoundError, FileNotFoundError):
            return None

    def copy(self, old: str, new: str, size: int) -> bool:
        """The content of an object of this size under another name, too, durable; ``False``: there is none of the old name."""
        try:
            if self._url.startswith(_COPIES):
                obstore.copy(self._store, old, new)
                if self.size(new) == size:
                    return True
            # Azure may still be copying when it answers, and not all that speak S3 do copy
            content = obstore.get(self._store, old).bytes()
            obstore.put(self._store, new, content, use_multipart=False)
        except (obstore_exceptions.NotFoundError, FileNotFoundError):
            return False
        return True

    def sink(self, name: str) -> "_Object":
        """See ``Store``."""
        return _Object(self._store, name)

    def readable(self, name: str) -> Any:
        """See ``Store``."""
        return pa.BufferReader(bytes(obstore.get(self._store, name).bytes()))

    def pieces(self, name: str) -> "pa.NativeFile":
        """See ``Store``."""
        return pa.PythonFile(_Pieces(obstore.open_reader(self._store, name)), "r")

    def settle(self, folder: str) -> None:
        """See ``Store``. An object is durable once it is acknowledged."""

    def delete(self, names: Iterable[str]) -> None:
        """See ``Store``."""
        for name in names:
            with suppress(obstore_exceptions.NotFoundError, FileNotFoundError):
                obstore.delete(self._store, name)

    def remove(self, folder: str) -> None:
        """See ``Store``."""
        self.delete([f"{folder}/{name}" for name in self.listed(folder)])

    def places(self) -> Sequence[str]:
        """See ``Store``."""
        return [object_place(self._url, self._given)]


class _Object(io.BytesIO):
    """An object that is made when it is kept."""

    def __init__(self, store: Any, name: str) -> None:
        super().__init__()
        self._store, self._name, self._kept = store, name, False

    def keep(self) -> None:
        """Make it."""
        obstore.put(self._store, self._name, self.getvalue())
        self.close()
        self._kept = True

    def discard(self) -> None:
        """Leave nothing."""
        self.close()
        if self._kept:
            with suppress(obstore_exceptions.BaseError, OSError):
                obstore.delete(self._store, self._name)


class _Pieces:
    """An object as what Arrow takes for a file."""

    closed = False

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.seek, self.tell = reader.seek, reader.tell

    def read(self, size: int | None = None) -> bytes:
        return bytes(self._reader.read(size))

    def close(self) -> None:
        self.closed = True
