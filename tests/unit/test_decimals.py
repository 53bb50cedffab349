"""Numbers as texts become decimals exactly, or not at all. Arrow's own cast wraps around, and cuts, without an error."""

from decimal import Context, Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.decimals import decimals

WIDE = Context(prec=400)
KINDS = [
    pa.decimal128(38, 18),
    pa.decimal128(38, 0),
    pa.decimal128(38, 38),
    pa.decimal128(10, 2),
    pa.decimal256(76, 30),
    pa.decimal64(10, 3),
    pa.decimal32(9, 3),
]


@given(st.sampled_from(KINDS), st.integers(-(10**90), 10**90), st.integers(0, 90), st.integers(0, 60), st.booleans())
def test_a_number_is_the_same_number_or_is_refused(kind, digits, cut, scale, plain):
    number = Decimal(digits // 10**cut).scaleb(-scale, context=WIDE)
    text = format(number, "f") if plain else str(number)
    quantized = number.quantize(Decimal(1).scaleb(-kind.scale), context=WIDE)
    fits = quantized == number and abs(number) < Decimal(10) ** (kind.precision - kind.scale)
    if fits:
        assert decimals(pa.array([None, text]), kind).to_pylist() == [None, number]
    else:
        with pytest.raises(pa.ArrowInvalid):
            decimals(pa.array([None, text]), kind)


@pytest.mark.parametrize(
    "text", ["", "x", "NaN", "Infinity", "1e999999999", "1,5", "1" + "0" * 30, "0." + "0" * 40 + "1"]
)
def test_what_is_no_such_number_is_refused(text):
    with pytest.raises(pa.ArrowInvalid):
        decimals(pa.array([text]), pa.decimal128(38, 18))


def test_zeros_behind_a_fraction_mean_nothing():
    assert decimals(pa.array(["1." + "0" * 60]), pa.decimal128(38, 18)).to_pylist() == [Decimal(1)]
