"""Where a server of MySQL or MariaDB is, as a URL says it."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from strandline.errors import UsageError

__all__ = ["address", "place"]

_HINT = (
    "write mysql://user:password@host:3306/database, and in its parts %40 for @, %2F for /, %3A for :, %25 for %; behind a ?, "
    "joined by &: ssl_ca=/path, ssl_cert=/path, ssl_key=/path, ssl=verify, ssl=off, unix_socket=/path"
)
_PATHS = {"ssl_ca", "ssl_cert", "ssl_key", "unix_socket"}


def address(connection_string: str) -> dict[str, Any]:
    """What the driver takes. With an authority, or ``ssl=verify``, the server has to show a certificate in its own name.

    Raises:
        UsageError: it is none.
    """
    try:
        url = urlsplit(connection_string)
        asked = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=True) if url.query else ())
        found: dict[str, Any] = {
            "host": url.hostname or "localhost",
            "port": url.port or 3306,
            "user": unquote(url.username or ""),
            "password": unquote(url.password or "").encode(),
            "database": unquote(url.path.removeprefix("/")),
        }
    except ValueError:
        asked, found = {"": ""}, {}
    if (
        not found
        or url.scheme not in {"mysql", "mariadb"}
        or url.fragment
        or not all((found["user"], found["database"], "/" not in found["database"]))
        or not asked.keys() <= _PATHS | {"ssl"}
        or asked.get("ssl") not in {None, "verify", "off"}
    ):
        # not quoted: what could not be read may be a part of a password
        raise UsageError("`connection_string` is no URL of MySQL that names a user and a database", hint=_HINT)
    found |= {name: value for name, value in asked.items() if name in _PATHS}
    if asked.get("ssl") == "off":
        found["ssl_disabled"] = True
    elif asked.keys() & {"ssl", "ssl_ca", "ssl_cert"}:
        found |= {"ssl_verify_cert": True, "ssl_verify_identity": True}
    return found


def place(found: dict[str, Any]) -> str:
    """For people."""
    return "MySQL {}/{database}".format(found.get("unix_socket") or "{host}:{port}".format(**found), **found)
