"""The cursor of a table that keeps its versions: how far it was read, and where in a pass."""

from typing import ClassVar

from pydantic import Field

from strandline.connectors.sql.cursor import SavedCursor, Strict

__all__ = ["Pass", "Saved"]


class Pass(Strict):
    """A pass that is not at its end."""

    until: int
    """The version that it reads."""
    mark: str = ""
    work: int = Field(0, ge=0)
    """How many pieces of work are done."""
    path: str = ""
    """The file of the next one, of which ``row`` rows are read; empty: it is not begun."""
    row: int = Field(0, ge=0)


class Saved(SavedCursor):
    """See above."""

    source: ClassVar[str] = "of a lake"

    shown: str
    """For people."""
    table: str
    """Which one it is."""
    version: int | None = None
    """All of it was read; none: a first pass is going on."""
    mark: str = ""
    current: Pass | None = None
