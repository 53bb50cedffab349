r"""Records of CSV: where they end, their types, and how they become columns.

A record ends where Arrow's parser ends it: at ``\n``, ``\r\n`` or ``\r`` outside quotes, where a quote opens only at
the beginning of a field and is closed by the next one that is not doubled.
"""

import codecs
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from strandline.connectors.files.content import BOM
from strandline.connectors.files.dialect import between_values, separator_line
from strandline.connectors.files.types import numbers
from strandline.lazy import pa, pa_csv, pc

__all__ = ["CSVLines", "CSVSettings"]

_WORDS = (["true", "True", "TRUE"], ["false", "False", "FALSE"])


_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r)")
_SEPARATOR_BYTES = 16
_SNIFFED_MAX = 20
_NAMED_MAX = 5
_SURELY_DECIMAL = r"^-?[0-9]+,([0-9]{1,2}|[0-9]{4,})$"


def _one_byte(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value in "\r\n":
        raise ValueError(f"{value!r} is not a single ASCII character")
    return value


def _encoding(value: str) -> str:
    try:
        # A byte order mark is passed over in any case.
        return codecs.lookup(value).name.removesuffix("-sig")
    except LookupError as error:
        raise ValueError(f"{value!r} is not the name of an encoding") from error


_Character = Annotated[str, AfterValidator(_one_byte)]


class CSVSettings(BaseModel):
    """How CSV files are written."""

    model_config = ConfigDict(extra="forbid")

    delimiter: _Character | None = Field(
        default=None,
        description="What stands between two values. Default: what the header of each file says, of , ; | and the tab.",
    )
    quote: _Character | None = Field(
        default='"', description="What encloses a value; doubled inside it. null: quotes mean nothing."
    )
    header: bool | list[str] = Field(
        default=True,
        description="Whether the first record names the columns; or their names, for files that do not. "
        "A column without a name is f0, f1, … by its place.",
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        default="utf-8",
        description="The encoding of the files. Bytes that do not fit it are an error. A byte order mark comes before it.",
    )
    null_values: list[str] = Field(
        default=[""], description="What means null where it stands without quotes. By default: nothing at all."
    )
    quoted_nulls: bool = Field(
        default=False, description='Whether it means null in quotes too. By default "" is an empty text.'
    )


class CSVLines:
    """One CSV file: its columns and their records. See ``LineFormat``."""

    hint = "mend the record, or set `csv` (delimiter, quote, encoding) to how the files are written"
    begin_hint = "mend the header, name the columns in `csv.header`, or set `csv.delimiter` or `csv.encoding`"

    def __init__(
        self, settings: CSVSettings, declared: "Mapping[str, pa.DataType]", keys: Collection[str] = ()
    ) -> None:
        self.names: list[str] = []
        self.delimiter = ""
        """Known once the file was begun."""
        self._settings = settings
        self._declared = declared
        self._keys = frozenset(keys)
        self._quote = (settings.quote or "").encode()
        self._header = self._separator = b""
        self._patterns(settings.delimiter or ",")

    def _patterns(self, delimiter: str) -> None:
        self.delimiter, self._between = delimiter, delimiter.encode()
        between, quote = re.escape(self._between), re.escape(self._quote)
        field = plain = rb"[^%b\r\n]*+" % between
        if quote:
            quoted = rb"%b([^%b]*+(?:%b%b[^%b]*+)*+)%b" % ((quote,) * 6)
            field = rb"(?:%b(%b)|(?!%b)%b)" % (quoted, plain, quote, plain)
            start = rb"[^%b\r\n]" % between
            closed = rb"[^%b]*+(?:(?<!%b)%b|(?<=%b)%b)" % (quote, start, quoted.replace(b"([", b"(?:["), start, quote)
            self._closed = re.compile(rb"(?:%b)*+[^%b]*+" % (closed, quote))
        self._field = re.compile(field)
        field = field.replace(b"([^", b"(?:[^").replace(b"(%b)" % plain, plain)
        record = rb"%b(?:%b%b)*+" % (field, between, field)
        # At the end of the data a \r may be half of a \r\n, so there it ends nothing.
        self._record = re.compile(rb"%b(?:\r\n|\n|\r(?!\Z))" % record)
        self._whole = re.compile(rb"%b(?:\r\n?|\n)?" % record)

    def begin(self, head: bytes, *, final: bool) -> int | None:
        """Learn the columns; where the first record of values begins, or ``None`` if there is no header yet.

        Raises:
            ValueError: two columns have the same name, or what stands between values is not sure.
        """
        at = start = len(BOM) if head.startswith(BOM) else 0
        said, length = separator_line(head[at : at + _SEPARATOR_BYTES])
        self._separator = head[at : at + length].rstrip(b"\r\n")
        at = start = at + length
        while (record := _LINE.match(head, at)) and not record[0].strip(b"\r\n"):
            at = record.end()
        if self._settings.delimiter is None:
            self._patterns((said or self._sniffed(head, at)).decode())
        record = self._record.match(head, at)
        header = self._settings.header
        if record is None and (not final or header is True or at == len(head)):
            return None
        if isinstance(header, list):
            names = header
        else:
            names = self._values(record[0] if record else head[at:])
            names = [name or f"f{at}" for at, name in enumerate(names if header else [""] * len(names))]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise ValueError(f"the header has column {twice[0]!r} twice")
        if any("\0" in name for name in names):
            raise ValueError("the header has bytes of 0: it is UTF-16, or no text")
        self.names = names
        if header is True and record:
            self._header = record[0].rstrip(b"\r\n")
        return record.end() if header is True and record else start

    def _sniffed(self, head: bytes, at: int) -> bytes:
        """By the first records, in which quotes are quotes wherever they stand."""
        quote = re.escape(self._quote)
        plain = rb"(?:%b[^%b]*+%b|[^%b\r\n])*+" % ((quote,) * 4) if quote else rb"[^\r\n]*+"
        record, records = re.compile(plain + rb"(?:\r\n|\n|\r)"), list[bytes]()
        while len(records) < _SNIFFED_MAX and (found := record.match(head, at)):
            records.append(found[0].rstrip(b"\r\n"))
            at = found.end()
        return between_values(records, self._quote)

    def belongs(self, known: Sequence[str]) -> None:
        """Whether the file goes with others, whose columns are ``known``.

        Raises:
            ValueError: it has none of them, so that its first record may be no header.
        """
        if self._settings.header is True and known and self.names and not set(self.names) & set(known):
            raise ValueError(
                f"{', '.join(self.names[:_NAMED_MAX])}: the other files of the table have none of these columns, so this may "
                "be no header"
            )

    def _values(self, record: bytes) -> list[str]:
        """The values of one record, as text."""
        values, at = [], 0
        while field := self._field.match(record, at):
            inside, after = field.groups() if self._quote else (None, b"")
            value = field[0] if inside is None else inside.replace(self._quote * 2, self._quote) + after
            values.append(value.decode())
            at = field.end() + 1
            if record[field.end() : at] != self._between:
                break
        return values

    def cut(self, data: bytes) -> int:
        """Where the last complete record ends; 0 if there is none."""
        return self._cut(data, b"\n", len(data)) or self._cut(data, b"\r", len(data) - 1)

    def _cut(self, data: bytes, newline: bytes, end: int) -> int:
        while (cut := data.rfind(newline, 0, max(0, end)) + 1) and self._quote and self._quote in data:
            closed = self._closed.match(data, 0, cut)
            end = closed.end() if closed else 0
            if end == cut:
                break
            # This newline is in quotes, which open at ``end``.
        return cut

    def whole(self, rest: bytes) -> bool:
        """Whether ``rest``, which no newline ends, may be a record: no quote is open."""
        return self._whole.fullmatch(rest) is not None

    def ends(self, data: bytes) -> list[int]:
        """Where each record ends."""
        return [record.end() for record in self._record.finditer(data)]

    def infer(self, data: bytes) -> "pa.Schema":
        """The types of the columns by what is in ``data``; null where nothing is.

        Raises:
            ValueError: a record has too few or too many values.
        """
        data = self._rows(data)
        table = self._read(data, self.names, {}, _WORDS)
        fields = []
        for name in self.names:
            type_ = self._declared.get(name)
            fields.append((name, type_ or self._inferred(data, name, table.column(name))))
        return pa.schema(fields)

    def _inferred(self, data: bytes, name: str, column: "pa.ChunkedArray") -> "pa.DataType":
        type_, is_key = column.type, name in self._keys
        if is_key and pa.types.is_boolean(type_):
            return pa.string()  # true and TRUE are two keys
        if pa.types.is_timestamp(type_):
            try:
                type_ = pa.timestamp("us", tz=type_.tz)
                pc.cast(column, type_)
            except pa.ArrowInvalid:
                return column.type
        if pa.types.is_integer(type_) or pa.types.is_floating(type_):
            text = self._texts(data, name)
            # Whole numbers that are too large for int64 are no fractions.
            fraction = pa.types.is_integer(type_) or pc.any(pc.match_substring_regex(text, "[^0-9-]")).as_py()
            return type_ if fraction and _are_numbers(text, type_, is_key=is_key) else pa.string()
        if pa.types.is_string(type_) and self.delimiter == ";" and not is_key:
            text = self._texts(data, name)
            # 1,234 may be a thousand and some; 1,5 is not
            sure = pc.any(pc.match_substring_regex(text, _SURELY_DECIMAL)).as_py()
            return pa.float64() if sure and _are_numbers(text, pa.float64(), comma=True) else pa.string()
        return pa.string() if pa.types.is_binary(type_) else type_

    def _texts(self, data: bytes, name: str) -> "pa.Array":
        return self._read(data, [name], {name: pa.string()}, _WORDS).column(name).combine_chunks()

    def parse(self, data: bytes, schema: "pa.Schema", *, strict: bool = True) -> "pa.Table":
        """The records of ``data``, with the file's columns in the types of ``schema``.

        Raises:
            ValueError: a value does not fit; or, if ``strict``, the file has a column that ``schema`` has not.
        """
        data = self._rows(data)
        names = [name for name in schema.names if name in self.names]
        if strict and len(names) < len(self.names):
            raise ValueError("a new column")
        if not names:
            self._read(data, self.names, dict.fromkeys(self.names, pa.string()), _WORDS)
            return pa.table({})
        types = {name: schema.field(name).type for name in names}
        inferred = {name for name in names if name not in self._declared and types[name] in (pa.int64(), pa.float64())}
        as_text = types | dict.fromkeys(inferred, pa.string())
        words = ([*_WORDS[0], "1"], [*_WORDS[1], "0"])
        try:
            table = self._read(data, names, as_text, words)
        except pa.ArrowInvalid:
            moments = {name for name in names if _is_moment(types[name]) and name not in self._declared}
            if not moments:
                raise
            # Arrow reads no digits beyond the type's, be they zeros
            as_text |= dict.fromkeys(moments, pa.string())
            table = self._read(data, names, as_text, words)
        columns = []
        for name in names:
            column = table.column(name)
            if name in inferred:
                column = numbers(
                    column.combine_chunks(), types[name], comma=self.delimiter == ";", trim=name not in self._keys
                )
            elif not column.type.equals(types[name]):
                column = pc.cast(pc.replace_substring_regex(column, r"(\.[0-9]{6})0+", r"\1"), types[name])
            columns.append(column)
        return pa.table(columns, schema=pa.schema([schema.field(name) for name in names]))

    def _rows(self, data: bytes) -> bytes:
        """The records without those that are the header once more: exports that were put one behind the other."""
        if len(self.names) == 1 or not self._header or self._header not in data:
            return data
        kept, at, again = [], 0, {self._header, self._separator} - {b""}
        for record in self._record.finditer(data):
            if record[0].removeprefix(BOM).rstrip(b"\r\n") in again:
                kept.append(data[at : record.start()])
                at = record.end()
        return b"".join([*kept, data[at:]])

    def _read(
        self, data: bytes, names: list[str], types: "Mapping[str, pa.DataType]", words: tuple[list[str], list[str]]
    ) -> "pa.Table":
        single = len(self.names) == 1
        if not (data if single else data.strip(b"\r\n")):
            return pa.table({name: pa.array([], types.get(name, pa.null())) for name in names})
        return pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=self.names),
            pa_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self._settings.quote or False,
                newlines_in_values=True,
                # With a single column an empty line is a row, and its value is null.
                ignore_empty_lines=not single,
            ),
            pa_csv.ConvertOptions(
                column_types=dict(types),
                include_columns=names,
                null_values=self._settings.null_values,
                strings_can_be_null=True,
                quoted_strings_can_be_null=self._settings.quoted_nulls,
                true_values=words[0],
                false_values=words[1],
            ),
        )


def _is_moment(type_: "pa.DataType") -> bool:
    return bool(pa.types.is_timestamp(type_)) and type_.unit == "us"


def _are_numbers(text: "pa.Array", type_: "pa.DataType", *, is_key: bool = False, comma: bool = False) -> bool:
    """Whether all of a column can be numbers; as keys only whole ones, for 1.1 and 1.10 are two keys."""
    if is_key and pa.types.is_floating(type_):
        return False
    try:
        numbers(text, type_, comma=comma, trim=not is_key)
    except ValueError:
        return False
    return True
