"""The encoding of states, the format of the files that keep them, and the backend that keeps none."""

import hashlib
import json
import re
import unicodedata
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.connectors.local.state import LocalState
from strandline.connectors.memory.state import MemoryState
from strandline.errors import StateError, StrandlineError, TaskError
from strandline.paths import encode_part
from strandline.plugins import load_plugin
from strandline.state import Pass, Phase, State, StateKey, TableState
from strandline.state_file import decode_file, encode_file
from strandline.state_format import decode_state, encode_state
from strandline.testing.state_backend import KEY, NAMES, example_state, states


def sealed(body: dict) -> dict:
    """``body`` with a checksum that fits, by the rule of the documentation: of canonical JSON of all else."""
    rest = {name: value for name, value in body.items() if name != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return rest | {"checksum": hashlib.sha256(canonical.encode()).hexdigest()}


# Written by hand, the checksums by sha256sum of the canonical text.
OLDER = State(
    cursor={"updated_at": "2024-05-01"},
    epoch=2,
    sequence=7,
    run_id="r1",
    current=Pass(1_714_521_600_000_000, full=True, phase=Phase.READ, completed=("orders",)),
    tables={"orders": TableState("0011223344556677", "m", 3)},
    saved_at="2024-05-01T00:00:00+00:00",
    nonce="00000000000000aa",
    forms=None,
)
NEWER = State(cursor=None, epoch=2, sequence=8, run_id="r2", note="reset", nonce="00000000000000bb")
GOLDEN = """{
 "token": "0123456789abcdef0123456789abcdef",
 "checksum": "3cf4de2bd5d816afc35cb202473b076276d6fb89543ee3e45200dea56224704c",
 "states": [
  {"format_version": 1, "source": "shop", "task": "orders", "destination": "warehouse", "epoch": 2, "sequence": 8, \
"run_id": "r2", "nonce": "00000000000000bb", "saved_at": "", "note": "reset", "pass": null, "tables": {}, \
"cursor": null, "checksum": "1ed83039dddccece0b4cc55721125c7fbd62e513ee8902384abc0444f2c0e721"},
  {"format_version": 1, "source": "shop", "task": "orders", "destination": "warehouse", "epoch": 2, "sequence": 7, \
"run_id": "r1", "nonce": "00000000000000aa", "saved_at": "2024-05-01T00:00:00+00:00", "note": "", \
"pass": {"sync_time_us": 1714521600000000, "full": true, "phase": "read", "completed": ["orders"]}, \
"tables": {"orders": {"fingerprint": "0011223344556677", "mark": "m", "rows": 3}}, \
"cursor": {"updated_at": "2024-05-01"}, \
"checksum": "ea3c19328de730a1558ff085c67ad7c259731bf1020964f0e392ea46067867e0"}
 ]
}
"""


@pytest.fixture
def local(tmp_path: Path) -> LocalState:
    return LocalState(LocalState.Spec(path=str(tmp_path)))


def test_a_file_of_format_1_is_read(local, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders@warehouse.json").write_text(GOLDEN)
    assert local.load("shop") == {KEY: NEWER}
    assert local.load("shop")[KEY].token == "0123456789abcdef0123456789abcdef"
    assert local.history(KEY) == [NEWER, OLDER]


def test_a_file_is_written_in_format_1(local, tmp_path):
    token = local.save(KEY, NEWER, expected=local.save(KEY, OLDER, expected=None))
    text = (tmp_path / "shop" / "orders@warehouse.json").read_text("ascii")
    checksum = sealed({"token": token, "states": json.loads(GOLDEN)["states"]})["checksum"]
    expected = GOLDEN.replace("0123456789abcdef0123456789abcdef", token)
    assert text == re.sub('"checksum": "3cf4[0-9a-f]+"', f'"checksum": "{checksum}"', expected)


def test_an_older_history_is_kept_as_it_is_found(local, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders@warehouse.json").write_text(GOLDEN)
    state = example_state(9)
    local.save(KEY, state, expected="0123456789abcdef0123456789abcdef")
    assert local.history(KEY) == [state, NEWER, OLDER]


@given(state=states())
def test_what_is_encoded_is_decoded(state):
    kept = json.loads(json.dumps(encode_state(KEY, state)))
    assert decode_state(KEY, kept, where="here") == state


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format_version": 3}, "newer Strandline"),
        ({"format_version": 0}, "format version 0 is unknown"),
        ({"format_version": True}, "format version True is unknown"),
        ({"format_version": "1"}, "format version '1' is unknown"),
        ({"format_version": None}, "format version None is unknown"),
        ({"source": "crm"}, "belongs to crm/orders → warehouse"),
        ({"task": "Orders"}, "belongs to shop/Orders → warehouse"),
        ({"destination": "lake"}, "belongs to shop/orders → lake"),
        ({"pass": {"full": True}}, "a field is missing or wrong"),
        ({"tables": {"orders": {"colour": 1}}}, "a field is missing or wrong"),
        ({"tables": {"orders": "blue"}}, "a field is missing or wrong"),
    ],
)
def test_a_state_that_is_not_ours_is_refused_whatever_its_checksum_says(change, text):
    body = sealed(encode_state(KEY, OLDER) | change)
    with pytest.raises(StateError, match=f"^here: .*{re.escape(text)}"):
        decode_state(KEY, body, where="here")


@pytest.mark.parametrize("body", [None, [], "state", {}, {"hackernews": "34349000"}])
def test_what_is_no_state_is_refused(body):
    with pytest.raises(StateError, match=r"^here: not a Strandline state"):
        decode_state(KEY, body, where="here")


@pytest.mark.parametrize("field", sorted(set(encode_state(KEY, OLDER)) - {"format_version", "checksum"}))
def test_a_changed_or_missing_field_is_damage(field):
    body = encode_state(KEY, OLDER)
    for damaged in (body | {field: "?"}, {name: value for name, value in body.items() if name != field}):
        with pytest.raises(StateError, match="checksum"):
            decode_state(KEY, damaged, where="here")


@pytest.mark.parametrize("make", [LocalState, MemoryState])
@pytest.mark.parametrize("cursor", [{10: "a", 9: "b"}, {"x": {1: 2, "1": 3}}])
def test_a_cursor_that_could_not_be_read_back_is_not_saved(make, cursor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = make(make.Spec())
    token = backend.save(KEY, OLDER, expected=None)
    with pytest.raises((TypeError, StrandlineError)):
        backend.save(KEY, replace(NEWER, cursor=cursor), expected=token)
    assert backend.load("shop") == {KEY: OLDER}


def raw_of(state):
    """Every stored form: what a row, a hash or an object has, and what a file has."""
    body = encode_state(KEY, state)
    return {
        "a state": (json.dumps(body).encode(), lambda raw: decode_state(KEY, json.loads(raw), where="x")),
        "a file": (
            encode_file("0" * 32, [body, encode_state(KEY, OLDER)]),
            lambda raw: decode_file(raw, "x", repair=str).newest,
        ),
    }


@pytest.mark.parametrize("form", ["a state", "a file"])
def test_no_bit_that_is_flipped_and_no_byte_that_is_missing_gives_another_state(form):
    """Blanks between values do not matter; all else is noticed."""
    raw, read = raw_of(NEWER)[form]
    damaged = [raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :] for at in range(len(raw)) for bit in range(8)]
    damaged += [raw[:size] for size in range(len(raw))]
    for one in damaged:
        with suppress(ValueError, StateError):  # no JSON; or JSON that is no state
            assert read(one) == NEWER


def test_without_a_backend_nothing_is_kept():
    cls = load_plugin("state_backend", "none")
    backend = cls(cls.Spec())
    tokens = {backend.save(KEY, OLDER, expected=expected) for expected in (None, None, "unknown")}
    assert len(tokens) == 3
    assert backend.load("shop") == {}
    assert backend.history(KEY) == []
    backend.close()
    backend.close()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("orders", "orders"),
        ("public.order_items-2", "public.order_items-2"),
        ("Orders", "%4frders"),
        ("@run", "%40run"),
        ("", "%"),
        ("%", "%25"),
        (".", "%2e"),
        ("..", "%2e%2e"),
        (".hidden", "%2ehidden"),
        ("trailing.", "trailing%2e"),
        ("a/b\\c", "a%2fb%5cc"),
        ("a@b.json", "a%40b.json"),
        ("a b\0", "a%20b%00"),
        ("con", "%63on"),
        ("nul.json", "%6eul.json"),
        ("console", "console"),
        ("caf\u00e9", "caf%c3%a9"),
        ("cafe\u0301", "cafe%cc%81"),
        ("x" * 97, "x" * 97),
        ("x" * 98, "x" * 31 + "%-" + hashlib.sha256(b"x" * 98).hexdigest()),
    ],
)
def test_a_name_as_a_part_of_a_path(name, part):
    assert encode_part(name) == part


@pytest.mark.parametrize("name", NAMES)
def test_a_part_is_safe_on_every_file_system(name):
    part = encode_part(name)
    assert re.fullmatch(r"[a-z0-9_%-]([a-z0-9._%-]{0,95}[a-z0-9_%-])?", part)
    assert part.split(".")[0] not in {
        "con",
        "prn",
        "aux",
        "nul",
        *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
    }


ANY_NAME = st.text(st.characters(), max_size=200) | st.text("aA.%-@e\u0301\u00e9", max_size=110)


@given(ANY_NAME)
def test_the_way_back_is_percent_decoding_or_the_digest(name):
    part = encode_part(name)
    if "%-" in part:
        assert part.endswith(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest())
    elif name:
        assert unquote(part, errors="surrogatepass") == name


@given(ANY_NAME, ANY_NAME)
def test_two_names_are_two_parts_on_every_file_system(one, other):
    folded = {unicodedata.normalize("NFKC", encode_part(name)).casefold() for name in (one, other)}
    assert len(folded) == len({one, other})


def test_no_name_of_a_twin_is_shared():
    assert len({encode_part(name).casefold() for name in NAMES}) == len(set(NAMES))


def test_a_file_name_has_at_most_200_bytes(local, tmp_path):
    key = StateKey("\U0001faa3" * 70, "T" * 300, "d" * 97)
    local.save(key, OLDER, expected=None)
    assert local.load(key.source) == {key: OLDER}
    assert {len(path.name) <= 200 for path in tmp_path.rglob("*")} == {True}


@pytest.mark.parametrize("cursor", [{"at": float("nan")}, {"at": Path()}, {10: "a", 9: "b"}, {"at": (1, 2)}])
def test_a_cursor_that_json_would_change_is_refused_before_it_is_kept(cursor):
    with pytest.raises(TaskError, match="JSON"):
        encode_state(KEY, replace(OLDER, cursor=cursor))


def test_a_state_without_a_lineage_is_refused_though_its_checksum_fits():
    body = {name: value for name, value in encode_state(KEY, OLDER).items() if name != "source"}
    with pytest.raises(StateError):
        decode_state(KEY, sealed(body), where="here")
