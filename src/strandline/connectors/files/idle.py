"""Tables of which nothing has changed, as a list of all files tells without a look into any."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from strandline.connectors.files.paths import File
from strandline.connectors.files.positions import SETTLED, positions_of
from strandline.errors import StateError
from strandline.message import Cursor
from strandline.reading import Reading
from strandline.source import Task

__all__ = ["unchanged"]


def unchanged(files: Iterable[File], asked: Sequence[tuple[Task, Reading]]) -> Mapping[str, str]:
    """The tasks whose tables have the files that their cursors remember, and no others, each with the evidence.

    Each file looks as it did when it was read, and was not so young then that a change might not show: a ``Survey`` would not open any.
    """
    by_table = defaultdict[str, list[File]](list)
    for file in files:
        if file.format is not None:
            by_table[file.table].append(file)
    return {
        task.id: f"size, times and identity of {len(by_table[task.id]):,} files are those that were read"
        for task, reading in asked
        if _are_settled(by_table[task.id], reading.cursor)
    }


def _are_settled(files: Sequence[File], cursor: Cursor | None) -> bool:
    try:
        known = positions_of(cursor)
    except StateError:
        return False  # reading says so
    return (
        cursor is not None
        and len(known) == len(files)
        and all(
            (one := known.get(file.key)) is not None and one.mark == SETTLED and one.unchanged(file) for file in files
        )
    )
