"""What a user writes for a lake of Delta tables; see ``strandline.describe``."""

from dataclasses import replace

from strandline.describe import Description, Place, file_place
from strandline.errors import UsageError

__all__ = ["READ", "WRITTEN", "place_of"]

_OBJECTS = ("s3", "s3a", "gs", "az", "abfs", "abfss")
WRITTEN = Description(
    schemes=("delta", *(f"delta+{scheme}" for scheme in _OBJECTS)),
    examples=("delta://lake/", "delta+s3://bucket/prefix"),
    drivers=("deltalake", "obstore"),
    installs="strandline[delta]",
)
READ = replace(WRITTEN, examples=("delta://lake/", "delta+s3://bucket/prefix/orders"))


def place_of(written: str) -> Place | None:
    """A directory after ``delta://``, or an object store after ``delta+``; a path alone may be anything.

    Raises:
        UsageError: it has a user and a password.
    """
    if not written.startswith(("delta+", "delta://")):
        return None
    if written.startswith("delta://"):
        return file_place(written)
    url = written.removeprefix("delta+")
    rest = url.partition("://")[2]
    if "@" in rest.partition("/")[0] and not url.startswith("abfs"):
        raise UsageError("the URL of a lake has no user and no password", hint="credentials go into the environment")
    bucket, _, prefix = rest.rstrip("/").partition("/")
    return Place({"path": url.rstrip("/")}, stem=(prefix.rpartition("/")[2] or bucket), shown=url)
