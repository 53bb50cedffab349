"""SQLite's spelling of the SQL that the destinations share."""

import string
from collections.abc import Sequence

from strandline.connectors.sql.dialect import SEQUENCE, Dialect
from strandline.errors import TaskError

__all__ = ["MAIN", "MARK_PREFIX", "SQLiteDialect", "folded"]

MAIN = '"main"'
"""The schema of all tables that are not temporary."""
MARK_PREFIX = "cq_mark_"
"""The index of a table that keeps its mark begins with it."""


_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(name: str) -> str:
    """What SQLite takes for the same name: it does not tell cases apart, in ASCII."""
    return name.translate(_FOLD)


class SQLiteDialect(Dialect):
    """SQLite looks rows up one by one, so every condition has to be one that an index can answer."""

    name = "SQLite"
    integer_type = "INTEGER"
    blob_type = "BLOB"
    unread_text = "CAST({} AS BLOB)"
    by_bytes = " COLLATE BINARY"

    def fold(self, name: str) -> str:
        """See ``Dialect``."""
        return folded(name)

    def time_us(self, parameter: str) -> str:
        """See ``Dialect``. Times are texts, in UTC."""
        # whole seconds by a division that rounds down, also before 1970
        second = "(us - ((us % 1000000) + 1000000) % 1000000) / 1000000"
        return (
            f"(SELECT strftime('%Y-%m-%d %H:%M:%S', {second}, 'unixepoch') "
            f"|| printf('.%06dZ', ((us % 1000000) + 1000000) % 1000000) FROM (SELECT {parameter} AS us))"
        )

    def numbered_id(self, version: str, number: str, column_type: str) -> str:
        """See ``Dialect``. A UUID is a text."""
        if column_type != "TEXT":
            raise TaskError("a _cq_id that the destination makes must be a UUID", hint="leave out the column _cq_id")
        cuts = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 4))
        parts = ", ".join(f"substr(hex({version}), {first}, {count})" for first, count in cuts)
        return f"lower(printf('%s-%s-%s-%s-%s%08x', {parts}, {number}))"

    def keep(self, into: str, text: str, mark: str) -> tuple[str, ...]:
        """See ``Dialect``. SQLite has no comments, but an index is renamed and dropped with its table; this one is empty."""
        index = f"{MAIN}.{self.quote(MARK_PREFIX + mark)}"
        quoted = text.replace("'", "\\u0027")  # JSON's own escape, so that the text is easily found again
        return (
            f"DROP INDEX IF EXISTS {index}",
            f"CREATE INDEX {index} ON {into.removeprefix(f'{MAIN}.')} (1) WHERE '{quoted}' IS NULL",
        )

    def among(self, keys: Sequence[str], alias: str, stage_keys: Sequence[str], stage: str) -> str:
        """See ``Dialect``. To answer EXISTS, SQLite would look through all of a stage for each row."""
        return f"({self.quoted(keys, f'{alias}.')}) IN (SELECT {self.quoted(stage_keys)} FROM {stage})"

    def not_deleted(self, keys: Sequence[str], stage: str, deleted: str) -> str:
        """See ``Dialect``, and ``among``."""
        sequence = self.quote(SEQUENCE)
        return (
            f"{stage} AS s LEFT JOIN (SELECT {self.quoted(keys)}, max({sequence}) AS {sequence} FROM {deleted} "
            f"GROUP BY {self.quoted(keys)}) AS d ON {self.same(keys, 'd', 's')} "
            f"WHERE d.{sequence} IS NULL OR d.{sequence} < s.{sequence}"
        )
