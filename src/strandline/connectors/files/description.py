"""What a user writes for files; see ``strandline.describe``."""

import os
import re
from pathlib import Path

from strandline.connectors.files.objects import URL_SCHEMES, split_url
from strandline.connectors.files.paths import SUFFIXES, Parts
from strandline.connectors.stores.opening import OBJECT_SCHEMES
from strandline.describe import Description, Place, file_place, name_of_file
from strandline.errors import UsageError

__all__ = ["READ", "WRITTEN", "directory", "place_of"]

_SCHEMES = ("files", "file")
_NO_API = tuple(one for one in SUFFIXES if one != ".json")
_WILD = re.compile(r"[*?\[]")
READ = Description(
    schemes=(*_SCHEMES, *URL_SCHEMES),
    suffixes=SUFFIXES,
    folders=True,
    examples=("data/", "'data/*.csv'", "'s3://bucket/prefix/*.parquet'"),
)
WRITTEN = Description(
    schemes=(*_SCHEMES, *OBJECT_SCHEMES), suffixes=SUFFIXES, folders=True, examples=("lake/", "s3://bucket/prefix")
)


def place_of(written: str) -> Place | None:
    """Where files are read; ``None``: a page of an API, which may well end in ``.json``.

    Raises:
        UsageError: it has a user and a password, or is no such URL.
    """
    if not written.startswith(tuple(f"{scheme}://" for scheme in URL_SCHEMES)):
        return file_place(written)
    name = name_of_file(written.partition("?")[0])
    if written.startswith(("https://", "http://")) and not name.endswith(_NO_API):
        return None
    bucket, parts = _split(written)
    above = [part for part in parts if not _WILD.search(part)]
    stem = above[-1] if above else bucket.partition("://")[2]
    return Place({"path": written}, stem.partition(".")[0], written)


def directory(written: str) -> Place:
    """Where tables are written.

    Raises:
        UsageError: it names files; or has a user and a password, or is no such URL.
    """
    if written.startswith(tuple(f"{scheme}://" for scheme in OBJECT_SCHEMES)):
        bucket, parts = _split(written)
        last = parts[-1] if parts else bucket.partition("://")[2]
        if _WILD.search(written) or last.endswith(SUFFIXES):
            raise _names_files(written)
        return Place({"path": written.rstrip("/")}, last, written)
    place = file_place(written)
    path = place.settings["path"]
    names_files = _WILD.search(path) or name_of_file(path).endswith(SUFFIXES)
    if names_files and not path.endswith(os.sep) and not Path(path).is_dir():
        raise _names_files(path)
    return place


def _split(url: str) -> tuple[str, Parts]:
    try:
        return split_url(url)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _names_files(path: str) -> UsageError:
    return UsageError(
        f"{path!r} names files, but tables are written as files of a directory",
        hint="name the directory, as lake/, and choose `format` in the spec",
    )
