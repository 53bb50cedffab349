"""`init` by questions: what cannot be used is said at once, and asked for again."""

import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from strandline.plugins import load_plugin


@dataclass
class Asked:
    code: int
    out: str
    err: str


@pytest.fixture
def ask(cli):
    """Run `strandline init` on a terminal that gives these answers."""
    cli.sqlite("shop.db", "orders")

    def ask(*answers, options=()):
        terminal, inner = pty.openpty()
        command = [sys.executable, "-m", "strandline", "init", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, stdin=inner, **pipes) as process:
            os.close(inner)
            os.write(terminal, "".join(f"{answer}\n" for answer in answers).encode())
            out, err = process.communicate(timeout=60)
        os.close(terminal)
        return Asked(process.returncode, out, err)

    return ask


def test_a_source_that_cannot_be_opened_is_asked_for_again_at_once(ask):
    Path("empty.db").touch()
    asked = ask("no.db", "empty.db", "what", "shop.db", "")
    assert asked.code == 0, asked.err
    assert asked.err.count("Read from:") == 4
    assert asked.err.count("Write to") == 1
    assert (
        asked.err.index("no.db") < asked.err.index("empty.db") < asked.err.index("no source plugin is known for 'what'")
    )
    assert asked.err.count("error: ") == 3
    assert "Error: " not in asked.err
    assert "wrote strandline.yml: shop (sqlite) → warehouse (duckdb)" in asked.out


def test_a_destination_in_a_directory_that_is_not_there(ask, cli):
    asked = ask("shop.db", "not/there/w.duckdb", "w.duckdb")
    assert asked.code == 0, asked.err
    assert (
        f"error: there is no directory {cli.directory}/not/there\nhint: mkdir -p {cli.directory}/not/there\n"
        in asked.err
    )
    done = cli("init", "--from", "shop.db", "--to", "not/there/w.sqlite", "--output", "other.yml")
    assert (done.exit_code, "there is no directory" in done.stderr) == (2, True)


@pytest.mark.parametrize(("answer", "code"), [("n", 2), ("y", 0)])
def test_a_file_that_is_there_is_asked_about_first(ask, answer, code):
    Path("strandline.yml").write_text("mine")
    asked = ask(answer, "shop.db", "")
    assert asked.code == code
    assert asked.err.startswith(
        "strandline.yml is there already. Write another one, and keep it under another name? [y/N]: "
    )
    assert (Path("strandline.yml").read_text() == "mine") is (answer == "n")


def test_notes_about_the_source_are_printed_too(cli, postgresql):
    import psycopg

    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("CREATE SCHEMA copy")
        connection.execute("CREATE TABLE copy.cq_tables (id int PRIMARY KEY)")
    done = cli("init", "--from", postgresql, "--to", "w.duckdb")
    assert done.exit_code == 0, done.stderr
    assert "\nnote: schema copy is written by Strandline, and not read" in done.stdout


@pytest.mark.parametrize(("count", "said"), [(1, "1 csv file at"), (2, "2 csv files at")])
def test_one_is_no_plural(cli, count, said):
    Path("data").mkdir()
    for at in range(count):
        Path(f"data/t{at}.csv").write_text("id\n1\n")
    cls = load_plugin("source", "files")
    source = cls(cls.Spec(path="data/*.csv", table="t"))
    assert any(said in table.description for table in source.tables())


def test_one_table_is_reached(cli):
    cli.shop("orders")
    assert "shop: 1 table, copy: reached\n" in cli("test-connection").stdout
