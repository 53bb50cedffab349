"""Values are masked, names are not: whoever has to set a variable must be able to read which."""

import pytest

HINT = "set it, also in .env beside the spec, or give a default: ${{{name}:-default}}"


def said_of(cli, value):
    cli.spec(
        ("source", {"name": "shop", "path": "test", "destinations": ["w"], "spec": {"password": value}}),
        ("destination", {"name": "w", "path": "duckdb", "spec": {"path": "w.duckdb"}}),
    )
    done = cli("validate-config")
    assert done.exit_code == 2
    return done.stderr


@pytest.mark.parametrize("name", ["SHOP_URL", "A_NAME_OF_MORE_THAN_EIGHT_CHARACTERS"])
def test_the_name_of_a_missing_variable_is_shown_as_it_stands_in_the_file(cli, name):
    said = said_of(cli, f"${{{name}}}")
    assert f"the environment variable {name} is not set" in said
    assert f'"${{{name}}}"' in said
    assert HINT.format(name=name) in said


def test_the_path_of_a_missing_file_is_shown(cli):
    assert "the file 'secrets/password.txt' cannot be read" in said_of(cli, "${file:secrets/password.txt}")


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://me:hunter2hunter2@host/${SHOP_DATABASE_NAME}",
        "host=here password=hunter2hunter2 dbname=${SHOP_DATABASE_NAME}",
        "hunter2hunter2${SHOP_DATABASE_NAME}",
        "${SHOP_DATABASE_NAME}hunter2hunter2",
    ],
)
def test_what_stands_around_the_name_is_masked(cli, value):
    said = said_of(cli, value)
    assert "the environment variable SHOP_DATABASE_NAME is not set" in said
    assert HINT.format(name="SHOP_DATABASE_NAME") in said
    assert "hunter2" not in said


def test_what_is_no_name_is_masked(cli):
    assert "correct horse" not in said_of(cli, "hunter2${correct horse battery staple}")
