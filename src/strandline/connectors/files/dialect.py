r"""How a CSV file is written, as its first records say: what stands between values.

The header says it, where only one of ``, ; | \t`` is in it outside quotes. Where several are, the one counts that makes as many
values of the records as of the header. Excel's first line ``sep=;`` says it too.
"""

import re
from collections.abc import Sequence

__all__ = ["between_values", "in_words", "separator_line"]

_CANDIDATES = b",;\t|"
_SEPARATOR = re.compile(rb'"?sep=([^\r\n])"?(?:\r\n|\n|\r)', re.IGNORECASE)
_SAID = {b",": "a comma", b";": "a semicolon", b"\t": "a tab", b"|": "a bar"}


def in_words(delimiter: bytes) -> str:
    """What stands between values, for a message."""
    return _SAID.get(delimiter, repr(delimiter.decode(errors="replace")))


def separator_line(head: bytes) -> tuple[bytes, int]:
    """What the first line ``sep=;`` says, and where the next one begins; nothing and 0 where there is none."""
    found = _SEPARATOR.match(head)
    return (found[1], found.end()) if found else (b"", 0)


def between_values(records: Sequence[bytes], quote: bytes) -> bytes:
    """What stands between the values of the first ``records``, of which the first is most like a header.

    Raises:
        ValueError: it may be one or another.
    """
    plain = [_unquoted(record, quote) for record in records]
    first, *others = plain or [b""]
    counts = {byte: first.count(byte) for byte in map(bytes, zip(_CANDIDATES, strict=True)) if byte in first}
    for one in others:
        same = {byte: count for byte, count in counts.items() if one.count(byte) == count}
        # so what was sure with fewer records stays sure with more, as a file grows
        counts = same or counts
    if len(counts) > 1:
        names = " or ".join(map(in_words, counts))
        raise ValueError(f"what stands between its values may be {names}")
    return next(iter(counts), b",")


def _unquoted(record: bytes, quote: bytes) -> bytes:
    return re.sub(rb"%b[^%b]*%b" % ((re.escape(quote),) * 3), b"", record) if quote else record
