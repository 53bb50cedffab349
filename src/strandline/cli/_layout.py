"""Text on a terminal: how wide it is, and how it is made to fit. Into a pipe or a file lines go whole."""

import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Collection, Sequence
from functools import cache
from itertools import zip_longest
from typing import TextIO

__all__ = [
    "broken",
    "columns",
    "error_width",
    "fitted",
    "grid",
    "shortened",
    "table",
    "terminal_width",
    "took",
    "wrapped",
]

_NARROWEST = 20
"""Columns for a text behind its indent; where there are fewer, the terminal wraps by itself."""
_GAP = 2
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_CELL_MIN = 12
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_WORD_MAX = 24
"""Columns; a longer word is broken rather than that all others stand below each other."""


def columns(text: str) -> int:
    """How many columns of a terminal it takes."""
    return len(text) + sum(_columns_of(one) - 1 for one in _NOT_ASCII.findall(text))


@cache
def _columns_of(character: str) -> int:
    return 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; ``None``: it is none."""
    return _width(sys.stdout)


def error_width() -> int | None:
    """Columns of the terminal that stderr is; ``None``: it is none."""
    return _width(sys.stderr)


def _width(stream: TextIO) -> int | None:
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    except (OSError, ValueError):  # it is closed, or no file
        return None


def wrapped(first: str, text: str, *, width: int | None) -> list[str]:
    """``text`` behind ``first``, by words, with the further lines indented below it."""
    hanging = columns(first)
    if width is None or width - hanging < _NARROWEST:
        return [first + text]
    lines = textwrap.wrap(text, width - hanging, break_long_words=False, break_on_hyphens=False) or [""]
    return [first + lines[0], *(" " * hanging + line for line in lines[1:])]


def shortened(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns; what is left out is left out in the middle, since names begin alike."""
    if columns(text) <= width:
        return text
    head, tail = "", ""
    for at, character in enumerate(text):
        if columns(head + character + tail + text[-at - 1]) + 1 > width:
            break
        head, tail = head + character, text[-at - 1] + tail
    return f"{head}…{tail}" if width > 0 else ""


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """``text`` in exactly ``width`` columns."""
    size = columns(text)
    short = text if size <= width else shortened(text, width)
    blank = " " * (width - (size if short is text else columns(short)))
    return blank + short if right else short + blank


def table(rows: Sequence[Sequence[str]], *, width: int | None = None, right: Collection[int] = ()) -> list[str]:
    """Rows of cells, the first of them headings, in columns; one in which all cells are empty is left out.

    On a terminal of ``width`` columns the last column gives way, then the first.

    Args:
        rows: texts without anything that a terminal would act upon.
        width: of the terminal; ``None``: it is none, and the lines go whole.
        right: the numbers of the columns that are aligned to the right.
    """
    shown = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    if not shown:
        return []
    wide = [max(columns(row[at]) for row in rows) for at in shown]
    if width is not None:
        for at in (-1, 0):
            over = sum(wide) + _GAP * len(wide) - width
            wide[at] = min(wide[at], max(_CELL_MIN, wide[at] - over)) if over > 0 else wide[at]
    lines = []
    for row in rows:
        cells = [fitted(row[at], wide[n], right=at in right) for n, at in enumerate(shown)]
        lines.append((" " * _GAP).join(cells).rstrip())
    return lines


def grid(rows: Sequence[Sequence[str]], *, width: int) -> list[list[str]]:
    """The lines of each row of cells, the first of them headings; a column in which all cells are empty is left out.

    No cell is cut: where the columns have no room, the widest ones give way, and break their texts by words.
    """
    shown = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    wide = [max(columns(row[at]) for row in rows) for at in shown]
    least = [
        min(most, _WORD_MAX, max(columns(word) for row in rows for word in row[at].split(" ")))
        for at, most in zip(shown, wide, strict=True)
    ]
    for floor in (least, *([min(few, most) for most in wide] for few in (_CELL_MIN, 1))):
        while sum(wide) + _GAP * (len(wide) - 1) > width:
            room = [(most - few, at) for at, (most, few) in enumerate(zip(wide, floor, strict=True)) if most > few]
            if not room:
                break
            widest = max(room, key=lambda one: wide[one[1]])[1]
            wide[widest] -= 1
    lines = []
    for row in rows:
        cells = [broken(row[at], most) for at, most in zip(shown, wide, strict=True)]
        lines.append(
            [
                (" " * _GAP).join(fitted(part, most) for part, most in zip(parts, wide, strict=True)).rstrip()
                for parts in zip_longest(*cells, fillvalue="")
            ]
        )
    return lines


def broken(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` columns, by words; a word that is longer is broken."""
    lines = [""]
    for word in text.split(" "):
        rest = word
        while rest:
            line = f"{lines[-1]} {rest}" if lines[-1] else rest
            if columns(line) <= width:
                lines[-1], rest = line, ""
            elif lines[-1]:
                lines.append("")
            else:
                at = max(1, next(n for n in range(len(rest) + 1) if columns(rest[: n + 1]) > width))
                lines[-1], rest = rest[:at], rest[at:]
                lines.append("")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def took(seconds: float) -> str:
    """``4.2 s``, ``3 min 05 s``, ``2 h 10 min``, ``5 d 03 h``."""
    if seconds < _MINUTE:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE):02} s"
    if seconds < _DAY:
        return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE):02} min"
    return f"{int(seconds // _DAY)} d {int(seconds % _DAY // _HOUR):02} h"
