"""The driver, imported at its first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = ["sqlite3"]

if TYPE_CHECKING:
    import sqlite3
else:
    sqlite3 = Lazy("sqlite3")
