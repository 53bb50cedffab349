"""The driver, imported at its first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING, Any

from strandline.lazy import Lazy

__all__ = ["delta_fs", "deltalake", "pa_fs"]

if TYPE_CHECKING:
    import deltalake
else:
    deltalake = Lazy("deltalake")
delta_fs: Any = Lazy("deltalake.fs")
pa_fs: Any = Lazy("pyarrow.fs")
