"""The drivers, imported at their first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = ["adbc", "adbc_postgresql", "pgpq", "pgpq_encoders", "pgpq_schema", "psycopg"]

if TYPE_CHECKING:
    import adbc_driver_manager as adbc
    import adbc_driver_postgresql as adbc_postgresql
    import pgpq
    import pgpq.encoders as pgpq_encoders
    import pgpq.schema as pgpq_schema
    import psycopg
else:
    adbc = Lazy("adbc_driver_manager")
    adbc_postgresql = Lazy("adbc_driver_postgresql")
    pgpq = Lazy("pgpq")
    pgpq_encoders = Lazy("pgpq.encoders")
    pgpq_schema = Lazy("pgpq.schema")
    psycopg = Lazy("psycopg")
