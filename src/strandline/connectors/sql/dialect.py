"""SQL as text, by dialect. Pure: nothing here talks to a database.

The statements are those that DuckDB, SQLite (3.35) and PostgreSQL (15) have in common. Where they differ, a ``Dialect``
is asked. Names are quoted by ``quote`` and nowhere else, and what we make is checked by ``Dialect.quote`` first; values are
always bound.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from strandline.destination import Scope
from strandline.errors import TaskError
from strandline.table import CLIENT_ID, SOURCE_NAME, SYNC_TIME

__all__ = ["KEY_PREFIX", "SEQUENCE", "STAGE_PREFIX", "VERSION", "Dialect", "Statement", "quote"]

STAGE_PREFIX = "_cq_stage_"
"""No column of a user's table begins with it."""
KEY_PREFIX = "cq_key_"
"""An index of ours by which rows are found begins with it."""
SEQUENCE = "_cq_stage_sequence"
"""Column of a stage: the position of the row in the stream."""
VERSION = "_cq_stage_version"
"""Column of a stage: what tells versions of the row apart, 16 bytes."""


def quote(name: str) -> str:
    """``name`` as an identifier: of what is there already, so that nothing has to be refused."""
    return '"' + name.replace('"', '""') + '"'


class Statement(NamedTuple):
    """One statement and the values it binds, in order."""

    text: str
    values: tuple[Any, ...] = ()


class Dialect:
    """How one database spells what all of them can do. Stages have the aliases ``s`` and ``d``, stored rows ``t``."""

    name: str
    parameter = "?"
    text_type = "TEXT"
    key_type = ""
    """Of a text in a key of our own tables, where that is not ``text_type``."""
    integer_type = "BIGINT"
    blob_type: str
    undoes_ddl = True
    """Whether a transaction that is rolled back takes with it what it created."""
    updates = True
    """Whether stored rows are updated where they are; otherwise they are deleted and inserted again."""
    alters_before_deletes = False
    """Whether a table is altered before rows of it are deleted in the same transaction; the other way round is faster."""
    unread_text = "{}"
    """A column of texts as bytes, where the driver refuses to read what a flipped bit has made no text of."""
    by_bytes = ' COLLATE "C"'
    """Behind a text: compared by its bytes, whatever the database is set to."""
    row_order = "rowid"
    """What grows, as a rule, from one stored row to the next."""
    replaces_views = False
    """Whether a view can be replaced by one with further columns, so that rights on it stay."""
    overriding = ""
    """Lets a value be inserted into a column whose values the database makes."""

    def quote(self, name: str) -> str:
        """``name`` as an identifier that means exactly this name.

        Raises:
            TaskError: no identifier can hold it.
        """
        if not name or "\0" in name:
            raise TaskError(f"{name!r} cannot be a name in {self.name}", hint="rename the column or the table")
        return quote(name)

    def fold(self, name: str) -> str:
        """What the database takes for the same name."""
        return name

    def check_name(self, name: str, stored: str, *, is_view: bool) -> None:
        """Of what is there under the name of a table, where the database does not tell cases apart.

        Raises:
            TaskError: it is a view, or a table that the source calls otherwise.
        """
        if is_view:
            raise TaskError(f"{name!r} is a view in the database", hint="rename the view, or the table")
        if stored != name:
            raise TaskError(
                f"table {name!r} and the stored {stored!r} are one table to {self.name}, which does not tell cases apart",
                hint="rename one of the two",
            )

    def quoted(self, names: Sequence[str], prefix: str = "") -> str:
        """A list of columns."""
        return ", ".join(prefix + self.quote(name) for name in names)

    def relation(self, schema: str, name: str) -> str:
        """A table of a schema."""
        return f"{self.quote(schema)}.{self.quote(name)}"

    def lock(self, name: str, *, shared: bool) -> Statement | None:  # noqa: ARG002 -- for those that need it
        """Makes this transaction wait for others that have locked ``name``; ``None``: there is only one at a time.

        Those who share it do not wait for each other.
        """
        return None

    def time_us(self, parameter: str) -> str:
        """A bound number of microseconds since 1970, as ``_cq_sync_time`` is stored."""
        raise NotImplementedError

    def numbered_id(self, version: str, number: str, column_type: str) -> str:
        """The ``_cq_id``: 12 bytes of the version, then the number as 4 bytes, big endian, as the column's type."""
        raise NotImplementedError

    def keep(self, into: str, text: str, mark: str) -> tuple[str, ...]:  # noqa: ARG002 -- for those without comments
        """The DDL that keeps a text with a table, whose identity it also tells. DDL binds no values, hence the quotes."""
        quoted = text.replace("'", "''")
        return (f"COMMENT ON TABLE {into} IS '{quoted}'",)

    # rows ------------------------------------------------------------------------------------------------------------

    def insert(self, into: str, columns: Sequence[str], stage: str, *, nulls: Sequence[str] = ()) -> Statement:
        """All rows of a stage, with nulls in columns that it lacks."""
        return self.insert_from(into, columns, f"{stage} AS s", nulls=nulls)

    def insert_from(self, into: str, columns: Sequence[str], rows: str, *, nulls: Sequence[str] = ()) -> Statement:
        """What ``missing`` or ``not_deleted`` leaves of a stage."""
        names, values = self.quoted((*columns, *nulls)), [self.quoted(columns, "s."), *["NULL" for _ in nulls]]
        return Statement(f"INSERT INTO {into} ({names}) SELECT {', '.join(values)} FROM {rows}")

    def one_of_each(self, into: str, keys: Sequence[str], columns: Sequence[str], stage: str) -> Statement:
        """A query: these columns of the stored rows that have a key of the stage; of several with one key, any one."""
        names, number = self.quoted((*keys, *columns)), self.quote("_cq_stage_number")
        ranked = f"row_number() OVER (PARTITION BY {self.quoted(keys)} ORDER BY {self.quoted(keys)}) AS {number}"
        rows = f"SELECT {names}, {ranked} FROM {into} AS t WHERE {self.among(keys, 't', keys, stage)}"
        return Statement(f"SELECT {names} FROM ({rows}) AS r WHERE {number} = 1")

    def insert_carrying(
        self,
        into: str,
        columns: Sequence[str],
        keys: Sequence[str],
        stage: str,
        carried: str,
        theirs: Sequence[str],
        *,
        nulls: Sequence[str] = (),
    ) -> Statement:
        """The rows of a stage that have a key of another one, with columns of that one."""
        names = self.quoted((*columns, *theirs, *nulls))
        values = [self.quoted(columns, "s."), self.quoted(theirs, "c."), *["NULL" for _ in nulls]]
        joined = f"{stage} AS s JOIN {carried} AS c ON {self.same(keys, 'c', 's')}"
        return Statement(f"INSERT INTO {into} ({names}){self.overriding} SELECT {', '.join(values)} FROM {joined}")

    def unmatched(self, keys: Sequence[str], stage: str, carried: str) -> str:
        """What follows FROM: the rows of a stage whose key is not in another one."""
        joined = f"{stage} AS s LEFT JOIN {carried} AS c ON {self.same(keys, 'c', 's')}"
        return f"{joined} WHERE c.{self.quote(keys[0])} IS NULL"

    def missing(self, into: str, keys: Sequence[str], stage: str) -> str:
        """What follows FROM: the rows of a stage whose key is not stored."""
        return f"{stage} AS s WHERE NOT {self.has(into, 't', keys, [f's.{self.quote(key)}' for key in keys])}"

    def lacking(self, into: str, keys: Sequence[str], stage: str, rows_max: int) -> Statement:
        """A query: the places in a stage with ``SEQUENCE`` of keys that are not stored, ascending."""
        place = f"s.{self.quote(SEQUENCE)}"
        missing = self.missing(into, keys, stage)
        return Statement(f"SELECT {place} FROM {missing} ORDER BY {place} LIMIT {rows_max}")

    def update_matching(
        self, into: str, columns: Sequence[str], keys: Sequence[str], stage: str, *, nulls: Sequence[str] = ()
    ) -> Statement:
        """The columns of a stage into the stored rows of the same keys, and nulls into columns that it lacks."""
        values = [f"{self.quote(name)} = s.{self.quote(name)}" for name in columns]
        values += [f"{self.quote(name)} = NULL" for name in nulls]
        return Statement(
            f"UPDATE {into} AS t SET {', '.join(values)} FROM {stage} AS s WHERE {self.same(keys, 't', 's')}"
        )

    def delete_matching(self, table: str, keys: Sequence[str], stage: str) -> Statement:
        """Stored rows with a key of the stage."""
        return Statement(f"DELETE FROM {table} AS t WHERE {self.among(keys, 't', keys, stage)}")

    def among(self, keys: Sequence[str], alias: str, stage_keys: Sequence[str], stage: str) -> str:
        """The condition that a stage has the key of a row."""
        return self.has(stage, "s", stage_keys, [f"{alias}.{self.quote(key)}" for key in keys])

    def has(self, relation: str, alias: str, columns: Sequence[str], values: Sequence[str]) -> str:
        """The condition that a relation has a row with these values, which are of the query around it.

        Inside, its columns have names of ours: DuckDB takes ``t.id`` for a field of a column ``t`` there, before it looks for
        a table ``t`` around it.
        """
        names = [self.quote(f"_cq_has_{at}") for at in range(len(columns))]
        renamed = ", ".join(f"{self.quote(column)} AS {name}" for column, name in zip(columns, names, strict=True))
        same = " AND ".join(f"{alias}.{name} = {value}" for name, value in zip(names, values, strict=True))
        return f"EXISTS (SELECT 1 FROM (SELECT {renamed} FROM {relation}) AS {alias} WHERE {same})"

    def same(self, keys: Sequence[str], one: str, other: str) -> str:
        """Whether two rows have the same key; keys are never null."""
        return " AND ".join(f"{one}.{self.quote(key)} = {other}.{self.quote(key)}" for key in keys)

    def latest(self, columns: Sequence[str], keys: Sequence[str], stage: str, *, by: str = "") -> Statement:
        """A query: of a stage with ``SEQUENCE``, the last row of each key; with ``by``, of those where that is greatest."""
        names, last = self.quoted((*columns, SEQUENCE)), self.quote("_cq_stage_last")
        order = f"{by} DESC NULLS LAST, " if by else ""
        return Statement(
            f"SELECT {names} FROM (SELECT {names}, row_number() OVER (PARTITION BY {self.quoted(keys)} "
            f"ORDER BY {order}{self.quote(SEQUENCE)} DESC) AS {last} FROM {stage}) AS r WHERE {last} = 1"
        )

    def not_deleted(self, keys: Sequence[str], stage: str, deleted: str) -> str:
        """What follows FROM: the rows of a stage whose key was not deleted after them."""
        sequence = self.quote(SEQUENCE)
        return (
            f"{stage} AS s WHERE NOT EXISTS (SELECT 1 FROM {deleted} AS d "
            f"WHERE {self.same(keys, 'd', 's')} AND d.{sequence} > s.{sequence})"
        )

    def different_keys(self, keys: Sequence[str], stage: str) -> str:
        """What follows FROM: the keys of a stage, each once."""
        return f"(SELECT DISTINCT {self.quoted(keys)} FROM {stage}) AS r"

    # scopes ----------------------------------------------------------------------------------------------------------

    def in_scope(self, table: str, columns: Collection[str], scope: Scope, alias: str = "t") -> Statement:
        """The condition that a row belongs to ``scope``, in a table with these columns.

        Raises:
            TaskError: the table does not say which rows are whose.
        """
        wanted = {SOURCE_NAME: scope.source_name}
        if scope.partition is not None:
            wanted[CLIENT_ID] = scope.partition
        for column in wanted:
            if column not in columns:
                raise TaskError(f"{table}: without a column {column} it is not known which rows may be deleted")
        text = " AND ".join(f"{alias}.{self.quote(column)} = {self.parameter}" for column in wanted)
        if scope.partition is None and CLIENT_ID in columns:
            text += f" AND {alias}.{self.quote(CLIENT_ID)} IS NULL"
        return Statement(text, tuple(wanted.values()))

    def is_stale(self, scope: Scope, alias: str = "t") -> Statement:
        """The condition that a row was delivered by an older pass."""
        return Statement(
            f"{alias}.{self.quote(SYNC_TIME)} < {self.time_us(self.parameter)}", (int(scope.sync_time_us),)
        )
