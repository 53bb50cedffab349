"""Heavy modules, imported at their first use.

``strandline --help``, ``validate-config`` and ``state list`` must not pay for Arrow or a driver, yet the settings of a
connector stand in the connector's own file. So built-in modules write ``from strandline.lazy import pa`` and the real
module is imported when an attribute is first read. ``importlib`` serialises that between threads.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = [
    "adbc",
    "adbc_postgresql",
    "duckdb",
    "pa",
    "pa_csv",
    "pa_json",
    "pc",
    "pgpq",
    "pgpq_encoders",
    "pgpq_schema",
    "pq",
    "psycopg",
    "sqlite3",
]


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import sqlite3

    import adbc_driver_manager as adbc
    import adbc_driver_postgresql as adbc_postgresql
    import duckdb
    import pgpq
    import pgpq.encoders as pgpq_encoders
    import pgpq.schema as pgpq_schema
    import psycopg
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pa_csv
    import pyarrow.json as pa_json
    import pyarrow.parquet as pq
else:
    adbc = _Lazy("adbc_driver_manager")
    adbc_postgresql = _Lazy("adbc_driver_postgresql")
    duckdb = _Lazy("duckdb")
    pa = _Lazy("pyarrow")
    pa_csv = _Lazy("pyarrow.csv")
    pa_json = _Lazy("pyarrow.json")
    pc = _Lazy("pyarrow.compute")
    pgpq = _Lazy("pgpq")
    pgpq_encoders = _Lazy("pgpq.encoders")
    pgpq_schema = _Lazy("pgpq.schema")
    pq = _Lazy("pyarrow.parquet")
    psycopg = _Lazy("psycopg")
    sqlite3 = _Lazy("sqlite3")
