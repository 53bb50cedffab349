"""How a user names a database, and what drivers it needs; see ``strandline.describe``."""

import re

from strandline.connection_string import HINT, understood, without_secrets
from strandline.describe import Description, Place
from strandline.errors import UsageError
from strandline.logs import is_secret_name, register_secret

__all__ = ["READ", "WRITTEN", "place"]

_SCHEMES = ("postgresql", "postgres")
_SETTING = "connection_string"
_INSTALLS = "strandline[postgresql]"
READ = Description(
    schemes=_SCHEMES,
    examples=("postgresql://user@host/shop",),
    drivers=("adbc_driver_postgresql", "psycopg"),
    installs=_INSTALLS,
)
WRITTEN = Description(
    schemes=_SCHEMES,
    examples=("postgresql://user@host/warehouse",),
    drivers=("adbc_driver_postgresql", "pgpq", "psycopg"),
    installs=_INSTALLS,
)
_SETTINGS = re.compile(r"\s*(?:[a-z_]+\s*=[^/]*\s)?(?:host|hostaddr|dbname|service|user|password)\s*=")
"""How a list of settings begins, and no path."""


def place(written: str) -> Place | None:
    """A URL, or a list of settings, as settings of the plugin; see ``strandline.describe.Understands``."""
    if written.partition("://")[0] not in _SCHEMES and not _SETTINGS.match(written):
        return None
    settings = understood(written)
    if settings is None:
        register_secret(written)
        raise UsageError("this connection string can be understood in more than one way, or in none", hint=HINT)
    has_password = any(is_secret_name(name) for name in settings)
    if has_password:
        register_secret(written)
    stem = settings.get("dbname") or settings.get("host") or settings.get("hostaddr") or ""
    shown = without_secrets(written)
    return Place({_SETTING: written}, stem, shown, secret=_SETTING if has_password else "")
