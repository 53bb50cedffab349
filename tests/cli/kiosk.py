"""A package of a third party: a source, a destination and a state backend that describe themselves. See ``install_kiosk``."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.memory.state import MemoryState
from strandline.describe import Description, Place, how_by
from strandline.errors import UsageError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Insert
from strandline.probe import Probe, Verdict
from strandline.proposal import Proposal, Proposals
from strandline.source import Task
from strandline.table import Guarantee, Table
from strandline.testing.plain import PlainDestination

SOLD = [(1, 10, "tea"), (2, 20, "rolls")]
"""Id, till, what: as the till has it."""


class KioskSource:
    description = Description(
        schemes=("kiosk",), examples=("kiosk://corner",), drivers=("json",), installs="kiosk[till]"
    )

    class Spec(BaseModel):
        model_config = ConfigDict(extra="forbid")
        till: str = Field(description="Which till.")
        follow: bool = Field(False, description="Read only what was sold since.")

    def __init__(self, spec):
        self.spec = spec

    @classmethod
    def understand(cls, written):
        if not written.startswith("kiosk://"):
            return None
        key, at, name = written.removeprefix("kiosk://").rpartition("@")
        if not name:
            raise UsageError("a kiosk has a name", hint="kiosk://NAME")
        return Place({"till": written}, name, f"kiosk://{name}", secret="till" if key and at else "")

    def tables(self):
        columns = pa.schema([("id", pa.int64()), ("at", pa.int64()), ("what", pa.string())])
        promised = Guarantee("settled (till)", "a till never sells in the past")
        return [
            Table("sales", columns, ("id",), ("at",), incremental=True, guarantee=promised, description="All sales.")
        ]

    def proposals(self):
        rows, why = f"{len(SOLD)}", "a till's clock"
        settings = {"follow": True}
        return Proposals(
            (Proposal("sales", "sales", rows, "settled (till)"),), settings, (f"incremental by at, {why}",)
        )

    def how(self, table, *, mirror):
        return how_by("the till's roll", {"mirror": mirror})

    def probes(self):
        yield Probe("paper", Verdict.WARNING, "the roll is nearly empty", "buy another roll")

    def tasks(self, tables):
        return [Task(table.name, (table,)) for table in tables]

    def read(self, task, reading):
        (table,) = task.tables
        after = reading.cursor["at"] if reading.cursor else 0
        rows = [dict(zip(table.schema.names, row, strict=True)) for row in SOLD if row[1] > after]
        if rows:
            yield Insert(table.name, pa.RecordBatch.from_pylist(rows, table.schema))
        yield Complete(table.name)
        yield Checkpoint({"at": max([after, *(row["at"] for row in rows)])})

    def acknowledge(self, task, cursors):
        pass

    def close(self):
        pass


class KioskDestination(PlainDestination):
    description = Description(
        schemes=("kiosk",), suffixes=(".kiosk",), examples=("corner.kiosk",), proposed="corner.kiosk"
    )

    def probes(self) -> Iterator[Probe]:
        yield Probe("shelf", Verdict.OK, "there is room on it")


class KioskState(MemoryState):
    class Spec(BaseModel):
        model_config = ConfigDict(extra="forbid")
        drawer: str = Field("top", description="Which drawer of the till.")

    kept: ClassVar[dict[str, MemoryState]] = {}

    def __init__(self, spec):
        super().__init__(MemoryState.Spec())
        self.kept.setdefault(spec.drawer, self)
        self.__dict__ = self.kept[spec.drawer].__dict__

    def probes(self):
        yield Probe("drawer", Verdict.OK, "it closes")
