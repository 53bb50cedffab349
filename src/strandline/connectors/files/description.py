"""What a user writes for files; see ``strandline.describe``."""

import os
import re
from pathlib import Path

from strandline.connectors.files.paths import SUFFIXES
from strandline.describe import Description, Place, file_place, name_of_file
from strandline.errors import UsageError

__all__ = ["READ", "WRITTEN", "directory"]

_SCHEMES = ("files", "file")
_WILD = re.compile(r"[*?\[]")
READ = Description(schemes=_SCHEMES, suffixes=SUFFIXES, folders=True, examples=("data/", "'data/*.csv'"))
WRITTEN = Description(schemes=_SCHEMES, suffixes=SUFFIXES, folders=True, examples=("lake/",))


def directory(written: str) -> Place:
    """Where tables are written.

    Raises:
        UsageError: it names files.
    """
    place = file_place(written)
    path = place.settings["path"]
    names_files = _WILD.search(path) or name_of_file(path).endswith(SUFFIXES)
    if names_files and not path.endswith(os.sep) and not Path(path).is_dir():
        raise UsageError(
            f"{path!r} names files, but tables are written as files of a directory",
            hint="name the directory, as lake/, and choose `format` in the spec",
        )
    return place
