"""Numbers as texts become decimals, exactly or not at all."""

from decimal import Context, Decimal, InvalidOperation

from strandline.lazy import pa, pc

__all__ = ["decimal_of", "decimals"]

_EXACT = Context(prec=200)
_DIGITS = {32: 9, 64: 18, 128: 38, 256: 76}
"""Of decimals, by their bits."""


def decimals(texts: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    """Numbers as texts in a type of decimals, exactly; zeros behind a fraction mean nothing.

    Arrow's own cast (26.0) is right only for so many digits as the widest decimal of that kind has: 10^30 becomes another number
    in decimal128(38, 18), and what follows the 38th digit of a fraction is lost.

    Raises:
        pa.ArrowInvalid: one is no number, or has more digits than the type.
    """
    before, most = kind.precision - kind.scale, _DIGITS[kind.bit_width]
    longest = pc.max(pc.utf8_length(texts)).as_py() or 0
    if longest <= most and not pc.any(pc.match_substring_regex(texts, rf"[eE]|[1-9][0-9]{{{before}}}")).as_py():
        try:
            return pc.cast(texts, kind)
        except pa.ArrowInvalid:
            pass  # zeros, perhaps, of which it says that they would be lost
    numbers = []
    for text in texts.to_pylist():
        number = None if text is None else decimal_of(text, kind)
        if text is not None and number is None:
            raise pa.ArrowInvalid(f"{text[:100]!r} does not fit {kind}")
        numbers.append(number)
    return pa.array(numbers, kind)


def decimal_of(number: object, kind: "pa.DataType") -> Decimal | None:
    """A number as its shortest text has it, in a type of decimals; ``None``: it has more digits, or is none."""
    try:
        given = Decimal(str(number))
        if given.is_finite() and (given == 0 or given.adjusted() < kind.precision - kind.scale):
            exact = given.quantize(Decimal(1).scaleb(-kind.scale), context=_EXACT)
            return exact if exact == given else None
    except InvalidOperation:
        pass
    return None
