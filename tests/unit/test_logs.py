"""No secret leaves the process, in whatever shape a driver shows it; logging says what it says to stderr."""

import base64
import json
import logging
import re
import sys
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline import logs
from strandline.logs import configure, is_secret_name, redact, register_parts, register_secret

SECRET = "hüter/2 'q\" \\n+&%=tail\tend"


@pytest.fixture
def _logging_restored():
    root, ours = logging.getLogger(), logging.getLogger("strandline")
    kept = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    yield
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = kept
    logging.captureWarnings(capture=False)


SHAPES = {
    "plain": lambda secret: secret,
    "url": lambda secret: quote(secret, safe=""),
    "url, slashes kept": quote,
    "form": quote_plus,
    "url, lower case": lambda secret: "".join(
        f"%{byte:02x}" if not chr(byte).isalnum() or byte > 127 else chr(byte) for byte in secret.encode()
    ),
    "json": lambda secret: json.dumps(secret)[1:-1],
    "json, unicode kept": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "repr": lambda secret: repr(secret)[1:-1],
    "bytes": lambda secret: repr(secret.encode())[2:-1],
    "sql": lambda secret: secret.replace("'", "''"),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode().rstrip("="),
    "base64, urlsafe": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_secret_is_masked_in_every_shape(shape):
    register_secret(SECRET)
    shown = SHAPES[shape](SECRET)
    said = redact(f"before {shown} after")
    assert said.startswith("before ***")
    assert said.endswith(" after")
    assert not any(shown[at : at + 8] in said for at in range(len(shown) - 7))


@pytest.mark.parametrize("before", [b"", b"u", b"us", b"user:"])
@pytest.mark.parametrize("after", [b"", b"x", b"xy"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_found_at_every_alignment(before, after, encode):
    register_secret("hunter2>?~secret")
    said = redact(encode(before + b"hunter2>?~secret" + after).decode())
    assert "***" in said
    # At most the characters that also hold bits of what stands around it are left.
    assert len(said) <= len(encode(before)) + len("***") + len(encode(after)) + 2


@given(
    secret=st.text(min_size=8, max_size=60),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    data=st.data(),
)
def test_no_piece_of_eight_characters_is_left(secret, before, after, data):
    logs._known = logs._Known()
    register_secret(secret)
    start = data.draw(st.integers(0, len(secret) - 8))
    stop = data.draw(st.integers(start + 8, len(secret)))
    said = redact(before + secret[start:stop] + after)
    pieces = {secret[at : at + 8] for at in range(len(secret) - 7)} - {"********"}
    assert not [piece for piece in pieces if piece in said.replace("***", "\0")]


@given(st.text())
def test_text_without_a_secret_stays(text):
    logs._known = logs._Known()
    register_secret("\U0001f511 no text has this \U0001f511")
    assert redact(text) == text


def test_short_values_are_left_alone():
    register_secret("ab")
    register_secret("")
    register_secret("eu1", pieces=False)
    assert redact("ab abc eu1") == "ab abc eu1"


def test_three_characters_are_masked_as_a_word():
    register_secret("abc")
    assert redact("abc abcd") == "*** abcd"


def test_four_characters_are_enough():
    register_secret("a1b2")
    assert redact("xa1b2y") == "x***y"


def test_neighbours_become_one_mask():
    register_secret("first-one")
    register_secret("second-one")
    assert redact("<first-onesecond-one> second-one") == "<***> ***"


def test_a_value_that_is_probably_no_secret_is_masked_as_a_word():
    register_secret("prod", pieces=False)
    assert redact("in prod, products stay") == "in ***, products stay"


def test_a_longer_value_that_is_probably_no_secret_is_masked_whole():
    register_secret("/srv/warehouse", pieces=False)
    assert redact("/srv/warehouse/x and warehouse") == "***/x and warehouse"


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql://shop:hunter2%2Fx@db.internal:5432/shop?sslmode=require",
        "host=db.internal user=shop password='hunter2/x' dbname=shop",
        "host=db.internal password=hunter2/x",
        "host=db.internal password='hunter2\\/x'",
        "shop:hunter2/x@tcp(db.internal:3306)/shop",
        "Driver={PG};Server=db.internal;Uid=shop;Pwd=hunter2/x;",
        "https://db.internal/?region=eu&access_token=hunter2%2Fx&page=2",
        "https://hunter2%2Fx@db.internal/repo.git",
        "postgresql://shop:hunter2/x@db.internal/shop",
    ],
)
def test_the_password_inside_a_connection_string_is_masked_alone(connection):
    register_secret(connection)
    assert (
        redact('FATAL: password "hunter2/x" for shop at db.internal') == 'FATAL: password "***" for shop at db.internal'
    )
    assert "hunter2" not in redact(f"connecting to {connection}")


def test_the_words_of_a_connection_string_stay_readable():
    register_secret("postgresql://shop:hunter2@localhost:5432/warehouse")
    assert redact("postgresql at localhost has warehouse") == "postgresql at localhost has warehouse"


def test_parts_are_found_without_masking_the_whole():
    assert register_parts("mysql://u:hunter2@h/db")
    assert redact("mysql://u:hunter2@h/db") == "mysql://u:***@h/db"
    assert not register_parts("just a text: with a colon")


def test_a_file_of_credentials_is_masked_field_by_field():
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
    register_secret(json.dumps({"type": "service_account", "private_key": key, "project_id": "my-project"}, indent=2))
    assert "MIIEvQIB" not in redact("bad key: MIIEvQIBADANBgkqhki…")
    assert redact("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC") == "***"


SECRET_NAMES = """
    password PGPASSWORD db_pwd api_key apiKey token access-token client_secret key keys connection_string
    connectionString dsn private_key aws_secret_access_key credentials auth Authorization passphrase cookie key_file
    sas_token AWS_ACCESS_KEY_ID
"""
OTHER_NAMES = """
    primary_key incremental_key primaryKey partition_keys sort_key name path monkeys_seen url author keyspace
    description tables
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_of_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_names_of_other_things(name):
    assert not is_secret_name(name)


def test_redacting_is_quick_enough_for_every_line():
    for number in range(200):
        register_secret(f"postgresql://user{number}:a-long-password-{number:06}@host{number}/db")
        register_secret(f"token-{number:032}")
    line = (
        "orders: 65536 rows in 0.42 s, cursor 2026-03-31T15:04:05Z -> 2026-03-31T15:09:05Z, lag 5 s; next in 300 s " * 2
    )
    began = time.process_time()
    for _ in range(200):
        redact(line)
    assert time.process_time() - began < 1  # 5 ms a line; measured 0.1 ms


STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "


def lines_of(capsys):
    """What was logged, without the time that each line begins with."""
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    return [re.sub(STAMP, "", line) for line in lines]


def _fail(text):
    try:
        int(text)
    except ValueError:
        logging.getLogger("strandline").exception("failed")


@pytest.mark.usefixtures("_logging_restored")
class TestLogging:
    def test_every_logger_is_redacted(self, capsys):
        configure()
        register_secret("hunter2-hunter2")
        logging.getLogger("some.driver").warning("password is %s", "hunter2-hunter2")
        logging.getLogger("strandline.x").info("password is %r", ["hunter2-hunter2"])
        assert lines_of(capsys) == ["warning: some.driver: password is ***", "password is ['***']"]

    def test_exceptions_are_redacted(self, capsys):
        configure()
        register_secret("hunter2-hunter2")
        _fail("bad hunter2-hunter2")
        said = capsys.readouterr().err
        assert "with base 10: 'bad ***'" in said
        assert "hunter2" not in said

    def test_json_is_one_event_a_line(self, capsys):
        configure(form="json")
        register_secret('hunter2-"hunter2')
        logging.getLogger("strandline").info("two\nlines", extra={"rows": 3, "where": {"dsn": 'x hunter2-"hunter2'}})
        (line,) = capsys.readouterr().err.splitlines()
        event = json.loads(line)
        assert event.pop("time").endswith("+00:00")
        assert event == {
            "level": "info",
            "logger": "strandline",
            "message": "two\nlines",
            "rows": 3,
            "where": {"dsn": "x ***"},
        }

    def test_the_fields_of_an_event_keep_their_names(self, capsys):
        configure(form="json")
        register_secret("message")
        logging.getLogger("strandline").info("a message", extra={"message_count": 1, "of": {"message": 2}})
        event = json.loads(capsys.readouterr().err)
        assert (event["message"], event["message_count"], event["of"]) == ("a ***", 1, {"***": 2})

    def test_an_exception_in_json_is_redacted(self, capsys):
        configure(form="json")
        register_secret("hunter2-hunter2")
        _fail("hunter2-hunter2")
        event = json.loads(capsys.readouterr().err)
        assert event["exception"].endswith("base 10: '***'")

    def test_levels(self, capsys):
        configure(level="info")
        logging.getLogger("strandline").debug("ours, debug")
        logging.getLogger("driver").info("theirs, info")
        assert capsys.readouterr().err == ""
        configure(level="debug")
        logging.getLogger("strandline").debug("ours")
        logging.getLogger("driver").debug("theirs")
        assert lines_of(capsys) == ["debug: ours", "debug: driver: theirs"]
        configure(level="verbose")
        logging.getLogger("strandline").debug("ours")
        logging.getLogger("driver").info("theirs")
        assert lines_of(capsys) == ["debug: ours"]
        configure(level="error")
        logging.getLogger("driver").warning("no")
        logging.getLogger("strandline").warning("no")
        assert "no" not in capsys.readouterr().err

    def test_setting_up_twice_says_everything_once(self, capsys):
        configure()
        configure()
        logging.getLogger("strandline").info("once")
        assert lines_of(capsys) == ["once"]

    def test_a_file_has_what_stderr_has_and_more_where_that_is_quiet(self, capsys, tmp_path):
        register_secret("hunter2-hunter2")
        configure(quiet=True, file=tmp_path / "log")
        configure(quiet=True, file=tmp_path / "log")
        logging.getLogger("strandline").info("begun with hunter2-hunter2")
        logging.getLogger("strandline").error("it broke", extra={"hint": "mend it"})
        configure()
        logging.getLogger("strandline").error("elsewhere")
        assert lines_of(capsys) == ["error: it broke", "hint: mend it", "error: elsewhere"]
        lines = (tmp_path / "log").read_text("utf-8").splitlines()
        assert [re.sub(STAMP, "", line) for line in lines] == ["begun with ***", "error: it broke", "hint: mend it"]

    def test_on_a_terminal_lines_have_no_time(self, capsys, monkeypatch):
        configure()
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        logging.getLogger("strandline").info("now")
        assert capsys.readouterr().err == "now\n"

    def test_a_file_that_cannot_be_written_any_more_is_told_of(self):
        lost = []
        configure(file=Path("/dev/full"), lost=lost.append)
        logging.getLogger("strandline").info("one")
        configure()
        assert [error.strerror for error in lost] == ["No space left on device"]

    def test_a_failure_of_logging_shows_no_secret(self, capsys):
        configure()
        register_secret("hunter2-hunter2")
        logging.getLogger("strandline").info("%d rows", "hunter2-hunter2")
        assert "hunter2" not in capsys.readouterr().err
