"""What the settings of destinations in directories and object stores have in common."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LakeSpec"]


class LakeSpec(BaseModel):
    """Where the tables are."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(
        min_length=1,
        description="The directory, made if it is missing; or `s3://bucket/prefix`, `gs://bucket/prefix` or "
        "`az://container/prefix`.",
    )
    schema_name: str | None = Field(
        None,
        alias="schema",
        min_length=1,
        description="A directory below `path` for the tables and their log, so that several destinations can share a "
        "`path` and nothing else. Default: none, the tables are directly below `path`.",
    )
