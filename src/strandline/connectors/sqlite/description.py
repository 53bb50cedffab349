"""What an SQLite file is called, and how one begins; see ``strandline.describe``."""

from strandline.describe import Description

__all__ = ["READ", "WRITTEN"]

_SUFFIXES = (".db", ".sqlite", ".sqlite3", ".db3")
_MAGIC = ((0, b"SQLite format 3\0"),)
READ = Description(schemes=("sqlite",), suffixes=_SUFFIXES, magic=_MAGIC, examples=("shop.db",), drivers=("sqlite3",))
WRITTEN = Description(
    schemes=("sqlite",), suffixes=_SUFFIXES, magic=_MAGIC, examples=("copy.sqlite",), drivers=("sqlite3",)
)
