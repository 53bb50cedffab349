"""The drivers, imported at their first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = ["deltalake", "obstore", "obstore_exceptions", "obstore_store"]

if TYPE_CHECKING:
    import deltalake
    import obstore
    import obstore.exceptions as obstore_exceptions
    import obstore.store as obstore_store
else:
    deltalake = Lazy("deltalake")
    obstore = Lazy("obstore")
    obstore_exceptions = Lazy("obstore.exceptions")
    obstore_store = Lazy("obstore.store")
