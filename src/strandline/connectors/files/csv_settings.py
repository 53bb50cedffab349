"""What a spec says of how CSV files are written."""

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["CSVSettings"]


def _one_byte(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value in "\r\n":
        raise ValueError(f"{value!r} is not a single ASCII character")
    return value


def _encoding(value: str) -> str:
    try:
        # A byte order mark is passed over in any case.
        return codecs.lookup(value).name.removesuffix("-sig")
    except LookupError as error:
        raise ValueError(f"{value!r} is not the name of an encoding") from error


_Character = Annotated[str, AfterValidator(_one_byte)]


class CSVSettings(BaseModel):
    """How CSV files are written."""

    model_config = ConfigDict(extra="forbid")

    skip: int = Field(
        default=0, ge=0, description="How many lines stand before the header, or before the first record."
    )
    comment: _Character | None = Field(
        default=None,
        description="What a line begins with that is no record, like #. Default: every line is one. Such a line may stand anywhere "
        "but within quotes.",
    )

    delimiter: _Character | None = Field(
        default=None,
        description="What stands between two values. Default: what the header of each file says, of , ; | and the tab.",
    )
    quote: _Character | None = Field(
        default='"', description="What encloses a value; doubled inside it. null: quotes mean nothing."
    )
    header: bool | list[str] = Field(
        default=True,
        description="Whether the first record names the columns; or their names, for files that do not. "
        "A column without a name is f0, f1, … by its place.",
    )
    decimal: Literal[".", ","] | None = Field(
        default=None,
        description="What stands before a fraction. Default: a point; or a comma where ; is between values and it is sure.",
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        default="utf-8",
        description="The encoding of the files. Bytes that do not fit it are an error. A byte order mark comes before it.",
    )
    null_values: list[str] = Field(
        default=[""], description="What means null where it stands without quotes. By default: nothing at all."
    )
    quoted_nulls: bool = Field(
        default=False, description='Whether it means null in quotes too. By default "" is an empty text.'
    )
