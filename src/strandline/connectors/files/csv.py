r"""Records of CSV: where they end, their types, and how they become columns.

A record ends where Arrow's parser ends it: at ``\n``, ``\r\n`` or ``\r`` outside quotes, where a quote opens only at
the beginning of a field and is closed by the next one that is not doubled.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, MutableMapping, Sequence

from strandline.connectors.arrow.types import UNSURE_DECIMAL, decimal_mark, fixed, numbers
from strandline.connectors.files.content import BOM
from strandline.connectors.files.csv_settings import CSVSettings
from strandline.connectors.files.dialect import between_values, separator_line
from strandline.lazy import pa, pa_csv, pc

__all__ = ["CSVLines"]

_WORDS = (["true", "True", "TRUE"], ["false", "False", "FALSE"])


_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r)")
_SEPARATOR_BYTES = 16
_SNIFFED_MAX = 20
_NAMED_MAX = 5
_EITHER = ",."
_DECIMAL_COMMA = r"^-?[0-9]+,[0-9]+$"
_SURELY_DECIMAL = r"^-?[0-9]+,([0-9]{1,2}|[0-9]{4,})$"


class CSVLines:
    """One CSV file: its columns and their records. See ``LineFormat``."""

    hint = (
        "fix the record, or say in `csv` how the files are written: delimiter, quote, encoding; skip, if lines stand before the "
        "header; comment, if lines are none"
    )
    begin_hint = (
        "fix the header, name the columns in `csv.header`, or set `csv.delimiter` or `csv.encoding`; or `csv.skip` and "
        "`csv.comment`, if other lines come before it"
    )

    def __init__(
        self,
        settings: CSVSettings,
        declared: "Mapping[str, pa.DataType]",
        keys: Collection[str] = (),
        marks: MutableMapping[str, str] | None = None,
    ) -> None:
        self.names: list[str] = []
        self.delimiter = ""
        """Known once the file was begun."""
        self.encoding, self.header_at = "", 0
        self.marks: MutableMapping[str, str] = {} if marks is None else marks
        """By column, what stands before the fractions; shared with the other files of the table."""
        self._settings = settings
        self._comment = (settings.comment or "").encode()
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
        if self._comment:
            record = rb"(?:%b[^\r\n]*+|%b)" % (re.escape(self._comment), record)
        # At the end of the data a \r may be half of a \r\n, so there it ends nothing.
        self._record = re.compile(rb"%b(?:\r\n|\n|\r(?!\Z))" % record)
        self._whole = re.compile(rb"%b(?:\r\n?|\n)?" % record)

    def begin(self, head: bytes, *, final: bool) -> int | None:
        """Learn the columns; where the first record of values begins, or ``None`` if there is no header yet.

        Raises:
            ValueError: two columns have the same name, or what stands between values is not sure.
        """
        start = self._after(head, self._settings.skip, len(BOM) if head.startswith(BOM) else 0)
        said, length = separator_line(head[start : start + _SEPARATOR_BYTES])
        self._separator = head[start : start + length].rstrip(b"\r\n")
        start += length
        at = self.header_at = self._header_from(head, start)
        if at == len(head):
            return None
        if self._settings.delimiter is None:
            self._patterns((said or self._sniffed(head, at)).decode())
        record = self._record.match(head, at)
        header = self._settings.header
        if record is None and (not final or header is True):
            return None
        if isinstance(header, list):
            names = header
        else:
            names = self._values(record[0] if record else head[at:])
            names = _named(names if header else [""] * len(names))
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise ValueError(f"the header has column {twice[0]!r} twice")
        if any("\0" in name for name in names):
            raise ValueError("the header has bytes of 0: it is UTF-16, or no text")
        self.names = names
        if header is True and record:
            self._header = record[0].rstrip(b"\r\n")
        return record.end() if header is True and record else start

    def _after(self, head: bytes, lines: int, at: int) -> int:
        """Where the line begins that comes after so many; the end of ``head`` if they do not end there."""
        for _ in range(lines):
            line = _LINE.match(head, at)
            if line is None:
                return len(head)
            at = line.end()
        return at

    def _header_from(self, head: bytes, at: int) -> int:
        """Where the first line begins that is a record; the end of ``head`` if there is none yet."""
        while (line := _LINE.match(head, at)) and (not line[0].strip(b"\r\n") or self._is_comment(line[0])):
            at = line.end()
        return len(head) if self._is_comment(head[at:]) else at

    def _sniffed(self, head: bytes, at: int) -> bytes:
        """By the first records, in which quotes are quotes wherever they stand."""
        quote = re.escape(self._quote)
        plain = rb"(?:%b[^%b]*+%b|[^%b\r\n])*+" % ((quote,) * 4) if quote else rb"[^\r\n]*+"
        record, records = re.compile(plain + rb"(?:\r\n|\n|\r)"), list[bytes]()
        while len(records) < _SNIFFED_MAX and (found := _LINE.match(head, at)):
            if not self._is_comment(found[0]):
                found = record.match(head, at)
                if found is None:
                    break
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
        if self._comment and self._comments_in(data):
            at = 0
            while found := self._record.match(data, at):
                at = found.end()
            return at
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
            return self._number(name, text, type_) if fraction else pa.string()
        declared = self._settings.decimal
        if (
            pa.types.is_string(type_)
            and not is_key
            and (declared == "," or (declared is None and self.delimiter == ";"))
        ):
            text = self._texts(data, name)
            # 1,234 may be a thousand and some; 1,5 is not
            sure = declared or pc.any(pc.match_substring_regex(text, _SURELY_DECIMAL)).as_py()
            return self._number(name, text, pa.float64()) if sure else pa.string()
        return pa.string() if pa.types.is_binary(type_) else type_

    def _number(self, name: str, text: "pa.Array", type_: "pa.DataType") -> "pa.DataType":
        """The type if all of a column are numbers, else text. As keys only whole ones, for 1.1 and 1.10 are two keys."""
        if name in self._keys and pa.types.is_floating(type_):
            return pa.string()
        try:
            numbers(text, type_, decimal=self._decimal, trim=name not in self._keys)
        except ValueError:
            return pa.string()
        self._note_mark(name, text, type_)
        return type_

    @property
    def _decimal(self) -> str:
        return self._settings.decimal or (_EITHER if self.delimiter == ";" else ".")

    def _numbers(self, name: str, text: "pa.Array", type_: "pa.DataType") -> "pa.Array":
        """The values of a column; their fractions are written as in the other files of the table."""
        known = self.marks.get(name)
        try:
            values = numbers(text, type_, decimal=known or self._decimal, trim=name not in self._keys)
        except pa.ArrowInvalid as error:
            if (
                known == "."
                and self.delimiter == ";"
                and pc.any(pc.match_substring_regex(text, _DECIMAL_COMMA)).as_py()
            ):
                raise ValueError(UNSURE_DECIMAL) from error
            raise
        self._note_mark(name, text, type_)
        return values

    def _note_mark(self, name: str, text: "pa.Array", type_: "pa.DataType") -> None:
        if self._settings.decimal is None and name not in self.marks and pa.types.is_floating(type_):
            mark = decimal_mark(text)
            if mark:
                self.marks[name] = mark

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
        # Arrow reads decimals of many digits as other numbers
        exact = {name for name in names if pa.types.is_decimal(types[name])}
        as_text = types | dict.fromkeys(inferred | exact, pa.string())
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
                column = self._numbers(name, column.combine_chunks(), types[name])
            elif name in exact:
                column = fixed(column.combine_chunks(), types[name], decimal=self._settings.decimal or ".")
            elif not column.type.equals(types[name]):
                column = pc.cast(pc.replace_substring_regex(column, r"(\.[0-9]{6})0+", r"\1"), types[name])
            columns.append(column)
        return pa.table(columns, schema=pa.schema([schema.field(name) for name in names]))

    def _rows(self, data: bytes) -> bytes:
        """The records without those that are the header once more: exports that were put one behind the other."""
        comments = self._comments_in(data)
        repeats = len(self.names) > 1 and self._header and self._header in data
        if not comments and not repeats:
            return data
        kept, at, again = [], 0, {self._header, self._separator} - {b""} if repeats else set()
        for record in (self._whole if comments else self._record).finditer(data):
            if record[0].removeprefix(BOM).rstrip(b"\r\n") in again or self._is_comment(record[0]):
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
                decimal_point=self._settings.decimal or ".",
                true_values=words[0],
                false_values=words[1],
            ),
        )

    def _is_comment(self, record: bytes) -> bool:
        return bool(self._comment) and record.startswith(self._comment)

    def _comments_in(self, data: bytes) -> bool:
        """Whether there may be some; a line within quotes may begin so, too."""
        return self._is_comment(data) or (
            bool(self._comment) and any(end + self._comment in data for end in (b"\n", b"\r"))
        )


def _named(given: list[str]) -> list[str]:
    """Names of all columns.

    Raises:
        ValueError: one that has none would be called as another one.
    """
    names = [name or f"f{at}" for at, name in enumerate(given)]
    for at, name in enumerate(names):
        if not given[at] and name in given:
            raise ValueError(f"column {at + 1} has no name, so it would be {name!r}, as another column is called")
    return names


def _is_moment(type_: "pa.DataType") -> bool:
    return bool(pa.types.is_timestamp(type_)) and type_.unit == "us"
