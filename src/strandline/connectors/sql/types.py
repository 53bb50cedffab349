"""How Arrow types are stored by a SQL database, without loss: what is common to all of them, and what each has to tell.

What an Arrow type is wrapped in (extensions, dictionaries, runs) is taken off here. A database says how it keeps what is left,
and a batch is cast to that, safely, to and fro.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

from strandline.connectors.arrow.kinds import UNREADABLE, extension_of, family_of
from strandline.connectors.sql.dialect import Dialect
from strandline.errors import TaskError
from strandline.lazy import pa

__all__ = ["SqlTypes", "Stored", "digits_and_scale"]


@dataclass(frozen=True, slots=True)
class Stored:
    """How an Arrow type is kept."""

    sql: str
    """The SQL type, as the catalog spells it."""
    arrow: "pa.DataType"
    """What the database, or what encodes for it, is given."""
    read: str = ""
    """The SQL type to read it as, where that differs."""
    note: str = ""
    """What the SQL type alone does not tell; kept with the table, so that a change is noticed."""

    @property
    def has_equality(self) -> bool:
        """Whether equal values are the same value, as in a key."""
        return True


S = TypeVar("S", bound=Stored)


def digits_and_scale(kind: "pa.DataType") -> tuple[int, int]:
    """Of a type of decimals; one that ends before the point has zeros up to it."""
    return (kind.precision - kind.scale, 0) if kind.scale < 0 else (kind.precision, kind.scale)


class SqlTypes(ABC, Generic[S]):
    """How one database stores each type. One table for both directions."""

    dialect: ClassVar[Dialect]
    no_unions: ClassVar[str]
    """Why there are no unions, and what to do."""

    @property
    def refused(self) -> Mapping[str, str]:
        """Families of Arrow types that cannot be stored, with the reason."""
        return {"sparse_union": self.no_unions, "dense_union": self.no_unions, **UNREADABLE}

    def of(self, field: "pa.Field", where: str) -> S:
        """How the values of ``field`` are stored.

        Raises:
            TaskError: they cannot be.
        """
        match extension_of(field):
            case "":
                return self.of_type(field.type, where)
            case "uuid":
                return self.uuid()
            case "json":
                return self.json()
            case _:
                return self.of_type(pa.string(), where)

    def of_type(self, kind: "pa.DataType", where: str) -> S:
        """The same of a type that no field names."""
        types = pa.types
        if isinstance(kind, pa.BaseExtensionType):
            known = {"arrow.uuid": self.uuid, "arrow.json": self.json}.get(kind.extension_name)
            return known() if known is not None else self.of_type(kind.storage_type, where)
        if (simple := self.simple().get(kind.id)) is not None:
            return simple
        if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            return self.of_type(kind.value_type, where)
        if types.is_decimal(kind):
            return self.decimal(kind)
        if types.is_temporal(kind):
            return self.duration(kind) if types.is_duration(kind) else self.time(kind)
        if types.is_nested(kind) and not types.is_union(kind):
            return self.nested(kind, where)
        family = family_of(kind)
        raise TaskError(f"{where}: {family} cannot be stored in {self.dialect.name}", hint=self.refused.get(family, ""))

    @abstractmethod
    def simple(self) -> Mapping[int, S]:
        """By ``DataType.id``: what is stored in one way, whatever its parameters."""

    @abstractmethod
    def uuid(self) -> S:
        """Of 16 bytes."""

    @abstractmethod
    def json(self) -> S:
        """Texts that are JSON."""

    @abstractmethod
    def decimal(self, kind: "pa.DataType") -> S:
        """Exact numbers, of any precision and scale."""

    def duration(self, kind: "pa.DataType") -> S:
        """Whole numbers of the unit, which the note tells."""
        return replace(self.simple()[pa.int64().id], note=str(kind))

    @abstractmethod
    def time(self, kind: "pa.DataType") -> S:
        """Times of a day, and moments with a zone or without."""

    @abstractmethod
    def nested(self, kind: "pa.DataType", where: str) -> S:
        """Lists, structs and maps. Raises as ``of``."""
