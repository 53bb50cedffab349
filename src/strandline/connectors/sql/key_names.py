"""What the names of columns tell: which say when a row was changed last, and which when it was made."""

import re

__all__ = ["says_changed", "says_created"]

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CHANGED = re.compile(
    r"(date_|time_|row_|sys_|last_)*(update|updated|modify|modified|modification|change|changed|edited|mtime)"
    r"(_(at|on|date|time|ts|datetime|timestamp|utc))*"
)
_CREATED = re.compile(
    r"(date_|time_|row_|sys_)*(create|created|creation|insert|inserted|added|ctime)(_(at|on|date|time|ts|datetime|timestamp|utc))*"
)


def says_changed(name: str) -> bool:
    """Whether ``name`` promises the time of the last change, as ``updated_at`` or ``lastModified``."""
    return _CHANGED.fullmatch(_snake(name)) is not None


def says_created(name: str) -> bool:
    """Whether ``name`` promises the time at which the row was made, as ``created_at``."""
    return _CREATED.fullmatch(_snake(name)) is not None


def _snake(name: str) -> str:
    return _CAMEL.sub("_", name).lower()
