"""What may be said: secrets are masked in every text that leaves the process, and logging is set up in one place.

A secret is known from the moment the spec is read (``register_secret``). ``redact`` finds it in the shapes in which
drivers, tracebacks and encoders show it: as it is, URL-encoded, in base64 at any alignment, escaped as JSON, as SQL or
by ``repr``, cut to any piece of eight characters or more, and inside a connection string; a password of one also in pieces, as a
driver says it that took a special character in it for an end.
"""

import base64
import contextlib
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus

from strandline.connection_string import has_readable_words, is_secret_name, passwords
from strandline.connection_string import pieces as pieces_of

__all__ = [
    "FORMATS",
    "LEVELS",
    "MASK",
    "VERBOSE",
    "as_json",
    "configure",
    "is_secret_name",
    "printable",
    "redact",
    "register_parts",
    "register_secret",
    "said",
    "stamped",
]

MASK = "***"
LEVELS = ("debug", "info", "warning", "error")
VERBOSE = "verbose"
FORMATS = ("text", "json")

_SHORTEST = 4
"""Characters; anything shorter would mask half of every text. Where it stands as a word, a secret may have one less."""
_HEAD = _SHORTEST - 1
_PIECE = 8
"""A piece of a secret of this many characters is masked too."""
_ALL_PIECES_MAX = 16_384
"""Characters; of a longer secret only the plain and the JSON form are searched for pieces."""


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
                self._know(form, whole_word=whole_word)
                if pieces and (len(value) <= _ALL_PIECES_MAX or form in (value, json.dumps(value)[1:-1])):
                    self.pieces.update(form[at : at + _PIECE] for at in range(len(form) - _PIECE + 1))

    def add_word(self, word: str) -> None:
        """Mask ``word``, of three characters or more, from now on where it stands alone."""
        with self._lock:
            for form in {word, json.dumps(word)[1:-1], quote(word, safe="", errors="surrogatepass")}:
                if (form, True) not in self.forms.get(form[:_HEAD], ()):
                    self._know(form, whole_word=True)

    def _know(self, form: str, *, whole_word: bool) -> None:
        known = (*self.forms.get(form[:_HEAD], ()), (form, whole_word))
        self.forms[form[:_HEAD]] = tuple(sorted(known, key=lambda pair: -len(pair[0])))

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets stand in ``text``, ordered by their beginning."""
        for at in range(len(text) - _HEAD + 1):
            for form, whole_word in self.forms.get(text[at : at + _HEAD], ()):
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
        value: the secret. One of three characters is masked where it stands as a word; a shorter one is ignored.
        pieces: mask also what is left of it when it was cut, from eight characters on. Without, a value of less than
            eight characters is masked only where it stands as a word: for values that are probably no secret.
    """
    register_parts(value)
    # A connection string is mostly words that everybody may read: its pieces would mask "postgresql".
    _known.add(value, pieces=pieces and not has_readable_words(value))
    if pieces and len(value) == _HEAD:
        _known.add_word(value)
    for name, leaf in _json_leaves(value):
        register_secret(leaf, pieces=is_secret_name(name))


def register_parts(value: str) -> bool:
    """Mask the passwords inside ``value`` if it is a URL or a connection string; whether there were any."""
    parts = passwords(value)
    for part in parts:
        _known.add(part, pieces=True)
        for piece in pieces_of(part):
            _known.add_word(piece)
    return bool(parts)


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


def printable(text: str) -> str:
    """``text`` with everything escaped that a terminal would act upon, or that would break or reorder its line.

    Controls (ESC, C0, C1), line breaks and separators, marks of direction, and characters that no encoding can write: names
    and texts come from outside. A tab becomes a blank, so that a caret below it stays right.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character == "\t" else repr(character)[1:-1]
        for character in text
    )


def said(text: str) -> str:
    """``text``, one line, as it may be shown: without secrets, and escaped."""
    return printable(redact(text))


def as_json(
    event: Mapping[str, Any] | Sequence[Any], *, indent: int | None = None, mask: Callable[[str], str] | None = None
) -> str:
    """JSON without secrets, in which everything is escaped that ``printable`` escapes; the names of an object are ours.

    Redacted before it is encoded, so that a mask never swallows a quote. ``mask`` is ``redact``, which may remember texts: of thousands
    of tasks most are the same.
    """
    text = json.dumps(_masked(event, mask=mask or cache(redact)), ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    # what is not printable stands inside of texts, but for the line breaks of the indent
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1] for character in text
    )


def _masked(value: Any, name: Callable[[str], str] = str, mask: Callable[[str], str] = redact) -> Any:
    """JSON values without secrets; ``name`` is done to the names of objects."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {name(str(key)): _masked(item, name, mask) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, name, mask) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else mask(str(value))


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "shown"}


class _TextFormatter(logging.Formatter):
    """One line for people: when, off a terminal; the message, with its level and logger where they say something."""

    def __init__(self, is_terminal: Callable[[], bool]) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        if not record.name.startswith("strandline"):
            prefix += f"{record.name}: "
        text = said(prefix + record.getMessage())
        more = [self.formatException(record.exc_info)] if record.exc_info else []
        more += [record.stack_info] if record.stack_info else []
        # as a whole, since a secret may have lines
        lines = [text, *map(printable, redact("\n".join(more)).split("\n"))] if more else [text]
        lines += [said(f"hint: {hint}")] if (hint := vars(record).get("hint")) else []
        stamp = "" if self._is_terminal() else f"{stamped(record.created)} "
        return "\n".join(stamp + line for line in lines)


class _JSONFormatter(logging.Formatter):
    """One JSON object a line, with whatever the caller passed as ``extra``; an ``event`` is one of its own making."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(made := vars(record).get("event"), Mapping):
            return as_json({**made, "level": record.levelname.lower(), "at": stamped(record.created)})
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= {name: _masked(value, redact) for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            event["stack"] = record.stack_info
        return as_json(event)


def stamped(seconds: float) -> str:
    """A time as each line has it that is not for a terminal."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        # what is on the screen already, as an error in colour, is only for the file
        self.addFilter(lambda record: not getattr(record, "shown", False))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return cast("TextIO", sys.stderr)


class _File(logging.FileHandler):
    """Appends to a file; what cannot be written there is told to ``lost``, and undoes nothing."""

    def __init__(self, path: Path, lost: Callable[[OSError], None]) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._lost = lost

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- as logging calls it
        del record
        if isinstance(error := sys.exception(), OSError):
            self._lost(error)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what was told already, of what is still to be written
            super().close()


def configure(
    *,
    level: str = "info",
    form: str = "text",
    quiet: bool = False,
    file: Path | None = None,
    lost: Callable[[OSError], None] = lambda _: None,
) -> None:
    """Send all logging of the process to stderr, redacted. Another call replaces what the last one set.

    Args:
        level: one of ``LEVELS``; other packages are heard from ``warning`` on, and at ``debug`` in full. ``verbose`` is
            ``debug`` without the other packages.
        form: one of ``FORMATS``.
        quiet: only errors on stderr, whatever ``level`` says of the file.
        file: the same lines are appended to it, with the time of each.
        lost: is told why the file cannot be written any more.

    Raises:
        OSError: ``file`` cannot be written.
    """
    handlers: list[logging.Handler] = [_Stderr()]
    if file is not None:
        handlers.append(_File(file, lost))
    for handler in handlers:
        on_terminal = _stderr_is_terminal if isinstance(handler, _Stderr) else bool
        handler.setFormatter(_JSONFormatter() if form == "json" else _TextFormatter(on_terminal))
    if quiet:
        handlers[0].setLevel(logging.ERROR)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Stderr | _File)]:
        root.removeHandler(old)
        old.close()
    root.handlers += handlers
    number = logging.DEBUG if level == VERBOSE else logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number if level == "debug" else max(number, logging.WARNING))
    logging.getLogger("strandline").setLevel(number)
    logging.captureWarnings(capture=True)
    # A failure of logging itself would print the record, unredacted.
    logging.raiseExceptions = False


def _stderr_is_terminal() -> bool:
    return sys.stderr.isatty()
