"""One file after the other: what became of it."""

import os
import re
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from realfiles import judges, readers

_LONG_AGO_S = 1_577_836_800
_KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".psv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".geojson": "json",
    ".parquet": "parquet",
    ".parq": "parquet",
}
_FEATURES = re.compile(rb'\s*\{\s*"type"\s*:\s*"FeatureCollection"')
_AS_TEXT = re.compile(r"`types: \{(.*): string\}`")
_PACKED = {".gz", ".zst"}
_SHOWN_MAX = 300
_EXACT, _REFUSED, _DIFFERENT = "exact", "refused", "different"


@dataclass
class Verdict:
    package: str
    file: str
    format: str
    outcome: str = _EXACT
    settings: dict = field(default_factory=dict)
    """What a user had to say so that it is read; without them it was refused with a hint that names them."""
    rows: int = 0
    seconds: float = 0.0
    """Of both syncs."""
    reason: str = ""
    """Why it was refused; or the first cell that differs."""
    others: dict = field(default_factory=dict)
    """What the other readers make of it: ``exact``, or how they differ or fail."""
    silent: bool = False
    """Different, and neither of the two others says the same as what was stored."""

    def record(self):
        return asdict(self)


def kind_of(name):
    suffixes = [one.lower() for one in PurePosixPath(name).suffixes]
    while suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return _KINDS.get(suffixes[-1]) if suffixes else None


def format_of(name, content, text):
    """For the summary: what sort of file this is."""
    kind, packed = kind_of(name), " packed" if content[:2] == b"\x1f\x8b" or name.endswith(".zst") else ""
    if kind == "csv":
        coded = " UTF-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
        between = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}.get(text and text.delimiter, "text")
        return f"csv {between}{coded}{packed}"
    if kind == "json":
        start = judges.unpacked(name, content)[:1_000].lstrip(b"\xef\xbb\xbf \t\r\n")
        lines = PurePosixPath(name).suffix in {".jsonl", ".ndjson"}
        of = "geojson" if _FEATURES.match(start) else "lines" if lines else "array"
        return f"json {of if of != 'array' or start.startswith(b'[') else 'object'}{packed}"
    return kind or "?"


def judged(package, name, content):
    """The verdict on one file: with nothing said, and then with the settings that its refusal asks for."""
    first = verdict = _judged(package, name, content, {})
    said = {}
    while verdict.outcome == _REFUSED and (column := _column(verdict.reason)) and column not in said:
        said[column] = "string"
        verdict = _judged(package, name, content, {"types": said})
    for settings in _settings(name, first.reason):
        if verdict.outcome != _REFUSED:
            break
        verdict = _judged(package, name, content, settings)
    return first if verdict.outcome == _REFUSED else verdict


def _column(reason):
    """Which column the hint says to read as text."""
    found = _AS_TEXT.search(reason)
    if found and found[1] == "COLUMN":
        found = re.match(rf"{readers.TABLE}\.([^.:]+)", reason)
        return found and found[1]
    return found and found[1]


def _settings(name, reason):
    """What the hint of a refusal tells the user to set."""
    if kind_of(name) == "csv" and ("csv.encoding" in reason or "UTF" in reason):
        yield {"csv": {"encoding": "cp1252"}}
        yield {"csv": {"encoding": "latin-1"}}
    if "the header has column" in reason:
        yield {"csv": {"header": False}}
    if "what stands between" in reason:
        yield from ({"csv": {"delimiter": one}} for one in ",;\t|")


def _judged(package, name, content, settings):
    kind = kind_of(name)
    said = dict(settings)
    records = ()
    if kind == "json" and _FEATURES.match(judges.unpacked(name, content)[:1_000]):
        said, records = said | {"records": "features"}, ("features",)
    if PurePosixPath(name.removesuffix(".gz")).suffix.lower() in {".txt", ".dat", ".geojson", ".parq"}:
        said["format"] = kind
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PurePosixPath(name).name
        path.write_bytes(content)
        os.utime(path, (_LONG_AGO_S, _LONG_AGO_S))
        text, compare = _compared_by(kind, name, content, settings.get("csv", {}), records, path)
        verdict = Verdict(package, name, format_of(name, content, text), settings=said)
        between = text.delimiter if text else ""
        began_s = time.monotonic()
        try:
            read = readers.stored(path, said, Path(folder))
        except readers.RefusedError as refused:
            verdict.outcome, verdict.reason = _REFUSED, str(refused)
            read = None
        else:
            verdict.rows = len(read.values)
        verdict.seconds = round(time.monotonic() - began_s, 3)
        others = {
            "duckdb": lambda: readers.by_duckdb(path, kind),
            "arrow": lambda: readers.by_arrow(path, kind, between),
        }
        _compare(verdict, read, compare, others)
    return verdict


def _compared_by(kind, name, content, csv_settings, records, path):
    """What compares rows with the file itself; and its text, if it is CSV."""
    try:
        if kind == "csv":
            text = judges.text_of(judges.unpacked(name, content), csv_settings)
            return text, lambda read: judges.against_text(read, text)
        if kind == "json":
            raw = judges.records_of(judges.unpacked(name, content), records)
            return None, lambda read: judges.against_records(read, raw)
        true = readers.by_arrow(path, kind, "")
    except Exception as error:  # noqa: BLE001 Python cannot read it either, which the verdict says
        said = f"Python cannot read it: {error!r}"[:_SHOWN_MAX]
        return None, lambda _read: judges.Difference(-1, "", "rows", said)
    return None, lambda read: judges.against_rows(read, true)


def _compare(verdict, read, compare, others):
    difference = compare(read) if read is not None else None
    agrees = False
    for name, reader in others.items():
        try:
            other = reader()
            theirs = compare(other)
            verdict.others[name] = _EXACT if theirs is None else shown(theirs)
            agrees |= difference is not None and judges.against_rows(read, other) is None
        except Exception as error:  # noqa: BLE001 whatever another reader fails with is what it says of the file
            verdict.others[name] = f"{type(error).__name__}: {error}"[:_SHOWN_MAX]
    if difference is not None:
        verdict.outcome, verdict.reason, verdict.silent = _DIFFERENT, shown(difference), not agrees


def shown(difference):
    said, written = (repr(one)[:_SHOWN_MAX] for one in (difference.said, difference.written))
    return f"row {difference.row}, column {difference.column!r}: {said} for {written}"
