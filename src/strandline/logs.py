"""What may be said: secrets are masked in every text that leaves the process, and logging is set up in one place.

A secret is known from the moment the spec is read (``register_secret``). ``redact`` finds it in the shapes in which
drivers, tracebacks and encoders show it: as it is, URL-encoded, in base64 at any alignment, escaped as JSON, as SQL or
by ``repr``, cut to any piece of eight characters or more, and inside a connection string.
"""

import base64
import json
import logging
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus, unquote

__all__ = ["FORMATS", "LEVELS", "MASK", "configure", "is_secret_name", "redact", "register_parts", "register_secret"]

MASK = "***"
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_SHORTEST = 4
"""Characters; anything shorter would mask half of every text."""
_PIECE = 8
"""A piece of a secret of this many characters is masked too."""
_PLAIN_KEYS = (
    "cluster|cursor|dedup|distribution|foreign|group|hash|incremental|order|partition|primary|range|row|sort|unique"
)
_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|(^|_)pwd|secret|token|credential|cookie|connection_?string|(^|_)dsn|bearer|signature|certificate"
    rf"|(^|_)sas(_|$)|(^|_)auth(orization)?$|key_?(id|file|data|json|pem)$|^(?!({_PLAIN_KEYS})_?keys?$).*keys?$",
    re.IGNORECASE,
)
_URL_USER = re.compile(r"//[^/?#\s@:]{0,256}:([^\s@]{0,1024})@")
_URL_USER_LAST = re.compile(r"(?:^|//)[^:/?#\s@]{0,256}:(?!//)(\S{1,1024})@")
_URL_TOKEN = re.compile(r"https?://([^:/?#\s@]{1,1024})@")
_SETTING = re.compile(
    r"(?<!\w)([A-Za-z][\w -]{0,40}?)\s{0,8}=\s{0,8}('(?:\\.|[^'\\]){1,1024}'|\"[^\"]{1,1024}\"|[^\s;&'\"]{1,1024})"
)
_CONNECTION_MAX = 8_192
"""Characters; anything longer is no connection string."""
_ALL_PIECES_MAX = 16_384
"""Characters; of a longer secret only the plain and the JSON form are searched for pieces."""


def is_secret_name(name: str) -> bool:
    """Whether a field or variable of this name holds a secret, as ``password`` or ``api_key``, unlike ``primary_key``."""
    return _SECRET_NAME.search(name.replace("-", "_").replace(".", "_")) is not None


class _Known:
    """The secrets of this process, indexed by how they begin. Grows only; reading needs no lock."""

    def __init__(self) -> None:
        self.forms: dict[str, tuple[tuple[str, bool], ...]] = {}
        """By their first characters, the longest first: what is masked, and whether only as a whole word."""
        self.pieces: set[str] = set()
        self._seen: set[tuple[str, bool]] = set()
        self._lock = threading.Lock()

    def add(self, value: str, *, pieces: bool) -> None:
        """Mask ``value`` from now on, in every form."""
        with self._lock:
            if len(value) < _SHORTEST or (value, pieces) in self._seen:
                return
            self._seen.add((value, pieces))
            whole_word = not pieces and len(value) < _PIECE
            for form in _forms(value):
                head = form[:_SHORTEST]
                known = (*self.forms.get(head, ()), (form, whole_word))
                self.forms[head] = tuple(sorted(known, key=lambda pair: -len(pair[0])))
                if pieces and (len(value) <= _ALL_PIECES_MAX or form in (value, json.dumps(value)[1:-1])):
                    self.pieces.update(form[at : at + _PIECE] for at in range(len(form) - _PIECE + 1))

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets stand in ``text``, ordered by their beginning."""
        for at in range(len(text) - _SHORTEST + 1):
            for form, whole_word in self.forms.get(text[at : at + _SHORTEST], ()):
                if text.startswith(form, at) and not (whole_word and _inside_word(text, at, at + len(form))):
                    yield at, at + len(form)
                    break
            if text[at : at + _PIECE] in self.pieces:
                yield at, at + _PIECE


_known = _Known()


def _inside_word(text: str, start: int, stop: int) -> bool:
    around = text[max(start - 1, 0) : start] + text[stop : stop + 1]
    return any(character.isalnum() or character == "_" for character in around)


def _forms(value: str) -> set[str]:
    data = value.encode("utf-8", "surrogatepass")
    forms = {
        value,
        value.strip(),
        quote(value, safe="", errors="surrogatepass"),
        quote(value, errors="surrogatepass"),
        quote_plus(value, errors="surrogatepass"),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        repr(data)[2:-1],
        value.replace("'", "''"),
        value.replace("'", "\\'"),
    }
    forms |= {re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), form) for form in forms if "%" in form}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            text = encode(bytes(before) + data).decode()
            # Only the characters that depend on nothing but the secret: what stands before and after it varies.
            first, last = (8 * before + 5) // 6, 8 * (before + len(data)) // 6
            forms |= {text[first:last], text[first:].rstrip("=")}
    return {form for form in forms if len(form) >= _SHORTEST}


def register_secret(value: str, *, pieces: bool = True) -> None:
    """Mask ``value`` in every text from now on. Safe from any thread; registering twice is as good as once.

    Args:
        value: the secret. Shorter than four characters it is ignored.
        pieces: mask also what is left of it when it was cut, from eight characters on. Without, a value of less than
            eight characters is masked only where it stands as a word: for values that are probably no secret.
    """
    # A connection string is mostly words that everybody may read: its pieces would mask "postgresql".
    _known.add(value, pieces=pieces and not register_parts(value) and "://" not in value)
    for name, leaf in _json_leaves(value):
        register_secret(leaf, pieces=is_secret_name(name))


def register_parts(value: str) -> bool:
    """Mask the passwords inside ``value`` if it is a URL or a connection string; whether there were any."""
    parts = set(_passwords(value))
    for part in parts:
        _known.add(part, pieces=True)
    return bool(parts)


def _passwords(value: str) -> Iterator[str]:
    """The secrets inside a URL, a libpq string or an ODBC string, as written and as meant."""
    found: list[str] = []
    if len(value) > _CONNECTION_MAX:
        return
    if "@" in value:
        for pattern in (_URL_USER, _URL_USER_LAST, _URL_TOKEN):
            found += [match[1] for match in pattern.finditer(value)]
    for match in _SETTING.finditer(value) if "=" in value else ():
        if is_secret_name(match[1].strip().replace(" ", "_")):
            found.append(match[2])
            if match[2][0] in "'\"":
                found += [match[2][1:-1], re.sub(r"\\(.)", r"\1", match[2][1:-1])]
    for part in found:
        yield part
        yield unquote(part)


def _json_leaves(value: str) -> Iterable[tuple[str, str]]:
    """(name, text) of each text in a JSON object, as in a file of credentials."""
    if not value.lstrip().startswith("{"):
        return ()
    try:
        return list(_leaves("", json.loads(value)))
    except (ValueError, RecursionError):
        return ()


def _leaves(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(key, item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(name, item)
    elif isinstance(value, str):
        yield name, value


def redact(text: str) -> str:
    """``text`` with every registered secret, and every piece of one, replaced by ``***``."""
    if not _known.forms:
        return text
    kept, end, masked = [], 0, False
    for start, stop in _known.spans(text):
        if start > end or not masked:
            kept += [text[end:start], MASK]
            masked = True
        end = max(end, stop)
    return "".join([*kept, text[end:]]) if masked else text


def _redact_all(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): _redact_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_all(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _TextFormatter(logging.Formatter):
    """One line for people: the message, with its level and logger where they say something."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        if not record.name.startswith("strandline"):
            prefix += f"{record.name}: "
        text = prefix + record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + record.stack_info
        return redact(text)


class _JSONFormatter(logging.Formatter):
    """One JSON object a line, with whatever the caller passed as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            event["stack"] = record.stack_info
        # Redacted before it is encoded, so that a mask never swallows a quote; the names of fields are ours.
        return json.dumps({name: _redact_all(value) for name, value in event.items()}, ensure_ascii=False)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return cast("TextIO", sys.stderr)


def configure(*, level: str = "info", form: str = "text") -> None:
    """Send all logging of the process to stderr, redacted. Another call replaces what the last one set.

    Args:
        level: one of ``LEVELS``; other packages are heard from ``warning`` on, and at ``debug`` in full.
        form: one of ``FORMATS``.
    """
    handler = _Stderr()
    handler.setFormatter(_JSONFormatter() if form == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers = [*(old for old in root.handlers if not isinstance(old, _Stderr)), handler]
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))
    logging.getLogger("strandline").setLevel(number)
    logging.captureWarnings(capture=True)
    # A failure of logging itself would print the record, unredacted.
    logging.raiseExceptions = False
