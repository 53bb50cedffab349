"""The driver, imported at its first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = ["deltalake"]

if TYPE_CHECKING:
    import deltalake
else:
    deltalake = Lazy("deltalake")
