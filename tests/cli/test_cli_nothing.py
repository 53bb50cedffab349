"""Where nothing is selected, that is said; a job that does nothing must not look like one that went well."""

import pytest

COMMANDS = [("sync",), ("plan",), ("migrate",), ("sync", "--dry-run")]


def several(cli):
    """Two sources into one destination."""
    cli.shop("orders")
    cli.sqlite("second.db", "visits")
    usual = {"path": "sqlite", "tables": ["*"], "destinations": ["copy"]}
    cli.spec(
        ("source", {"name": "shop", **usual, "spec": {"path": "shop.db"}}),
        ("source", {"name": "web", **usual, "spec": {"path": "second.db"}}),
        ("destination", {"name": "copy", "path": "duckdb", "write_mode": "overwrite", "spec": {"path": "w.duckdb"}}),
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_list_of_tables(cli, command):
    cli.shop("orders")
    text = (cli.directory / "strandline.yml").read_text("utf-8")
    (cli.directory / "strandline.yml").write_text(text.replace('"tables": ["*"]', '"tables": []'), "utf-8")
    done = cli(*command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "`spec.tables`: nothing is in this list" in done.stderr
    assert 'tables: ["*"] is every table of the source' in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_everything_is_skipped(cli, command):
    cli.shop("orders", skip_tables=["*"])
    done = cli(*command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no table of source 'shop' is selected: `skip_tables` leaves out all that `tables` names" in done.stderr
    assert not (cli.directory / "w.duckdb").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("globs", [("--exclude", "*"), ("--select", "orders", "--exclude", "or*")])
def test_everything_is_excluded(cli, command, globs):
    cli.shop("orders", "items")
    done = cli(*command, *globs)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no table of source 'shop' is selected: --exclude leaves out all" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_everything_of_several_sources_is_excluded(cli, command):
    several(cli)
    done = cli(*command, "--exclude", "*")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no table of any source is selected" in done.stderr


def test_a_source_of_several_may_be_left_out(cli):
    several(cli)
    done = cli("sync", "--exclude", "visits")
    assert (done.exit_code, "1 of 1 task completed" in done.stdout) == (0, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_glob_that_matches_nothing(cli, command):
    cli.shop("orders")
    done = cli(*command, "--select", "zz*")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "`--select`: no table matches 'zz*'" in done.stderr
