"""Places that cannot be used: the same words, hint and exit code, whichever place it is."""

import os

import pytest


@pytest.mark.parametrize("into", ["duckdb", "sqlite"])
def test_a_directory_that_is_not_writable(cli, monkeypatch, into):
    real = os.access
    # root, who may run this, may write everywhere but to /sys, where nobody can make a file
    monkeypatch.setattr(os, "access", lambda path, how: str(path) != "/sys" and real(path, how))
    cli.shop("orders", "items", into=into, path="/sys/w.db")
    done = cli("sync")
    assert done.exit_code == 2
    assert done.stderr == "error: /sys is not writable\nhint: chmod u+w /sys, or run as its owner\n"
    assert "problem  use: /sys is not writable\n" in cli("doctor").stdout


def test_a_server_that_refuses_has_answered(cli, postgresql_server):
    cli.sqlite("shop.db", "orders", "items")
    cli.spec(
        (
            "source",
            {"name": "shop", "path": "sqlite", "destinations": ["w"], "tables": ["*"], "spec": {"path": "shop.db"}},
        ),
        (
            "destination",
            {"name": "w", "path": "postgresql", "spec": {"connection_string": postgresql_server.uri("there_is_none")}},
        ),
    )
    done = cli("sync")
    assert done.exit_code == 5
    assert "the server refuses the connection: " in done.stdout
    assert 'database "there_is_none" does not exist\n' in done.stdout
    assert done.stdout.count("hint: see connection_string\n") == 1
    assert "does not answer" not in done.stdout


def test_a_source_that_refuses_has_answered_too(cli, postgresql_server):
    cli.spec(
        (
            "source",
            {
                "name": "shop",
                "path": "postgresql",
                "destinations": ["w"],
                "tables": ["*"],
                "spec": {"connection_string": postgresql_server.uri("there_is_none")},
            },
        ),
        ("destination", {"name": "w", "path": "duckdb", "spec": {"path": "w.duckdb"}}),
    )
    done = cli("sync")
    assert done.exit_code == 5
    assert 'the server refuses the connection: database "there_is_none" does not exist\n' in done.stderr
    assert "\\n" not in done.stderr
