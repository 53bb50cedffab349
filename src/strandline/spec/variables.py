"""``${…}`` inside the string values of a parsed spec: environment variables, files and times.

Replaced after parsing, so that a value never becomes structure, and never in keys. Results are not searched again.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from strandline.errors import Problem
from strandline.logs import is_secret_name, register_parts, register_secret
from strandline.settings import parse_duration
from strandline.spec.document import Node

__all__ = ["Variables", "register_secrets"]

FILE_BYTES_MAX = 256 << 10

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[^\s:{}$]+")
_HINT = "the forms are ${NAME}, ${NAME:-default}, ${file:path} and ${time:7 days ago}"


class _UnknownError(Exception):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class _NoVariableError(_UnknownError):
    """What stands in the braces is no name, and so may be anything, also a piece of a password."""


@dataclass(slots=True)
class Variables:
    """Replaces variables in nodes, in place, and registers what it found as secret, unless it is a name.

    A value for a field of another type stays a text: ``${PORT}`` is ``"5432"``, which the field's own model reads as a
    number.
    """

    environment: Mapping[str, str]
    now: datetime
    """One time for all of a spec. With a zone."""
    unknown: set[str] = field(default_factory=set)
    """``${NAME}`` as it stands in the spec, of those that have no value: a name is no secret."""
    _done: dict[int, Node] = field(default_factory=dict)
    """By id. Kept, for the id of one that is gone may be that of a node of the next file."""

    def replace_document(
        self, document: Node, problems: list[Problem], *, said: Collection[str], unsaid: Iterable[Node] = ()
    ) -> None:
        """Replace all variables of a document; in the fields of its ``spec`` that are ``said``, they are no secrets.

        These come last: what also stands elsewhere, by an alias, is secret; so is what is ``unsaid`` inside them.
        """
        spec = document.get("spec")
        for parent, open_to_all in ((document, {"kind", "spec"}), (spec, said)):
            entries = parent.value if parent is not None and isinstance(parent.value, dict) else {}
            for name, entry in entries.items():
                if name not in open_to_all:
                    self.replace(entry.node, problems)
        for node in unsaid:
            self.replace(node, problems)
        is_known = spec is None or isinstance(spec.value, dict)
        self.replace(document, problems, secret=not (is_known and isinstance(document.value, dict)))

    def replace(self, node: Node, problems: list[Problem], *, secret: bool = True) -> None:
        """Replace all variables below ``node``; what is unknown goes to ``problems``."""
        if id(node) in self._done:
            return
        self._done[id(node)] = node
        if isinstance(node.value, dict):
            for entry in node.value.values():
                self.replace(entry.node, problems, secret=secret)
        elif isinstance(node.value, list):
            for item in node.value:
                self.replace(item, problems, secret=secret)
        elif isinstance(node.value, str) and "${" in node.value:
            self._replace(node, node.value, problems, secret=secret)

    def _replace(self, node: Node, text: str, problems: list[Problem], *, secret: bool) -> None:
        def found(match: re.Match[str]) -> str:
            try:
                return self._resolve(match[1], secret=secret)
            except _UnknownError as error:
                problems.append(node.problem(error.message, error.hint))
                if not isinstance(error, _NoVariableError):
                    self.unknown.add(match[0])
                return match[0]

        # The rest holds no variable, and looking from each "${" in it for an end would take for ever.
        end = text.rfind("}") + 1
        node.value = _VARIABLE.sub(found, text[:end]) + text[end:]

    def _resolve(self, inside: str, *, secret: bool) -> str:
        kind, separator, rest = inside.partition(":")
        if separator and kind == "file":
            value = _read(rest)
            if secret or is_secret_name(rest):
                register_secret(value)
            return value
        if separator and kind == "time":
            return time_text(rest, self.now)
        name, separator, default = inside.partition(":-")
        if not _NAME.fullmatch(name):
            raise _NoVariableError(f"`${{{inside}}}` is not a variable", _HINT)
        value = self.environment.get(name, "")
        if name in self.environment and not (separator and not value):
            if secret or is_secret_name(name):
                register_secret(value, pieces=is_secret_name(name))
            return value
        if separator:
            return default
        near = difflib.get_close_matches(name, self.environment, n=1, cutoff=0.8)
        hint = f"did you mean ${{{near[0]}}}? " if near else ""
        raise _UnknownError(
            f"the environment variable {name} is not set",
            f"{hint}set it, also in .env beside the spec, or give a default: ${{{name}:-default}}",
        )


def register_secrets(node: Node, *, unknown: Collection[str] = (), secret: bool = False) -> None:
    """Register the values of all fields below ``node`` that are named like a secret, and passwords in all texts.

    Args:
        node: with its variables replaced.
        unknown: variables that could not be replaced, and so stand in the values: these stay readable.
        secret: whether a name above says that everything is secret.
    """
    if isinstance(node.value, dict):
        for key, entry in node.value.items():
            register_secrets(entry.node, unknown=unknown, secret=secret or is_secret_name(key))
    elif isinstance(node.value, list):
        for item in node.value:
            register_secrets(item, unknown=unknown, secret=secret)
    elif isinstance(node.value, str) and any(name in node.value for name in unknown):
        _register_around(node.value, unknown, secret=secret)
    elif secret and node.value is not None and not isinstance(node.value, bool):
        register_secret(str(node.value))
        if not isinstance(node.value, str):
            register_secret(node.raw)
    elif isinstance(node.value, str):
        register_parts(node.value)


def _register_around(value: str, unknown: Collection[str], *, secret: bool) -> None:
    """What is secret in ``value`` but for the variables in it, which are named in the error that is about them."""
    pieces = re.split("|".join(map(re.escape, unknown)), value)
    if not secret:
        register_parts("".join(pieces))
    elif any(pieces):
        # as a whole, since pieces of it are pieces of a name
        register_secret(value, pieces=False)
        for piece in pieces:
            register_secret(piece)


def _read(path: str) -> str:
    """A file's text as it is, line breaks at its end included."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _UnknownError(f"the file {path!r} cannot be read: {reason}") from error
    if len(data) > FILE_BYTES_MAX:
        raise _UnknownError(f"the file {path!r} is larger than {FILE_BYTES_MAX >> 10} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnknownError(f"the file {path!r} is not UTF-8") from error


_UNITS = {"second": "seconds", "minute": "minutes", "hour": "hours", "day": "days", "week": "weeks"}
_AGO = re.compile(r"((?:\d+\s+(?:second|minute|hour|day|week|month|year)s?\s+)+)(ago|from\s+now)")
_AMOUNT = re.compile(r"(\d+)\s+(\w+?)s?\s")


def time_text(inside: str, now: datetime) -> str:
    """The text for ``${time:EXPRESSION|LAYOUT}``.

    The expression is ``now``, a date, a time (RFC 3339), a duration (``-24h``) or ``7 days ago`` and ``1 month from
    now``; the layout is one of Go's (``2006-01-02``), RFC 3339 where it is absent.
    """
    expression, _, layout = inside.partition("|")
    return _formatted(_time(expression.strip(), now.astimezone(UTC)), layout or "2006-01-02T15:04:05Z07:00")


def _time(expression: str, now: datetime) -> datetime:
    try:
        if expression == "now":
            return now
        if ago := _AGO.fullmatch(expression):
            return _shifted(now, ago[1], -1 if ago[2] == "ago" else 1)
        if re.fullmatch(r"\d{4}-\d\d-\d\d", expression):
            return datetime.fromisoformat(expression).replace(tzinfo=UTC)
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[-+]\d\d:\d\d)", expression):
            return datetime.fromisoformat(expression)
        if (distance := _distance(expression)) is not None:
            return now + distance
    except (ValueError, OverflowError) as error:
        raise _UnknownError(f"the time {expression!r} is out of range: {error}") from error
    raise _UnknownError(
        f"{expression!r} is not a time",
        "write now, 2024-01-31, 2024-01-31T12:00:00Z, 7 days ago, 1 month from now or -24h",
    )


def _distance(expression: str) -> timedelta | None:
    sign = -1 if expression.startswith("-") else 1
    try:
        return sign * parse_duration(expression.removeprefix("-" if sign < 0 else "+"))
    except ValueError:
        return None


def _shifted(now: datetime, amounts: str, sign: int) -> datetime:
    """Months and years first, as in Go: the 31st of a shorter month is a day in the next."""
    delta = timedelta()
    months = 0
    for amount, unit in _AMOUNT.findall(amounts):
        if unit in ("month", "year"):
            months += sign * int(amount) * (12 if unit == "year" else 1)
        else:
            delta += sign * timedelta(**{_UNITS[unit]: int(amount)})
    year, month = divmod(now.year * 12 + now.month - 1 + months, 12)
    return now.replace(year=year, month=month + 1, day=1) + timedelta(days=now.day - 1) + delta


_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_LAYOUT: Mapping[str, Callable[[datetime], str]] = {
    "2006": lambda time: f"{time.year:04}",
    "January": lambda time: _MONTHS[time.month - 1],
    "Jan": lambda time: _MONTHS[time.month - 1][:3],
    "Monday": lambda time: _DAYS[time.weekday()],
    "Mon": lambda time: _DAYS[time.weekday()][:3],
    "MST": lambda time: time.tzname() or "",
    "Z07:00": lambda time: _offset(time, ":") if time.utcoffset() else "Z",
    "Z0700": lambda time: _offset(time, "") if time.utcoffset() else "Z",
    "-07:00": lambda time: _offset(time, ":"),
    "-0700": lambda time: _offset(time, ""),
    "-07": lambda time: _offset(time, "")[:3],
    "002": lambda time: f"{time.timetuple().tm_yday:03}",
    "01": lambda time: f"{time.month:02}",
    "02": lambda time: f"{time.day:02}",
    "03": lambda time: f"{time.hour % 12 or 12:02}",
    "04": lambda time: f"{time.minute:02}",
    "05": lambda time: f"{time.second:02}",
    "06": lambda time: f"{time.year % 100:02}",
    "15": lambda time: f"{time.hour:02}",
    "PM": lambda time: "PM" if time.hour >= _NOON else "AM",
    "pm": lambda time: "pm" if time.hour >= _NOON else "am",
    "_2": lambda time: f"{time.day:2}",
    "1": lambda time: str(time.month),
    "2": lambda time: str(time.day),
    "3": lambda time: str(time.hour % 12 or 12),
    "4": lambda time: str(time.minute),
    "5": lambda time: str(time.second),
}
"""Go writes a layout as its reference time, 2006-01-02T15:04:05-07:00. In the order in which they are looked for."""
_NOON = 12
_LAYOUT_TOKEN = re.compile("|".join([*map(re.escape, _LAYOUT), r"[.,]0+(?![0-9])", r"[.,]9+(?![0-9])"]))


def _formatted(time: datetime, layout: str) -> str:
    def token(match: re.Match[str]) -> str:
        written = match[0]
        if written in _LAYOUT:
            return _LAYOUT[written](time)
        digits = f"{time.microsecond:06}000"[: len(written) - 1]
        digits = digits.rstrip("0") if written[1] == "9" else digits
        return written[0] + digits if digits else ""

    return _LAYOUT_TOKEN.sub(token, layout)


def _offset(time: datetime, separator: str) -> str:
    text = time.strftime("%z")
    return f"{text[:3]}{separator}{text[3:5]}"
