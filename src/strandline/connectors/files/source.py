"""The ``files`` source: CSV, JSON and Parquet files of a directory, a pattern or one file, read incrementally; also objects.

A table is a set of files, and its cursor says of each what was delivered (see ``positions``). A sync reads the
files that are new and the tails of those that have grown, and does not open what looks unchanged.

What is promised:

- Every complete record of every file is delivered, whatever its name, its times and its order. A file that looks
  changed is compared with the digest of what was read of it, so that touching, copying back or renaming one delivers
  nothing twice. One that was changed within 2 s before it was read is compared at the next sync too, for its times may
  be too coarse to show a change.
- Growth: the new lines (``on_grow: tail``), or the whole file again as new versions of its rows (``reread``). A file
  has grown when it begins with all that was read of it.
- In the overwrite modes the last row of a key wins: the files that a sync reads are read in the order of their names, numbers
  in them by value (``order: name``), or of their times (``modified``). A file that comes later wins over what came before.
  With an ``incremental_key`` the row with the greatest value there wins instead, in whatever file it is and whichever sync
  delivers it: a late, older file replaces no newer row. Null is less than any value; of equal ones the last row wins. Values are
  compared as the column is stored: texts by their bytes, so that times that are text need one form. After a pass from nothing
  with ``overwrite-delete-stale`` there is the newest of what the files hold then. In append mode it means nothing.
- An object of a store is a file, its key the name, and its ETag the sign of a change. A store replaces objects, so that growth is an
  object that begins with all that was read of the one before it. What is fetched is of one version: an object that is replaced
  meanwhile is listed and compared again, and one that became longer is read on as far as it went. A Parquet object is the same one
  while its ETag is, and is replaced once it has another one, whatever is in it.
- Anything else, a shorter file too, is a replacement: the whole file is delivered again as new versions of its rows,
  which append mode adds to the old ones (``on_replace: reread``), or is an error (``fail``). Rows that are in it no
  more stay in the destination.
- A file that vanishes is forgotten, and its rows stay (``on_vanish: ignore``), or is an error (``fail``); so is a table
  all of whose files vanish. If it comes back after a sync without it, it is a new file. The cursor remembers that files have
  vanished: a full refresh drops their rows only with ``--allow-mass-delete``, and a forced migration never.
- Logs are rotated as one likes, and every line is delivered once: by renaming, by copying and truncating, compressed at
  once or later, several times between two syncs, and while they are read. For a file is known by its inode and by what
  was read of it. If it begins with that, and has another name now, then only what is new is read, provided that

  - the old name has another content, or
  - the new name begins with the old one (``app.log``, ``app.log-20240101``), or only their numbers differ
    (``app.log.1``, ``app.log.2.gz``), or
  - nothing was added: it has the same inode, size and time, or the same content to the last byte, compressed perhaps.

  What has no rows yet, a header perhaps, is no sign of anything. Lines that are removed before a sync can see them are
  missing, and so are those that a program writes between the copy and the truncation.
- Any other file that begins the same is another one, and so is a copy. A copy of a log beside it, ``app.log.1`` or
  ``app.log.gz``, is left for the next sync if it was changed within 5 s before the run: it is being rotated, perhaps.
- A last line without a newline is delivered once its file has not been changed for 5 s before the run. What is no whole
  record then, as behind a quote that is open, is an error. If the line goes on later, it was none, and is delivered
  again when it is complete. Before the 5 s, it is left for the next sync, or is an error (``on_unfinished: wait | fail``).
- A JSON document is an array of records, an object that is one, or has records at the path ``records``. It has grown when
  it begins with the same records. While it does not end it is read as far as it goes; as with a last line. Objects over several
  lines may follow others in a line each, where these have no blanks around them: what was read then stays what it was.
- A file with something in it is never passed over: if none of a table's files has a first record that can be read, the
  table fails, and the other tables go on. gzip and zstd are known by their first bytes too.
- Times are compared with the start of the run: the clocks of its machine and of the file system have to agree within
  those 2 s.
- What stands between the values of a CSV file is what its header says, of ``, ; |`` and the tab; where that is not sure the
  table fails, and ``csv.delimiter`` says it. A header that comes again within a file is no row; a file whose header has no
  column of the others fails the table. A byte order mark says the encoding. Lines before the header, and lines that are comments,
  are records unless ``csv.skip`` and ``csv.comment`` say what they are.
- Numbers are numbers where their digits come back from a double, and whole or text as keys; otherwise they are text, as they
  are written. A column with ``1,5`` in one CSV file and ``1.5`` in another fails the table, unless ``csv.decimal`` says which it is.
  What is text in one JSON file is text in all; a number beside a list fails the table.
- Texts of JSON are days or moments where all of a column that are looked at are ISO times, without a zone or all with one; not as
  keys, nor deeper than columns, nor in a column that is met in the middle of a file. A later text that is none is an error.
- Names of directories like ``year=2024`` are columns; what a file has in a column of that name comes before. A file that was
  moved into another such directory is a new file, for its rows are others; with ``file_column`` it is not, and keeps the path
  under which it was read.
- A file of an unknown ending is named in a warning and passed over; files that do not go together fail their table only.
- What cannot be read is an error that names file and line; what comes before it stays delivered, nothing is skipped.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby

from strandline.connectors.arrow.json_path import json_path
from strandline.connectors.arrow.types import declared_types
from strandline.connectors.files.content import UTF_8, Coding
from strandline.connectors.files.csv import CSVLines
from strandline.connectors.files.delivery import Delivery
from strandline.connectors.files.description import READ, place_of
from strandline.connectors.files.hive import hive_schema
from strandline.connectors.files.idle import unchanged
from strandline.connectors.files.json import JSONLines
from strandline.connectors.files.local import LocalPlace
from strandline.connectors.files.objects import ObjectPlace
from strandline.connectors.files.paths import File, Place, shown
from strandline.connectors.files.positions import Gone, Position, Progress, gone_of, positions_of
from strandline.connectors.files.proposals import guarantee_of, how_written, propose
from strandline.connectors.files.reading import HEAD_BYTES, LineFormat, Reader
from strandline.connectors.files.rewind import rewound, rows_between
from strandline.connectors.files.schema import check_formats, formerly_text, table_schema, version_order
from strandline.connectors.files.settings import FilesSettings, FilesTable
from strandline.connectors.files.survey import Policies, Survey
from strandline.describe import Place as Written
from strandline.errors import RetryableError, StrandlineError, TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, SourceMessage
from strandline.proposal import Proposals
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import Table
from strandline.warned import Code

__all__ = ["FilesSource"]

log = logging.getLogger(__name__)
_NAMED_MAX = 5
_LISTS_MAX = 3
"""Of the files, while names change between two looks."""


class FilesSource:
    """Reads the files of local directories. Implements ``strandline.source.Source``."""

    description = READ
    Spec = FilesSettings

    def __init__(self, spec: FilesSettings) -> None:
        self._spec = spec
        self._objects: ObjectPlace | None = None
        self._strays: tuple[str, ...] = ()
        self._hive: dict[str, tuple[pa.Schema, pa.Schema]] = {}
        """By table, see ``_hive_of``."""
        self._marks: dict[str, dict[str, str]] = {}
        """By table, what stands before the fractions of each column of its CSV files."""

    @classmethod
    def understand(cls, written: str) -> Written | None:
        """A directory, a pattern or a file; or a URL. See ``strandline.describe``."""
        return place_of(written)

    def places(self) -> Sequence[str]:
        """The directory, with the pattern of the files in it; see ``strandline.place``."""
        return self._place().places()

    def reaches(self, places: Sequence[str]) -> bool:
        """What is written below the directory may match the pattern; see ``strandline.place``."""
        return self._place().reaches(places)

    def tables(self) -> Sequence[Table]:
        """Every table, with columns by what its files begin with; it fails where they do not go together.

        Raises:
            UsageError: there are no files, or nothing is in them.
        """
        files = self._files()
        if strays := [file.key for file in files if file.format is None]:
            more = f" and {len(strays) - _NAMED_MAX} more" if len(strays) > _NAMED_MAX else ""
            named = ", ".join(map(shown, strays[:_NAMED_MAX])) + more
            self._strays = (f"{named}: of no format that is known by the name, and passed over",)
            log.warning("%s; set `format`, or a pattern in `path`", self._strays[0], extra=Code.FILE_UNKNOWN.extra)
            files = [file for file in files if file.format is not None]
        if not files:
            raise UsageError(
                f"there are no files {'of a known format ' if strays else ''}at {self._spec.path!r}",
                hint="fix `path`; it may hold * ? [] and **; or set `format`",
            )
        by_table = sorted(files, key=lambda file: file.table)
        self._spec.tables.check({file.table: "" for file in by_table}, where=repr(self._spec.path))
        tables = [self._offered(name, list(of)) for name, of in groupby(by_table, key=lambda file: file.table)]
        found = [table for table in tables if table is not None]
        if not found:
            raise UsageError(
                f"the files at {self._spec.path!r} have no rows yet, so their columns have no types",
                hint="declare `types` for all columns, or sync when there are rows",
            )
        return found

    def how(self, table: Table, *, mirror: bool) -> str:  # noqa: ARG002 -- the same for all
        """By the files; see ``strandline.describe.TellsHow``."""
        return "by new and changed files"

    def proposals(self) -> Proposals:
        """What may be said of each table; see ``strandline.proposal``."""
        return Proposals(tuple(propose(self.tables())), notes=self._strays)

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """One task for each table."""
        return [Task(table.name, (table,)) for table in tables]

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """The rows of files that are new, and of what was added to others. See the module for what is promised."""
        table, spec, started_ns = task.tables[0], self._spec, _started_ns(reading)
        table = table.formerly(reading.former.get(table.name, ()))
        files, survey = self._survey(task.id, positions_of(reading.cursor), started_ns)
        lines, coding = self._lines(files, self._settings(task.id), self._marks.setdefault(task.id, {}))
        progress = Progress(reading.cursor, survey.positions, _gone(survey, reading))
        outside, hive = self._hive_of(task.id, files)
        reader = Reader(
            schema=pa.schema(
                [column for column in table.schema if column.name not in (spec.file_column, *outside.names)]
            ),
            lines=lines,
            coding=coding,
            wait=spec.on_unfinished == "wait",
            started_ns=started_ns,
            rows_max=reading.batch_rows,
            bytes_max=reading.batch_bytes,
            moved=lambda content: survey.moved(content, progress.positions),
        )
        delivery = Delivery(table, reader, outside, hive, spec.file_column, progress)
        works = iter(survey.works)
        for _ in self._place().soon([work.file for work in survey.works], HEAD_BYTES):
            yield from delivery.deliver(next(works))
        yield from delivery.flush()
        yield Complete(table.name)
        yield Checkpoint(progress.cursor())

    def idle(self, asked: Sequence[tuple[Task, Reading]]) -> Mapping[str, str]:
        """Tables of which no file has changed, come or gone; see ``strandline.source.KnowsIdle``."""
        try:
            return unchanged(self._files(), asked)
        except StrandlineError:
            return {}  # reading says what is wrong

    def rewound(self, task: Task, cursor: Cursor, to: str | timedelta) -> Cursor:
        """To where the files of a time were read; see ``strandline.source.Rewinds``."""
        return rewound(task.id, cursor, to, self._listed(task.id))

    def rows_between(self, task: Task, earlier: Cursor, later: Cursor) -> int:  # noqa: ARG002 -- cursors tell all
        """As the cursors have them; see ``strandline.source.Rewinds``."""
        return rows_between(earlier, later)

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """Files need not be told."""

    def gone(self, task: Task, reading: Reading) -> str:
        """Files that have vanished, now or before; in append mode those that were replaced, too."""
        _, survey = self._survey(task.id, positions_of(reading.cursor), _started_ns(reading), judge=False)
        gone = _gone(survey, reading)
        return str(gone) if gone.files else ""

    def missing(self, task: str) -> None:
        """All files of a table are gone, or have no rows; ``on_vanish`` says whether that may be."""
        if self._spec.on_vanish == "fail":
            raise TaskError(
                f"all files of table {task!r} have vanished from {self._spec.path!r}, or are empty",
                hint="put them back, or set `on_vanish` to accept it",
            )

    def close(self) -> None:
        """Give back what the store's requests need."""
        if self._objects is not None:
            self._objects.close()

    def _place(self) -> Place:
        """Where the files are.

        Raises:
            UsageError: there is no such place.
        """
        path = self._spec.path
        if "://" in path and self._objects is None:
            self._objects = ObjectPlace(path, self._spec.options)
        return self._objects or LocalPlace.of(path)

    def _survey(
        self, table: str, known: Mapping[str, Position], started_ns: int, *, judge: bool = True
    ) -> tuple[list[File], Survey]:
        """The files of a table, and which of them hold what was read.

        A log that is rotated after the files were listed is missing under its new name. So whatever was not found is
        looked for in a second list.

        Raises:
            TaskError: they cannot be listed, or something happened that the policies forbid.
        """
        spec = self._spec
        policies = Policies(spec.on_grow, spec.on_replace, spec.on_vanish, spec.on_unfinished)
        files = self._listed(table)
        for _ in range(_LISTS_MAX):
            listed = files
            survey = Survey(known, policies, self._lines(listed, self._settings(table))[1], started_ns)
            survey.make(listed)
            before = {(file.key, file.look.inode) for file in listed}
            files = self._listed(table) if survey.replaced or survey.vanished else listed
            if all((file.key, file.look.inode) in before for file in files):
                break
        if judge:
            survey.judge()
        return listed, survey

    def _listed(self, table: str) -> list[File]:
        try:
            return [file for file in self._files(lambda name: name == table) if file.format is not None]
        except UsageError as error:
            raise TaskError(error.message, hint=error.hint) from error

    def _files(self, wanted: Callable[[str], bool] = lambda _table: True) -> list[File]:
        """The files of the wanted tables, each with its table and format; those of no format too.

        Raises:
            UsageError: there is no such place.
        """
        name = self._spec.table
        files = self._place().find(wanted if name is None else lambda _table: True)
        if self._spec.order == "modified":
            files = sorted(files, key=lambda file: file.look.mtime_ns)
        return [replace(file, format=file.format or self._spec.format, table=name or file.table) for file in files]

    def _settings(self, table: str) -> FilesTable:
        """Of one table: its own, and those of all tables."""
        every = {name: getattr(self._spec, name) for name in FilesTable.model_fields}
        own = self._spec.tables.written(table)
        return FilesTable.model_validate(every | own | {"types": {**every["types"], **own.get("types", {})}})

    def _lines(
        self, files: Sequence[File], settings: FilesTable, marks: dict[str, str] | None = None
    ) -> tuple[Callable[[], LineFormat], Coding]:
        """What reads files of lines, and how their bytes become lines."""
        declared = declared_types(settings.types)
        if any(file.format == "csv" for file in files):
            for name, type_ in declared.items():
                if pa.types.is_nested(type_):
                    raise UsageError(f"`types`: column {name!r} of a CSV file cannot be {type_}", hint="declare string")
            csv = self._spec.csv
            return lambda: CSVLines(csv, declared, settings.primary_key, marks), Coding(csv.encoding)
        coding = Coding(UTF_8, json_path(settings.records) if settings.records else ())
        return lambda: JSONLines(declared, settings.primary_key), coding

    def _offered(self, name: str, files: Sequence[File], lists_left: int = _LISTS_MAX) -> Table | None:
        try:
            return self._table(name, files)
        except RetryableError as error:
            if lists_left:
                again = self._listed(name)
                return self._offered(name, again, lists_left - 1) if again else None
            failed: TaskError | UsageError = TaskError(error.message, hint=error.hint)
        except (TaskError, UsageError) as error:
            failed = error
        return Table(name, pa.schema([("unreadable", pa.null())]), unreadable=failed, never_left_out=True)

    def _table(self, name: str, files: Sequence[File]) -> Table | None:
        check_formats(name, files, self._spec.format)
        spec, settings = self._spec, self._settings(name)
        declared = declared_types(settings.types)
        lines, coding = self._lines(files, settings)
        made: list[LineFormat] = []

        def noted() -> LineFormat:
            made.append(lines())
            return made[-1]

        texts = [settings.incremental_key] if settings.incremental_key else []
        schema = table_schema(files, noted, coding, declared, settings.primary_key, texts)
        former = formerly_text(schema, files[0].format, declared)
        self._marks[name] = {column: mark for one in made for column, mark in one.marks.items()}
        if schema is None:
            return None
        hive = hive_schema(files, declared, settings.primary_key)
        outside = pa.schema([one for one in hive if one.name not in schema.names])
        schema = pa.schema([*schema, *outside])
        self._hive[name] = outside, pa.schema([schema.field(one) for one in hive.names])
        if spec.file_column is not None:
            if spec.file_column in schema.names:
                raise TaskError(
                    f"table {name!r} has a column {spec.file_column!r} already", hint="choose another `file_column`"
                )
            schema = schema.append(pa.field(spec.file_column, pa.string()))
        order = version_order(name, schema, settings.incremental_key)
        return Table(
            name,
            schema,
            primary_key=tuple(settings.primary_key),
            incremental_key=(order,) if order else (),
            version_order=order if settings.primary_key else "",
            incremental=True,
            description=f"{len(files)} {files[0].format} file{'s' * (len(files) != 1)} at {spec.path}",
            guarantee=guarantee_of(spec),
            access=how_written(made),
            former=former,
            refills=False,  # a file that was read has no more columns than it had
        )

    def _hive_of(self, name: str, files: Sequence[File]) -> "tuple[pa.Schema, pa.Schema]":
        """The columns that stand in names of directories only, and all that do, in the types of the table."""
        if not any(file.hive for file in files):
            return pa.schema([]), pa.schema([])
        if name not in self._hive:
            self._table(name, files)
        outside, hive = self._hive[name]
        if new := [one for one in hive_schema(files, {}).names if one not in hive.names]:
            raise RetryableError(f"directories {new[0]}=… have appeared meanwhile", hint="the files are listed again")
        return outside, hive


def _started_ns(reading: Reading) -> int:
    return int(reading.started_at.timestamp() * 1_000_000) * 1_000


def _gone(survey: Survey, reading: Reading) -> Gone:
    """What has vanished until now. Where rows replace others by their key, a file that was replaced is the same one."""
    lost = [*survey.vanished, *([] if reading.absorbs else survey.replaced)]
    return gone_of(reading.cursor).more(survey.known[key] for key in lost)
