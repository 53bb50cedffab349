"""What a user writes for a lake of Iceberg tables; see ``strandline.describe``."""

from strandline.describe import Description, Place, file_place

__all__ = ["WRITTEN", "place_of"]

WRITTEN = Description(
    schemes=("iceberg",),
    examples=("iceberg://lake/",),
    drivers=("pyiceberg", "obstore"),
    installs="strandline[iceberg]",
)


def place_of(written: str) -> Place | None:
    """A directory after ``iceberg://``, with a catalog of its own; a path alone may be anything."""
    return file_place(written) if written.startswith("iceberg://") else None
