"""What is told of files before they are read: how they are written, and what may be said of their tables in a spec."""

from collections import Counter
from collections.abc import Iterator, Sequence

from strandline.connectors.files.csv import CSVLines
from strandline.connectors.files.dialect import in_words
from strandline.connectors.files.reading import LineFormat
from strandline.connectors.files.settings import FilesSettings
from strandline.connectors.sql.key_names import says_changed
from strandline.lazy import pa
from strandline.proposal import Proposal, Setting
from strandline.table import Guarantee, Table, has_order

__all__ = ["guarantee_of", "how_written", "propose"]


def how_written(made: Sequence[LineFormat]) -> str:
    """How the files are written that were looked at, for ``plan``: what stands between values, and what a byte order mark says."""
    found = sorted({one.delimiter.encode() for one in made if isinstance(one, CSVLines) and one.names})
    said = [f"CSV with {' or '.join(map(in_words, found))} between values"] if found else []
    for encoding, count in sorted(Counter(one.encoding for one in made if one.encoding).items()):
        some = f" of {count} of {len(made)} files" if count < len(made) else ""
        said.append(f"{encoding.upper()}, by the byte order mark{some}")
    return "; ".join(said)


def guarantee_of(spec: FilesSettings) -> Guarantee:
    """What is promised of every table."""
    rereads = spec.on_replace == "reread"
    again = "is delivered again in full, as new versions of its rows" if rereads else "fails"
    if "://" in spec.path:
        unseen = "an object that was changed so that its size, time and ETag stay the same is not noticed"
        again += "; a Parquet object that is written again as it was, too, where the store then gives another ETag"
    else:
        unseen = "a file that was changed so that its size, times and inode stay the same is not noticed"
    limits = [
        unseen,
        f"a file that was replaced {again}; rows that are in no file any more stay",
        "a last line without a newline waits until its file was quiet for 5 s; then it is read, or fails the table",
    ]
    return Guarantee("settled (file contents)", "; ".join(limits))


def propose(tables: Sequence[Table]) -> Iterator[Proposal]:
    """A proposal for each table. What its rows mean, no file says."""
    for table in tables:
        if table.unreadable is not None:
            notes: tuple[str, ...] = (f"{table.unreadable.message}; {table.unreadable.hint}",)
            yield Proposal(table.name, table.name, "", "cannot be read yet", notes=notes)
            continue
        notes = tuple(note for note in (table.description, table.access) if note)
        yield Proposal(table.name, table.name, "", table.guarantee.name, options=tuple(_options(table)), notes=notes)


def _options(table: Table) -> Iterator[Setting]:
    names = {name.lower(): name for name in table.schema.names}
    if "id" in names and not pa.types.is_floating(table.schema.field(names["id"]).type):
        why = "if it tells rows apart; with `write_mode: overwrite` the last version of each is kept"
        yield Setting("primary_key", [names["id"]], why)
        for one in [one for one in table.schema if says_changed(one.name) and has_order(one)][:1]:
            yield Setting("incremental_key", one.name, "then the newest version, in whatever file it is")
    if fractions := [one.name for one in table.schema if pa.types.is_float64(one.type)]:
        yield Setting("types", dict.fromkeys(fractions, "decimal(18, 4)"), "doubles keep 15 digits")
