"""The settings of the destination ``files``."""

import re

from pydantic import Field, model_validator

from strandline.connectors.files.formats import FORMATS, Compression, FileFormat
from strandline.connectors.files.objects import split_url
from strandline.connectors.lake.settings import LakeSpec
from strandline.connectors.stores.opening import OBJECT_SCHEMES

__all__ = ["FilesSpec"]

_STRANGE = re.compile(r"[?#*\[]|%[0-9A-Fa-f]{2}")


class FilesSpec(LakeSpec):
    """Where the files are, and what they are."""

    format: FileFormat = Field(FileFormat.PARQUET, description="parquet, csv or jsonl.")
    compression: Compression | None = Field(
        None,
        description="Parquet: zstd (the default), snappy, gzip or none. CSV and JSON lines: none (the default), gzip or "
        "zstd, of the whole file.",
    )
    partition_by: tuple[str, ...] = Field(
        (),
        description="Columns whose values become directories, `column=value`, as Hive names them; they are left out of "
        "the files. Texts, whole numbers, dates and booleans. A commit is then several files, which come into sight one "
        "after the other.",
    )
    partitions_max: int = Field(
        200,
        ge=1,
        description="How many files one commit may have for a table, with partition_by; more is an error.",
    )
    allow_network: bool = Field(
        default=False,
        description="Allow a network file system. Its locks may not hold, so two runs may both believe they won.",
    )
    options: dict[str, str] = Field(
        default={},
        repr=False,
        description="Settings of the object store, as obstore names them: `endpoint`, `region`, `access_key_id`, "
        "`secret_access_key` and so on. What is not there is taken from the environment, as usual.",
    )

    @property
    def in_objects(self) -> bool:
        """Whether it is an object store."""
        return "://" in self.path

    @model_validator(mode="after")
    def _fits(self) -> "FilesSpec":
        can = FORMATS[self.format].compressions
        if self.compression is not None and self.compression not in can:
            raise ValueError(f"{self.format.value} can be compressed by {', '.join(can)}, not {self.compression.value}")
        if len(set(self.partition_by)) < len(self.partition_by):
            raise ValueError("partition_by names a column twice")
        if not self.in_objects:
            if self.options:
                raise ValueError("options are those of an object store, and path is a directory")
            return self
        if not self.path.startswith(tuple(f"{scheme}://" for scheme in OBJECT_SCHEMES)):
            raise ValueError(f"path is a directory or a URL of an object store ({', '.join(OBJECT_SCHEMES)})")
        split_url(self.path)
        if found := _STRANGE.search(self.path):
            raise ValueError(f"path has {found[0]!r}, which the driver or a reader would take for something else")
        if self.allow_network:
            raise ValueError("allow_network is for a directory, and path is an object store")
        return self
