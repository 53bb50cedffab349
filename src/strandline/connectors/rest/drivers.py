"""The HTTP client and JSONPath, each imported at its first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = [
    "jsonpath",
    "jsonpath_filter",
    "jsonpath_segments",
    "jsonpath_selectors",
    "urllib3",
    "urllib3_connection",
    "urllib3_connectionpool",
    "urllib3_exceptions",
]

if TYPE_CHECKING:
    import jsonpath
    import jsonpath.filter as jsonpath_filter
    import jsonpath.segments as jsonpath_segments
    import jsonpath.selectors as jsonpath_selectors
    import urllib3
    import urllib3.connection as urllib3_connection
    import urllib3.connectionpool as urllib3_connectionpool
    import urllib3.exceptions as urllib3_exceptions
else:
    jsonpath = Lazy("jsonpath")
    jsonpath_filter = Lazy("jsonpath.filter")
    jsonpath_segments = Lazy("jsonpath.segments")
    jsonpath_selectors = Lazy("jsonpath.selectors")
    urllib3 = Lazy("urllib3")
    urllib3_connection = Lazy("urllib3.connection")
    urllib3_connectionpool = Lazy("urllib3.connectionpool")
    urllib3_exceptions = Lazy("urllib3.exceptions")
