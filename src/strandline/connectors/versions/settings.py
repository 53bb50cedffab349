"""What is told of one table that keeps its versions."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["VersionedTable"]


class VersionedTable(BaseModel):
    """What is told of one table."""

    model_config = ConfigDict(extra="forbid")

    primary_key: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Columns that identify a row. Default: of tables that Strandline has written, theirs.",
    )
    mode: Literal["full"] | None = Field(default=None, description="`full` reads the table in full at every sync.")
