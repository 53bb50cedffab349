"""Whether the values of an incremental key are times: by the values, never by the column's name.

A time may be dated into the future, an id may not. A cursor that follows the greatest value would then pass the clock, and
every row that is stamped until that day is never read. So no cursor passes the greatest value that is not in the future, its
*ceiling*; what lies above is read again at every sync until its time comes. To take ids for times costs such reading, and no
rows; to take times for ids loses rows. In doubt, values are times.

The forms of times are numbers since 1970 in seconds, milliseconds, microseconds or nanoseconds, dates packed into digits
(20261231, 20261231235959), both as numbers and as texts, and the identifiers that begin with a time: ULIDs and UUIDs of
version 7. What is a text with separators (2026-12-31) a source compares by rules of its own.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias

__all__ = ["IDS_MIN", "OLDEST_S", "UNITS", "Form", "form_of", "unit_of"]

OLDEST_S = 315_532_800
"""1980, in seconds since 1970. Times of change are not older."""
UNITS = (1, 10**3, 10**6, 10**9)
"""How many of it are in a second."""
IDS_MIN = 100
"""So many different values between 0 and ``Form.floor`` show that the greatest is an id: a sequence has come all the way."""

Number: TypeAlias = int | float | Decimal
_PACKED = re.compile(r"(\d{8})(?:(T?)(\d{2})(\d{2})?(\d{2})?(\d*)(Z?))?", re.ASCII)
_DATE, _TIME = "%Y%m%d", "%H%M%S"
_OLDEST_PACKED = "19800101"
_EPOCH_DIGITS = frozenset({9, 10, 12, 13, 15, 16, 18, 19})
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)
_UUID_7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_BASE_32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = 1_000
_YEAR_S = 366 * 86_400
_FUTURE_S = 200 * _YEAR_S
"""How far ahead a time may lie that is meant."""
_END_S = 253_402_300_800
"""The year 10000: its eve stands for a day that never comes."""


@dataclass(frozen=True, slots=True)
class Form:
    """How the times of one key are written."""

    name: str
    """``epoch``, ``packed``, ``ulid`` or ``uuid7``."""
    sample: Number | str
    """One of them."""

    @property
    def floor(self) -> int | None:
        """Of numbers: a positive value below it is no time. ``None``: texts, which are not counted."""
        if isinstance(self.sample, str):
            return None
        return OLDEST_S if self.name == "epoch" else int(_OLDEST_PACKED.ljust(len(str(int(self.sample))), "0"))

    def is_certain(self, now_s: int) -> bool:
        """Whether the sample alone shows it; otherwise there has to be a value in ``past``, too.

        Identifiers of 15 to 19 digits are common, and would be times of some far day.
        """
        if self.name != "epoch":
            return True
        number = Decimal(self.sample)
        per_s = unit_of(number)
        ahead_s = number / per_s - now_s
        return ahead_s <= 0 or (per_s < UNITS[-1] and (ahead_s <= _FUTURE_S or 0 <= _END_S - number / per_s < _YEAR_S))

    def past(self, now_s: int) -> tuple[int | str, int | str]:
        """The least and the greatest time of this form from 1980 to the present."""
        return self.ceiling(OLDEST_S), self.ceiling(now_s)

    def ceiling(self, now_s: int) -> int | str:
        """The greatest value of this form that is not in the future, of the class and the length of the sample."""
        text = self.sample if isinstance(self.sample, str) else str(int(self.sample))
        found = _CEILINGS[self.name](text, now_s)
        if not isinstance(self.sample, str):
            return int(found)
        return found.lower() if self.sample == self.sample.lower() else found


def form_of(value: object) -> Form | None:
    """The form of which ``value``, the greatest finite one of a key, is a time; ``None``: it is none."""
    if isinstance(value, str):
        if _is_packed(value):
            return Form("packed", value)
        if value.isascii() and value.isdigit() and len(value) in _EPOCH_DIGITS and int(value) >= OLDEST_S:
            return Form("epoch", value)
        return (
            Form("uuid7", value)
            if _UUID_7.fullmatch(value)
            else Form("ulid", value)
            if _ULID.fullmatch(value)
            else None
        )
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        return None
    if value == int(value) and _is_packed(str(int(value))):
        return Form("packed", value)
    return Form("epoch", value) if value >= OLDEST_S else None


def unit_of(value: Number) -> int:
    """The unit of a time as a number: units in a second.

    Times since 1980 in two of the units are no two times of these centuries: 1980 in milliseconds is the year 11968 in
    seconds. So the unit need not be declared, and a row dated into the year 9999 does not make seconds look like
    milliseconds.
    """
    return next((per_s for per_s in UNITS[:-1] if value < OLDEST_S * per_s * 1_000), UNITS[-1])


def _is_packed(text: str) -> bool:
    match = _PACKED.fullmatch(text)
    if match is None or text < _OLDEST_PACKED:
        return False
    digits = "".join(part or "" for part in match.group(1, 3, 4, 5))
    try:
        datetime.strptime(digits, (_DATE + _TIME)[: len(digits) - 2])  # noqa: DTZ007 -- only whether it is one
    except ValueError:
        return False
    return True


def _packed(sample: str, now_s: int) -> str:
    match = _PACKED.fullmatch(sample)
    assert match is not None
    now, parts = _EPOCH + timedelta(seconds=now_s), [part or "" for part in match.groups()[1:]]
    time = now.strftime(_TIME)[: len("".join(parts[1:4]))]
    return now.strftime(_DATE) + parts[0] + time + "0" * len(parts[4]) + parts[5]


def _epoch(sample: str, now_s: int) -> str:
    return str(now_s * unit_of(int(sample))).zfill(len(sample))


def _ulid(_sample: str, now_s: int) -> str:
    number, digits = now_s * _MS, ""
    for _ in range(10):
        number, digit = divmod(number, len(_BASE_32))
        digits = _BASE_32[digit] + digits
    return digits.ljust(26, "0")


def _uuid_7(_sample: str, now_s: int) -> str:
    digits = f"{now_s * _MS:012X}7".ljust(32, "0")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


_CEILINGS = {"epoch": _epoch, "packed": _packed, "ulid": _ulid, "uuid7": _uuid_7}
