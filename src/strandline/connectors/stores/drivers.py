"""The driver, imported at its first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = ["obstore", "obstore_exceptions", "obstore_store"]

if TYPE_CHECKING:
    import obstore
    import obstore.exceptions as obstore_exceptions
    import obstore.store as obstore_store
else:
    obstore = Lazy("obstore")
    obstore_exceptions = Lazy("obstore.exceptions")
    obstore_store = Lazy("obstore.store")
