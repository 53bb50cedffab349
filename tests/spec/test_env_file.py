"""``.env`` beside a spec: what it gives, what it does not, and that nothing of it is shown."""

import json
import os
from pathlib import Path

import pytest

from strandline.errors import UsageError
from strandline.logs import redact
from strandline.spec import load


@pytest.fixture
def spec(cli):
    """``spec("${NAME}")``: writes a spec with this text as the secret of its source."""

    def write(text, path="strandline.yml"):
        source = {"name": "shop", "path": "sqlite", "destinations": ["w"], "spec": {"path": text}}
        cli.spec(("source", source), ("destination", {"name": "w", "path": "memory"}), path=path)
        return path

    return write


def path_of(*specs, **settings):
    return load(specs, **settings).sources[0].settings.path


def problems(*specs, **environment):
    with pytest.raises(UsageError) as caught:
        load(specs, environment=environment)
    return [(problem.where, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("SHOP=a b", "a b"),
        ("export SHOP='a # b'  # c", "a # b"),
        ('SHOP="a\\nb"', "a\nb"),
        ("SHOP=first\nSHOP=last", "last"),
        ("\ufeffSHOP=x\r\nOTHER=y", "x"),
        ("SHOP=pa${HOME}ss", "pa${HOME}ss"),
    ],
)
def test_a_variable_comes_from_the_file_beside_the_spec(spec, line, value):
    Path(".env").write_text(line, "utf-8")
    assert path_of(spec("${SHOP}"), environment={"HOME": "no"}) == value


@pytest.mark.parametrize("value", ["real", ""])
def test_the_environment_wins_even_if_it_is_empty_there(spec, value):
    Path(".env").write_text("SHOP=file", "utf-8")
    assert path_of(spec("x${SHOP}"), environment={"SHOP": value}) == f"x{value}"


def test_each_spec_has_the_file_in_its_own_directory(spec):
    for name in ("a", "b"):
        Path(name).mkdir()
    Path("a/.env").write_text("SHOP=of-a", "utf-8")
    first = spec("${SHOP}", path="a/strandline.yml")
    assert path_of(first, environment={}) == "of-a"
    second = Path("b/other.yml")
    second.write_text(json.dumps({"kind": "source", "spec": {"name": "${SHOP}"}}), "utf-8")
    assert ("b/other.yml:1:37", "the environment variable SHOP is not set") in problems(first, second)


def test_the_environment_of_the_process_stays_as_it_is(spec, cli):
    Path(".env").write_text("STRANDLINE_TEST_SHOP=file", "utf-8")
    spec("${STRANDLINE_TEST_SHOP}")
    assert cli("validate-config").exit_code == 0
    assert "STRANDLINE_TEST_SHOP" not in os.environ


def test_it_is_left_aside_on_request(spec, cli):
    Path(".env").write_text("SHOP=x\nthis is wrong", "utf-8")
    spec("${SHOP:-default}")
    assert cli("validate-config").exit_code == 2
    assert cli("validate-config", "--no-env-file").exit_code == 0
    assert cli("validate-config", STRANDLINE_NO_ENV_FILE="1").exit_code == 0


def test_its_values_are_masked_like_those_of_the_environment(spec):
    Path(".env").write_text("SHOP=hunter2hunter2", "utf-8")
    path_of(spec("${SHOP}"), environment={})
    assert redact("it says hunter2hunter2") == "it says ***"


def test_what_cannot_be_read_is_an_error_with_its_place_and_without_its_text(spec, cli):
    Path(".env").write_bytes(b"GOOD=1\nSECRET hunter2hunter2\nOPEN='hunter2hunter2\n")
    spec("${GOOD}")
    done = cli("validate-config")
    assert (done.exit_code, "hunter2" in done.stderr) == (2, False)
    assert [where for where, _ in problems("strandline.yml")] == [".env:2:1", ".env:3:1"]
    assert "--no-env-file" in done.stderr


@pytest.mark.parametrize(
    ("data", "message"), [(b"\xff=1", "it is not UTF-8"), (b"A=" + b"1" * (256 << 10), "it is larger than 256 KiB")]
)
def test_a_file_that_is_no_such_file_is_an_error(spec, data, message):
    Path(".env").write_bytes(data)
    assert (".env", message) in problems(spec("x"))


def test_a_directory_of_that_name_is_something_else(spec):
    Path(".env").mkdir()
    assert path_of(spec("x"), environment={}) == "x"
