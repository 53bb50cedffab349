"""A schema of the destination ``files``: a directory below ``path`` with a commit log of its own.

::

    lake/                       ``path``; it need not be the root of a destination itself
    ├── .strandline/
    └── crm/                    the root of ``schema: crm``
        ├── .strandline/
        └── orders/

So destinations of one ``path`` and different schemas have nothing in common. But a destination without a schema may have a
table of the same name, whose files would be among those of the other: whichever of the two comes second is refused. Both
look, and take the directory, while they hold the lock of ``path``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from strandline.connectors.files.log import Log
from strandline.connectors.files.store import OWN, Store
from strandline.connectors.files.stored_tables import folder_of
from strandline.errors import UsageError
from strandline.paths import FOLDER, encode_part, make_directory, opened

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a destination is."""

    path: Path
    schema: str | None = None

    @property
    def root(self) -> Path:
        """Where its tables are."""
        return self.path if self.schema is None else self.path / encode_part(self.schema)

    def check(self) -> None:
        """Whether its root can be made, if it has to be; changes nothing.

        Raises:
            UsageError: it is the directory of a table.
        """
        if self.schema is not None:
            self._check(Store(self.path, allow_network=True).look())

    @contextmanager
    def claim(self) -> Iterator[None]:
        """While this lasts, the root can be made, and will belong to no table. Raises as ``check``."""
        if self.schema is None:
            yield
            return
        make_directory(self.path, mode=0o777)
        make_directory(self.path / OWN)
        for folder in (self.path, self.path.parent):  # whoever made them may have been killed before they were durable
            with suppress(PermissionError), opened(folder, FOLDER) as directory:
                os.fsync(directory)
        with Store(self.path, allow_network=True).alone() as log:
            self._check(log)
            yield

    def _check(self, log: Log) -> None:
        table = next((name for name in log.tables if self.path / folder_of(name) == self.root), None)
        if table is not None:
            raise UsageError(
                f"{self.root} has the files of the table {table!r}, so it cannot be that of the schema {self.schema!r}",
                hint="choose another `schema`, or another `path`",
            )
