"""The command line in a directory of its own, as the tests of single commands need it."""

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from strandline import logs
from strandline.cli import main


class CommandLine:
    """Runs ``strandline`` inside this process, in an empty current directory."""

    def __init__(self, directory):
        self.directory = directory

    def __call__(self, *arguments, **environment):
        return CliRunner(env=environment).invoke(main, list(map(str, arguments)), prog_name="strandline")

    def spec(self, *documents, path="strandline.yml"):
        """Write a spec of pairs (kind, spec)."""
        texts = [json.dumps({"kind": kind, "spec": spec}) for kind, spec in documents]
        Path(path).write_text("\n---\n".join(texts), "utf-8")

    def sqlite(self, path, *names, rows=2):
        """Make a database of tables with these names, a key and a time."""
        with closing(sqlite3.connect(path)) as connection, connection:
            for name in names:
                connection.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, status TEXT, at TEXT)')
                connection.executemany(
                    f"INSERT INTO \"{name}\" (status, at) VALUES ('new', ?)",
                    [(f"2026-01-01 00:00:{n:02}",) for n in range(rows)],
                )

    def shop(self, *names, tables=None, into="duckdb", mode="overwrite", path="w.duckdb", **settings):
        """The usual: one SQLite file into one destination."""
        self.sqlite("shop.db", *names)
        source = {"name": "shop", "path": "sqlite", "tables": ["*"], "destinations": ["copy"]}
        self.spec(
            ("source", source | {"spec": {"path": "shop.db", "tables": tables or {}}} | settings),
            ("destination", {"name": "copy", "path": into, "write_mode": mode, "spec": {"path": path}}),
        )


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """``cli("sync")``, and what it needs. Secrets and logging are afterwards as they were."""
    root, ours = logging.getLogger(), logging.getLogger("strandline")
    kept = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    monkeypatch.setattr(logs, "_known", logs._Known())
    monkeypatch.chdir(tmp_path)
    yield CommandLine(tmp_path)
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = kept
    logging.captureWarnings(capture=False)
