"""Text on a terminal: how wide it is, and how it is made to fit. Into a pipe or a file lines go whole."""

import os
import sys
import textwrap
import unicodedata
from typing import TextIO

__all__ = ["columns", "error_width", "fitted", "shortened", "terminal_width", "wrapped"]

_NARROWEST = 20
"""Columns for a text behind its indent; where there are fewer, the terminal wraps by itself."""


def columns(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


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
    short = shortened(text, width)
    blank = " " * (width - columns(short))
    return blank + short if right else short + blank
