"""The HTTP client, imported at its first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = ["urllib3", "urllib3_connection", "urllib3_connectionpool", "urllib3_exceptions"]

if TYPE_CHECKING:
    import urllib3
    import urllib3.connection as urllib3_connection
    import urllib3.connectionpool as urllib3_connectionpool
    import urllib3.exceptions as urllib3_exceptions
else:
    urllib3 = Lazy("urllib3")
    urllib3_connection = Lazy("urllib3.connection")
    urllib3_connectionpool = Lazy("urllib3.connectionpool")
    urllib3_exceptions = Lazy("urllib3.exceptions")
