"""The destinations: how each is set up and looked into."""

import io
import sqlite3
import uuid
from contextlib import closing, contextmanager

import deltalake
import duckdb
import obstore
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import S3Store
from pyiceberg.catalog.sql import SqlCatalog

from campaign.keepers import s3
from campaign.series import WINDOW_ROWS
from strandline.plugins import plugin_names

_OURS = ("cq_state", "cq_state_history", "cq_delivered", "cq_tables")


class Store:
    """A destination of one cell."""

    modes = ("append", "overwrite", "overwrite-delete-stale")
    files = ()
    """Names of files that it may leave in the directory of the world."""
    places = ()
    """Parts of the paths of its files."""
    repeats = False
    """Rows that are read again may be appended again."""
    repeats_passes = False
    """So may rows of a window that was interrupted."""
    one_process = False
    """Nobody writes it but the process of the run, whatever the executor."""

    def __init__(self, world, **settings):
        self.world = world
        self.spec = {"path": self.kind, "spec": {**settings, "batch_size": WINDOW_ROWS}}

    def left(self):
        """What no run needs any more, of what only the destination knows."""
        return set()

    def execute(self, sql):
        with self.reader() as do:
            do(sql)

    def contents(self, columns):
        """By table: (time of the pass, (value, …)) of each row."""
        with self.reader() as read:
            tables = {row[0] for row in read(self.catalogue)} - {*_OURS}
            sql = f'SELECT CAST(_cq_sync_time AS VARCHAR(40)), {", ".join(columns)} FROM "{{}}"'
            return {name: [(time, tuple(row)) for time, *row in read(sql.format(name))] for name in tables}


class DuckDBStore(Store):
    kind = "duckdb"
    one_process = True
    places = ("/warehouse.",)
    files = ("warehouse.duckdb",)

    def __init__(self, world):
        super().__init__(world, path=str(world / "warehouse.duckdb"))

    catalogue = "SELECT table_name FROM duckdb_tables()"

    @contextmanager
    def reader(self):
        with closing(duckdb.connect(str(self.world / "warehouse.duckdb"), config={"threads": 1})) as connection:
            yield lambda sql: connection.execute(sql).fetchall()


class SQLiteStore(Store):
    kind = "sqlite"
    one_process = True
    places = ("/warehouse.",)
    files = ("warehouse.sqlite",)

    def __init__(self, world):
        # a run that is suspended in the middle of a transaction is not waited for as long as usual
        super().__init__(world, path=str(world / "warehouse.sqlite"), busy_timeout="2s")

    catalogue = "SELECT name FROM sqlite_schema WHERE type = 'table'"

    @contextmanager
    def reader(self):
        with closing(sqlite3.connect(self.world / "warehouse.sqlite", isolation_level=None)) as connection:
            yield lambda sql: connection.execute(sql).fetchall()


class PostgreSQLStore(Store):
    kind = "postgresql"

    def __init__(self, world, uri, *, by=None):
        super().__init__(world, connection_string=by or uri, lock_timeout="2s")
        self._uri = uri

    catalogue = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"

    @contextmanager
    def reader(self):
        with psycopg.connect(self._uri, autocommit=True) as connection:

            def read(sql):
                cursor = connection.execute(sql)
                return cursor.fetchall() if cursor.description else []

            yield read


class FilesStore(Store):
    """What a user's glob finds."""

    kind = "files"
    places = ("/lake",)
    modes = ("append",)
    files = ("lake",)

    def __init__(self, world):
        super().__init__(world, path=str(world / "lake"))

    def contents(self, columns):
        lake = self.world / "lake"
        found = {}
        for folder in sorted(lake.glob("[!.]*")):
            rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]
            found[folder.name] = [(str(row["_cq_sync_time"]), tuple(row[one] for one in columns)) for row in rows]
        return found

    def left(self):
        return {path.name for path in (self.world / "lake/.strandline/staged").glob("*")}


class BucketStore(Store):
    """What a glob finds in an object store."""

    kind = "files"
    modes = ("append",)

    def __init__(self, world):
        self._root = uuid.uuid4().hex
        self._options = s3().options
        super().__init__(world, path=f"s3://bucket/{self._root}", options=self._options)

    def contents(self, columns):
        store = S3Store("bucket", client_options={"allow_http": True}, **self._options)
        found = {}
        for one in (one for some in obstore.list(store, prefix=self._root) for one in some):
            _, folder, name = one["path"].split("/", 2)
            if name.endswith(".parquet"):
                rows = pq.read_table(io.BytesIO(obstore.get(store, one["path"]).bytes())).to_pylist()
                found.setdefault(folder, []).extend(
                    (str(row["_cq_sync_time"]), tuple(row[one] for one in columns)) for row in rows
                )
        return found


class DeltaStore(Store):
    """What a reader of Delta finds, who knows nothing of us."""

    kind = "delta"
    places = ("/lake",)
    files = ("lake",)

    def __init__(self, world):
        super().__init__(world, path=str(world / "lake"))

    def contents(self, columns):
        found = {}
        for folder in sorted(path.parent for path in (self.world / "lake").glob("*/_delta_log")):
            rows = (
                deltalake.DeltaTable(folder).to_pyarrow_table().to_pylist()
                if any((folder / "_delta_log").glob("*.json"))
                else []
            )
            found[folder.name] = [(str(row["_cq_sync_time"]), tuple(row[one] for one in columns)) for row in rows]
        return found


class IcebergStore(Store):
    """What pyiceberg finds."""

    kind = "iceberg"
    places = ("/lake",)
    files = ("lake",)

    def __init__(self, world):
        super().__init__(world, path=str(world / "lake"))

    def contents(self, columns):
        if not (self.world / "lake/catalog.db").exists():
            return {}
        catalog = SqlCatalog("strandline", uri=f"sqlite:///{self.world}/lake/catalog.db")
        found = {}
        with closing(catalog):
            for name in catalog.list_tables("default") if catalog.namespace_exists("default") else ():
                rows = catalog.load_table(name).scan().to_arrow().to_pylist()
                found[name[-1]] = [(str(row["_cq_sync_time"]), tuple(row[one] for one in columns)) for row in rows]
        return found


class PlainStore(Store):
    """Keeps no states: the double of ``strandline.testing.plain``, which is installed for the syncs only."""

    kind = "plain"
    places = ("/plain",)
    files = ("plain",)
    repeats = repeats_passes = True

    def __init__(self, world, **settings):
        super().__init__(world, path=str(world / "plain"), **settings)

    def contents(self, columns):
        found = {}
        for path in sorted((self.world / "plain").glob("*.rows")):
            with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                rows = reader.read_all().to_pylist()
            found[path.stem] = [(str(row["_cq_sync_time"]), tuple(row[one] for one in columns)) for row in rows]
        return found

    def left(self):
        """What a kill has left of a file that was being written is hidden, and nobody's."""
        return set()


class IdempotentStore(PlainStore):
    """The same, where a window that comes again replaces what it was."""

    repeats_passes = False

    def __init__(self, world):
        super().__init__(world, delivery="idempotent")


_ALL = {
    "duckdb": DuckDBStore,
    "sqlite": SQLiteStore,
    "postgresql": PostgreSQLStore,
    "files": FilesStore,
    "delta": DeltaStore,
    "iceberg": IcebergStore,
}
STORES = {name: _ALL[name] for name in _ALL if name in plugin_names("destination")}
STORES |= {"bucket": BucketStore} if "files" in STORES else {}
STORES |= {"plain": PlainStore, "idempotent": IdempotentStore}
