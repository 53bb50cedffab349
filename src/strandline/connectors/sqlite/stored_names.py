"""Tables under other names than the engine's, for destinations that share one place: a prefix stands before each name.

Names are changed at the border, so that all that lies behind it (DDL, marks, delivered sets, hidden tables, errors) knows
the stored names and no others.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from strandline.destination import Scope, Window
from strandline.message import Cursor, Forget, Swap, WindowMessage
from strandline.state import Pass, State, StateKey, Token
from strandline.table import Table

__all__ = ["StoredNames"]


class StoredNames:
    """With an empty prefix, everything stays as it is."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def table(self, table: Table) -> Table:
        """As it is stored."""
        return replace(table, name=self.prefix + table.name) if self.prefix else table

    def window(self, window: Window) -> Window:
        """With the stored names, wherever a window names a stored table."""
        return _Window(window, self) if self.prefix else window


class _Window:
    """See ``strandline.destination.Window``. The names that messages use stay."""

    def __init__(self, window: Window, names: StoredNames) -> None:
        self.id: str = window.id
        self.key: StateKey = window.key
        self.expected: Token | None = window.expected
        self.scope: Scope = window.scope
        self.pass_: Pass = window.pass_
        self.tables: Mapping[str, Table] = {name: names.table(table) for name, table in window.tables.items()}
        self._window, self._prefix = window, names.prefix

    def __iter__(self) -> Iterator[WindowMessage]:
        for message in self._window:
            match message:
                case Swap(hidden=hidden):
                    yield replace(message, hidden=self._prefix + hidden)
                case Forget(table=table):
                    yield replace(message, table=self._prefix + table)
                case _:
                    yield message

    def emptied(self, tables: Collection[str], lacking: Collection[str] = ()) -> None:
        """See there."""
        self._window.emptied(tables, lacking)

    @property
    def checkpoint(self) -> Cursor | None:
        """See there."""
        return self._window.checkpoint

    @property
    def state(self) -> State:
        """See there."""
        return self._window.state
