"""What a spec says of files: which there are, how they are written, and what to do about those that change."""

import re
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from strandline.connectors.arrow.json_path import json_path
from strandline.connectors.files.csv_settings import CSVSettings
from strandline.connectors.files.objects import split_url
from strandline.table_settings import PerTable

__all__ = ["FilesSettings", "FilesTable", "Format"]

Format = Literal["csv", "jsonl", "parquet"]
_AnyFormat = Annotated[Format, BeforeValidator(lambda value: "jsonl" if value == "json" else value)]


def _path_or_url(path: str) -> str:
    if re.match(r"[A-Za-z][\w+.-]*://", path):
        split_url(path)
    if not path or "\0" in path:
        raise ValueError("a path is needed")
    return path


def _path(value: str) -> str:
    json_path(value)
    return value


_Path = Annotated[str, AfterValidator(_path)]


_NEWEST = (
    "Column that orders the versions of a row, like updated_at: in the overwrite modes, of rows with one primary key the one with "
    "the greatest value is kept, in whatever file it is and whichever sync delivers it. Null is less than any value; of equal "
    "values the file that comes last wins. Values are compared as the column is stored: texts by their bytes."
)


class FilesTable(BaseModel):
    """What is told of one table."""

    model_config = ConfigDict(extra="forbid")

    primary_key: list[str] = Field(default=[], description="Columns that identify a row.")
    incremental_key: str | None = Field(default=None, description=_NEWEST)
    types: dict[str, str] = Field(default={}, description="Arrow types of columns.")
    records: _Path | None = Field(default=None, description="Where the records lie in a JSON document.")


class FilesSettings(BaseModel):
    """What to read, and what to do about files that change."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[str, AfterValidator(_path_or_url)] = Field(
        description="A directory, a file, or a pattern with * ? [] and ** (any number of directories); also below s3://bucket/, "
        "gs://bucket/ or az://container/, and a single file at https://. Names that begin with . or _ are passed over."
    )
    options: dict[str, str] = Field(
        default={},
        repr=False,
        description="Settings of the object store, as obstore names them: `endpoint`, `region`, `access_key_id`, "
        "`secret_access_key`, `account_name` and so on; of https://, headers of its requests. What is not there is taken from the "
        "environment or the machine's role, as usual.",
    )
    format: _AnyFormat | None = Field(
        default=None,
        description="Of all files. Default: by their names. JSON in lines and in documents is jsonl, or json.",
    )
    table: str | None = Field(
        default=None,
        min_length=1,
        description="One table from all files. Default: one for each directory at the top, or the name of a file there.",
    )
    primary_key: list[str] = Field(default=[], description="Columns that identify a row, in every table.")
    incremental_key: str | None = Field(default=None, description=_NEWEST)
    types: dict[str, str] = Field(
        default={},
        description="Arrow types of columns, like string, int64, timestamp[us, UTC] or "
        "decimal128(18, 4). string holds every value as it is written. Numbers with a fraction are doubles otherwise, "
        "which keep 15 digits.",
    )
    records: _Path | None = Field(
        default=None,
        description="Where the records lie in a JSON document: keys with dots between them, like data.items; * is every "
        "element or key. Default: the elements of an array, or each object, at the top.",
    )
    tables: PerTable[FilesTable] = Field(
        default_factory=partial(PerTable, FilesTable),
        description="Keys and types of single tables, by name or glob. They come before those of all tables.",
    )
    csv: CSVSettings = Field(default=CSVSettings(), description="How CSV files are written.")
    file_column: str | None = Field(
        default=None, min_length=1, description="Adds a column of this name with the path of the file of each row."
    )
    order: Literal["name", "modified"] = Field(
        default="name",
        description="In which order new files are read, so that in the overwrite modes the last one wins: by name, numbers in "
        "it by value (9 before 10), or by when they were last modified. With an `incremental_key` only among equal values.",
    )
    on_grow: Literal["tail", "reread"] = Field(
        default="tail", description="A file of lines has grown: deliver the new lines, or all of them again."
    )
    on_replace: Literal["reread", "fail"] = Field(
        default="reread", description="A file has changed otherwise: deliver all of it again, or fail."
    )
    on_vanish: Literal["ignore", "fail"] = Field(
        default="ignore", description="A file is gone: leave its rows and go on without it, or fail."
    )
    on_unfinished: Literal["wait", "fail"] = Field(
        default="wait",
        description="The last line of a file that was just written is not complete: leave it for the next sync, or fail.",
    )
