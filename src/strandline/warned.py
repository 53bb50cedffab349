"""What a sync warns of: a text for people, and a code for programs, which stays when the text is put in other words.

Codes stand in the events of ``--log-format json``, in the summary file and in ``plan --json``. One that is not needed any more is
never given to something else.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

__all__ = ["Code", "Warned"]


class Code(StrEnum):
    """What a warning is about."""

    meaning: str

    ATTACHED_LOST = "attached-lost", "what people have attached to a stored table goes with what is done"
    BACKFILL = "backfill", "a table is read again to fill new columns, as `backfill` says"
    BEING_SYNCED = "being-synced", "another run syncs this source just now"
    COLUMN_KEPT = "column-kept", "a column keeps its type at a full refresh, since somebody uses it"
    CREATED_AGAIN = (
        "created-again",
        "a table is created again, empty, as `migrate_mode: forced` allows, and read from nothing",
    )
    CURSOR_EXPIRED = "cursor-expired", "the source cannot go on from the cursor, and everything is read"
    CURSOR_HELD = (
        "cursor-held",
        "somebody holds the cursor back: what is newer is delivered, and read again until that ends",
    )
    DESTINATION_OLDER = (
        "destination-older",
        "the destination is older than the state, as after a restore; the sync goes on from it",
    )
    FIELD_IGNORED = "field-ignored", "a field of CloudQuery's in the spec has no meaning here"
    FILE_AGAIN = "file-again", "a file has changed in what was read already, and is read again"
    FILE_CHANGED = "file-changed", "files were replaced or have vanished"
    FILE_RENAMED = "file-renamed", "a file has another name, and is not read again"
    FILE_UNFINISHED = "file-unfinished", "a file cannot be read to its end yet, and the rest is left for the next sync"
    FILE_UNKNOWN = "file-unknown", "files have no format that their names tell, and are passed over"
    FOREIGN_KEY = "foreign-key", "a foreign key of another table refers to rows that may be deleted"
    KEYS_NOT_UNIQUE = "keys-not-unique", "several rows have one primary key"
    LEASE_KEPT = "lease-kept", "the lease may not have been given back: the next run may have to wait until it expires"
    LEFT_OUT = "left-out", "a table that only a glob names cannot be read, and is left out"
    MIXED_TYPES = "mixed-types", "a column holds values that are not of its declared type"
    NOBODY_TOLD = "nobody-told", "what `on_failure` or `on_success` names could not be reached"
    NOTICE = "notice", "what a source says that gives no code"
    NOTHING_YET = (
        "nothing-yet",
        "a table is known by its rows only, and there are none: it is not made, or stays as it is",
    )
    NULL_KEYS = "null-keys", "rows without an incremental key are left out, as `nulls` says"
    OFFERED_NO_LONGER = "offered-no-longer", "the source does not offer a table any more"
    OLDER_ROWS = "older-rows", "rows that are older than the cursor came, and are stored again"
    OTHER_FILTER = "other-filter", "rows are stored that another filter let through, so no stale rows are deleted"
    PLUGIN_LEFT_OUT = "plugin-left-out", "a plugin cannot be loaded, so that the schema has no settings of it"
    REFRESH_RESTARTED = "refresh-restarted", "an interrupted full refresh cannot be resumed, and another one begins"
    REFRESH_RESUMED = "refresh-resumed", "an interrupted full refresh goes on"
    REFRESH_UNFINISHED = (
        "refresh-unfinished",
        "an interrupted full refresh is not gone on with, since its table is not selected",
    )
    RENAMED = "renamed", "a table goes on under another source or destination than before, as `adopt` says"
    ROWS_DROPPED = "rows-dropped", "a full refresh drops rows that cannot be read again, as the user has allowed"
    ROWS_KEPT = "rows-kept", "rows that the source does not name are kept, since they need not be gone"
    ROWS_MISSING = (
        "rows-missing",
        "rows that the source has were missing in the destination, and are read by their keys",
    )
    RUN_LOG_DAMAGED = "run-log-damaged", "lines of the log of runs cannot be read"
    SHARED_TABLE = "shared-table", "several sources write one table, and do not say so"
    STALE_KEPT = "stale-kept", "what the last pass did not find stays, since the write mode is another one now"
    STOPPED = (
        "stopped",
        "the run was stopped before a checkpoint, and what it had read since the last one is read again",
    )
    TABLE_ADOPTED = "table-adopted", "a table that was there already is taken over"
    UNFILLED = "unfilled-columns", "rows that are stored have no value in a column that came later"

    def __new__(cls, code: str, meaning: str) -> Self:
        """With what it means."""
        one = str.__new__(cls, code)
        one._value_, one.meaning = code, meaning
        return one

    @property
    def extra(self) -> Mapping[str, str]:
        """For a log record: ``log.warning("…", extra=Code.X.extra)``."""
        return {"code": self.value}


class Warned(str):
    """The text, which is all of it to whoever shows it, with its code."""

    __slots__ = ("code",)

    code: str
    """A ``Code``; or one of a source that is a plugin."""

    def __new__(cls, code: str, text: str) -> Self:
        """See there."""
        one = super().__new__(cls, text)
        one.code = code
        return one

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # of str it is the text alone
        return self.code, str(self)
