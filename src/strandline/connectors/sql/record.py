"""What is kept with a stored table: in its comment, or where a database has none, in an index of no rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from strandline.connectors.sql.dialect import Dialect

__all__ = ["Record"]

_MARKED = "strandline"


@dataclass(frozen=True, slots=True)
class Record:
    """What the columns alone do not tell of a table."""

    primary_key: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    """Those that Strandline has ever written, so that any other is somebody else's. Versions before 0.2 kept none."""
    mark: str = ""
    """Identity of the table, where the database has none of its own."""
    text: str = ""
    """What the user had written there before."""
    ours: bool = True
    """Whether Strandline wrote it."""

    def ddl(self, into: str, dialect: Dialect) -> tuple[str, ...]:
        """The statements that keep it."""
        return dialect.keep(into, self.text_of(), self.mark)

    def text_of(self) -> str:
        """As it is written down."""
        body = {_MARKED: 1, "mark": self.mark, "primary_key": list(self.primary_key), "notes": dict(self.notes)}
        body |= {"columns": list(self.columns)} if self.columns else {}
        body |= {"comment": self.text} if self.text else {}
        return json.dumps(body)

    @classmethod
    def parse(cls, text: str) -> "Record":
        """Not ``ours`` where the table is not one of ours."""
        try:
            body = json.loads(text)
            if body[_MARKED] == 1:
                columns = tuple(body.get("columns", ()))
                return cls(tuple(body["primary_key"]), body["notes"], columns, body["mark"], body.get("comment", ""))
        except (ValueError, KeyError, TypeError):
            pass
        return cls(text=text, ours=False)
