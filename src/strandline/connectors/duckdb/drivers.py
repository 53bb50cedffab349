"""The driver, imported at its first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = ["duckdb"]

if TYPE_CHECKING:
    import duckdb
else:
    duckdb = Lazy("duckdb")
