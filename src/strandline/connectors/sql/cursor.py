"""What the cursors of SQL sources have in common: strict models, checked when they come back."""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from strandline.errors import TaskError
from strandline.message import Cursor

__all__ = ["SavedCursor", "Strict"]


class Strict(BaseModel):
    """A part of a cursor. It is never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SavedCursor(Strict):
    """The cursor of a table."""

    source: ClassVar[str]
    """The name of the plugin."""

    def json_value(self) -> Cursor:
        """As a cursor."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def parsed(cls, cursor: Cursor, table: str) -> Self:
        """The cursor as it was saved.

        Raises:
            TaskError: it is none of this source.
        """
        try:
            return cls.model_validate(dict(cursor))
        except ValidationError as error:
            raise TaskError(
                f"table {table!r}: the saved cursor is not one of the source `{cls.source}`",
                hint="`strandline state show` prints it; read the table again: --full-refresh",
            ) from error
