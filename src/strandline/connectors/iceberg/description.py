"""What a user writes for a lake of Iceberg tables; see ``strandline.describe``."""

from typing import Any

from strandline.describe import Description, Place, file_place

__all__ = ["READ", "WRITTEN", "place_of", "texts"]

WRITTEN = Description(
    schemes=("iceberg",),
    examples=("iceberg://lake/",),
    drivers=("pyiceberg", "obstore"),
    installs="strandline[iceberg]",
)
READ = WRITTEN


def place_of(written: str) -> Place | None:
    """A directory after ``iceberg://``, with a catalog of its own; a path alone may be anything."""
    return file_place(written) if written.startswith("iceberg://") else None


def texts(given: Any) -> Any:
    """Settings as Iceberg writes them, of what YAML takes for a number or a boolean."""
    if not isinstance(given, dict):
        return given
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else value
        for name, value in given.items()
    }
