"""How pyiceberg writes metadata on a local disk: durable before a catalog names it. The driver imports this, by name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from strandline.connectors.iceberg.drivers import ice_arrow
from strandline.paths import FOLDER, PLAIN, make_directory, opened

__all__ = ["DurableFileIO"]


class DurableFileIO:
    """What the driver calls a ``FileIO``. Of local files, those that it writes survive a power cut once they are closed."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._io = ice_arrow.PyArrowFileIO(properties)
        self.properties = self._io.properties

    def new_input(self, location: str) -> Any:
        """A file to be read."""
        return self._io.new_input(location)

    def new_output(self, location: str) -> Any:
        """A file to be written."""
        scheme, _, path = self._io.parse_location(location, self.properties)
        made = self._io.new_output(location)
        return _LocalOutput(made, Path(path)) if scheme == "file" else made

    def delete(self, location: Any) -> None:
        """Remove a file."""
        self._io.delete(location)


class _LocalOutput:
    """What the driver calls an ``OutputFile``."""

    def __init__(self, made: Any, path: Path) -> None:
        self._made, self._path, self.location = made, path, made.location

    def __len__(self) -> int:
        return len(self._made)

    def exists(self) -> bool:
        return bool(self._made.exists())

    def to_input_file(self) -> Any:
        return self._made.to_input_file()

    def create(self, **settings: bool) -> "_Durable":
        make_directory(self._path.parent, mode=0o777)
        return _Durable(self._path, os.O_TRUNC if settings.get("overwrite") else os.O_EXCL)


class _Durable:
    """What the driver asks of a file that it writes."""

    def __init__(self, path: Path, how: int) -> None:
        self._path = path
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how | PLAIN, 0o666), "wb")

    def write(self, content: bytes) -> int:
        return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        if self._file.closed:
            return
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        with opened(self._path.parent, FOLDER) as directory:
            os.fsync(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
