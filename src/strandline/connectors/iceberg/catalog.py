"""A catalog of Iceberg tables: opened at its first use, its errors as ours."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strandline.connectors.iceberg.drivers import ice_catalog, ice_exceptions
from strandline.connectors.lake.store import LocalStore, Store
from strandline.errors import StrandlineError, UnreachableError, UsageError
from strandline.paths import make_directory

__all__ = ["Catalog"]

FILE = "catalog.db"
_LOCKED_S = 60
_DURABLE = "strandline.connectors.iceberg.local_io.DurableFileIO"


class Catalog:
    """Safe to share between threads.

    Args:
        root: the directory of the lake; of an object store its URL.
        settings: as pyiceberg names them; empty: an SQLite file in the root.
        namespace: of the tables.
    """

    def __init__(self, root: str, settings: Mapping[str, str], namespace: tuple[str, ...]) -> None:
        self._root, self._settings, self.namespace = root, dict(settings), namespace
        self._own = Path(root) / FILE if not settings else None
        self._opened: Any = None
        self._lock = threading.Lock()

    @property
    def places_tables(self) -> bool:
        """Whether it says itself where tables lie."""
        return "warehouse" in self._settings or self._settings.get("type") in {"rest", "glue", "hive"}

    def load(self, name: str) -> Any:
        """A table; ``None``: there is none."""
        if self._own is not None and not self._own.exists():
            return None
        with self.explained(f"cannot read {name}"):
            try:
                return self.opened().load_table(self.identifier(name))
            except (ice_exceptions.NoSuchTableError, ice_exceptions.NoSuchNamespaceError):
                return None

    def create(self, name: str, **described: Any) -> None:
        """Make a table, unless there is one."""
        with self.explained(f"cannot make {name}"):
            try:
                self.opened().create_namespace_if_not_exists(self.namespace)
            except Exception:  # of two who make it at once, one is told that it is there
                if not self.opened().namespace_exists(self.namespace):
                    raise
            try:
                self.opened().create_table(self.identifier(name), **described)
            except ice_exceptions.TableAlreadyExistsError:
                return

    def commit(self, table: Any, requirements: tuple[Any, ...], updates: tuple[Any, ...]) -> Any:
        """Try a commit; what became of it, the next look tells. What there is then, where that is known."""
        with self.explained(f"cannot commit to {table.name()[-1]}"):
            try:
                return self.opened().commit_table(table, requirements, updates)
            except (ice_exceptions.CommitFailedException, ice_exceptions.CommitStateUnknownException):
                return None

    def drop(self, name: str) -> None:
        """Remove a table and its files."""
        with self.explained(f"cannot drop {name}"):
            try:
                self.opened().purge_table(self.identifier(name))
            except ice_exceptions.NoSuchTableError:
                return

    def identifier(self, name: str) -> tuple[str, ...]:
        """Of a table."""
        return (*self.namespace, name)

    def opened(self) -> Any:
        """The driver's catalog."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> Any:
        settings = {"py-io-impl": _DURABLE, **self._settings} if "://" not in self._root else self._settings
        if self._own is None:
            return ice_catalog.load_catalog(self._settings.get("name", "strandline"), **settings)
        make_directory(self._own.parent, mode=0o777)
        uri = f"sqlite:///{self._own}?timeout={_LOCKED_S}"
        for last in (False, False, True):
            try:
                return ice_catalog.load_catalog("strandline", **{**settings, "type": "sql", "uri": uri})
            except Exception:  # of two who make its tables at once, one is told that they are there
                if last:
                    raise
        raise UsageError(f"{self._own}: cannot be opened")

    @contextmanager
    def explained(self, problem: str) -> Iterator[None]:
        """Turn an error of the driver into ours."""
        try:
            yield
        except (StrandlineError, OSError):
            raise
        except (ValueError, TypeError, ImportError) as error:
            raise UsageError(f"the catalog of {self._root}: {problem}: {_first_line(error)}") from error
        except Exception as error:
            raise UnreachableError(
                f"the catalog of {self._root}: {problem}: {_first_line(error)}",
                hint="is it up, and may this user write there?",
            ) from error


def is_local(store: Store) -> bool:
    """Whether a lake lies in a directory."""
    return isinstance(store, LocalStore)


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:300]
