"""The examples of docs/python.md and of the README run as they are shown."""

import contextlib
import re
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 5, 1, tzinfo=UTC)


class AnswerError(Exception):
    """As a library of HTTP raises it."""

    status = 403


class Client:
    """The API of the examples."""

    def __init__(self):
        self._issues = {n: {"id": n, "title": f"issue {n}", "updated_at": NOW + timedelta(days=n)} for n in (1, 2, 3)}

    def issues(self, since=None):
        return [one for one in self._issues.values() if since is None or one["updated_at"] >= since]

    def pages(self, since=None):
        yield self.issues(since)

    def close_issue(self, number):
        self._issues[number] |= {"title": "closed", "updated_at": NOW + timedelta(days=9)}

    def events(self, page):
        return [{"page": page, "n": n} for n in range(2)] if page < 3 else []

    def comments(self, number):
        return [{"text": "first"}] * number

    def accounts(self, region, since=None):
        if region == "closed":
            raise AnswerError("403 Forbidden")
        return [{"id": region, "updated_at": NOW}]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """What the examples have in common, in a directory of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = ModuleType("tracker_docs")
    module.client = Client()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def run(source, module):
    exec(compile(source, f"{module.__name__}.py", "exec"), vars(module))


def test_the_page_about_python_runs_as_it_is_shown(module, tmp_path):
    with contextlib.closing(sqlite3.connect("shop.db")) as shop:
        shop.executescript(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, updated_at TEXT); INSERT INTO orders VALUES (1, '2026-05-01')"
        )
    [spec] = blocks("docs/python.md", "yaml")
    (tmp_path / "strandline.yml").write_text(spec, "utf-8")
    (tmp_path / "tracker.py").write_text(
        "import strandline as sl\n@sl.table(primary_key='id')\ndef issues():\n    yield [{'id': 1}]\n", "utf-8"
    )
    for block in blocks("docs/python.md", "python"):
        run(block, module)
    del sys.modules["tracker"]


def test_the_shortest_program_runs_as_it_is_shown_and_its_report_is_a_table_in_a_notebook(module, capsys):
    [program] = blocks("README.md", "python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 8
    run(program, module)
    assert "issues  completed     3" in capsys.readouterr().out
    shown = module.report._repr_html_()
    assert shown.startswith("<table><tr><th>table</th>")
    assert "<td>issues</td><td>completed</td><td>3</td>" in shown
