"""Rows of PostgreSQL as messages: selected, converted, marked, and cut to size."""

from collections.abc import Generator, Iterator
from typing import Any

from strandline.connectors.postgresql.key import Key
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.server import Session
from strandline.connectors.postgresql.types_read import UnfitError, convert
from strandline.connectors.sql.dialect import quote
from strandline.errors import TaskError
from strandline.lazy import pa, pc
from strandline.message import Insert, Present, SourceMessage
from strandline.reading import Reading

__all__ = ["Rows"]

_MARK, _VERSION = "_cq_known", "_cq_version"


class Rows:
    """Of one table, read with one session."""

    def __init__(self, session: Session, plan: Plan, reading: Reading, key: Key | None) -> None:
        self._session, self._plan, self._key = session, plan, key
        self.name, self.reading = plan.table.name, reading
        self.versioned = plan.tells
        """Whether marked rows carry a version of the source's."""
        self.compared: int | None = None
        """How many keys ``present`` has sent, if it has sent all."""

    def by(self, session: Session) -> "Rows":
        """The same, read with another session."""
        other = Rows(session, self._plan, self.reading, self._key)
        other.versioned = self.versioned
        return other

    def messages(self, source: str, condition: str, mark: str) -> Iterator[tuple[SourceMessage, "pa.RecordBatch"]]:
        """The rows of a query as messages, apart by whether another pass may have read them or may read them again."""
        for raw in self._raw(self._query(source, condition, mark)):
            yield from self._told(raw, mark)

    def _query(self, source: str, condition: str, mark: str) -> str:
        columns = [f"{column.expression} AS {quote(column.name)}" for column in self._plan.columns]
        if mark != "FALSE":
            columns.append(self._version(mark) if self.versioned else f"({mark}) AS {_MARK}")
        if self._key is not None:
            condition = f"({condition}) AND {self._key.all()}"
        return f"SELECT {', '.join(columns)} FROM {source} WHERE ({condition}) AND {self._plan.where}"

    def _raw(self, query: str) -> Generator["pa.RecordBatch"]:
        """The rows of a query as PostgreSQL sends them."""
        with self.reading.statement():
            yield from self._session.read(query, batch_bytes=self.reading.batch_bytes, where=self.name)

    def _told(self, raw: "pa.RecordBatch", mark: str) -> Iterator[tuple[SourceMessage, "pa.RecordBatch"]]:
        """As messages, each with its rows."""
        batch = self._converted(raw)
        if mark == "FALSE":
            for part in self._bounded(batch):
                yield Insert(self.name, part), part
            return
        last = raw.column(len(self._plan.columns))
        version = pc.cast(last, pa.binary(16)) if self.versioned else None
        known = pc.fill_null(last, fill_value=True) if version is None else pc.is_valid(version)
        for reread, chosen in ((False, pc.invert(known)), (True, known)):
            versions = _filtered(version, chosen) if reread and version is not None else None
            start = 0
            for part in self._bounded(_filtered(batch, chosen)):
                of_part = None if versions is None else versions.slice(start, part.num_rows)
                start += part.num_rows
                yield Insert(self.name, part, reread=reread, version=of_part), part

    def _version(self, mark: str) -> str:
        """What tells versions of a marked row apart: its content, and the transaction that wrote it.

        Not the key alone: a crash of the server may take back what nobody waited for, and hand out key and transaction again.
        """
        # by name, since the columns of a partition may have another order; and as they leave the server
        content = [column.expression for column in self._plan.columns]
        row = f"ROW({', '.join([*content, 't.xmin'])})::text"
        digest = f"substring(sha256(convert_to({row}, 'UTF8')) FROM 1 FOR 16)"
        return f"CASE WHEN ({mark}) IS NOT FALSE THEN {digest} END AS {_VERSION}"

    def _converted(self, raw: "pa.RecordBatch") -> "pa.RecordBatch":
        fields, arrays = [column.field for column in self._plan.columns], []
        for place, field in enumerate(fields):
            try:
                arrays.append(self._convert(raw.column(place), field))
            except UnfitError as error:
                raise TaskError(f"{error.message}{self._row(raw, error.index, field.name)}", hint=error.hint) from error
        return pa.record_batch(arrays, schema=pa.schema(fields))

    def _row(self, raw: "pa.RecordBatch", index: int, unfit: str) -> str:
        """Which row it is, by its primary key, or else by its incremental key."""
        table = self._plan.table
        keys = [name for name in table.primary_key or table.incremental_key if name != unfit]
        places = {column.name: place for place, column in enumerate(self._plan.columns)}
        try:
            said = ", ".join(f"{name} = {raw.column(places[name])[index].as_py()}" for name in keys)
        except (ValueError, OverflowError):  # a time that Python cannot say
            said = ""
        return f", in the row with {said}" if said else ""

    def _convert(self, array: "pa.Array", field: "pa.Field") -> "pa.Array":
        # a key that is null is none
        policy = "key" if field.name in self._plan.table.primary_key else self._plan.settings.out_of_range
        return convert(array, field, f"{self.name}.{field.name}", policy)

    def _bounded(self, batch: "pa.RecordBatch") -> Iterator["pa.RecordBatch"]:
        bytes_each = max(1, batch.nbytes // max(1, batch.num_rows))
        step = max(1, min(self.reading.batch_rows, self.reading.batch_bytes // bytes_each))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)

    def present(self) -> Iterator[SourceMessage]:
        """All primary keys, as they are after the rows were read."""
        chosen = [column for column in self._plan.columns if column.name in self._plan.table.primary_key]
        columns = ", ".join(f"{column.expression} AS {quote(column.name)}" for column in chosen)
        condition = self._key.all() if self._key else "TRUE"
        sql = f"SELECT {columns} FROM {self._plan.source} WHERE {condition} AND {self._plan.where}"
        schema, count = pa.schema([column.field for column in chosen]), 0
        for raw in self._raw(sql):
            arrays = [self._convert(raw.column(at), field) for at, field in enumerate(schema)]
            for part in self._bounded(
                pa.record_batch(arrays, schema=schema).select(list(self._plan.table.primary_key))
            ):
                count += part.num_rows
                yield Present(self.name, part)
        if not count:
            nothing = [pa.array([], schema.field(name).type) for name in self._plan.table.primary_key]
            yield Present(self.name, pa.RecordBatch.from_arrays(nothing, list(self._plan.table.primary_key)))
        self.compared = count


def _filtered(rows: Any, chosen: "pa.BooleanArray") -> Any:
    """The chosen rows of a batch or an array; in most batches they are all of them, which need no copy, or none."""
    return rows if chosen.true_count == len(chosen) else rows.filter(chosen)
