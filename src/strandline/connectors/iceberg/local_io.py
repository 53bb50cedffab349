"""How pyiceberg writes metadata on a local disk: durable before a catalog names it. The driver imports this, by name."""

import os
from pathlib import Path
from typing import Any, Self

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from strandline.paths import FOLDER, PLAIN, make_directory, opened

__all__ = ["DurableFileIO"]


class DurableFileIO(PyArrowFileIO):
    """Of local files, those that it writes survive a power cut once they are closed."""

    def new_output(self, location: str) -> PyArrowFile:
        """See ``FileIO``."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return _LocalOutput(location, path, self.fs_by_scheme(scheme, netloc))


class _LocalOutput(PyArrowFile):
    def create(self, overwrite: bool = False) -> Any:  # noqa: FBT001, FBT002 -- the driver calls it so
        path = Path(self._path)
        make_directory(path.parent, mode=0o777)
        return _Durable(path, os.O_TRUNC if overwrite else os.O_EXCL)


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
