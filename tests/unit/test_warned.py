"""Every warning has a code, which programs may rely on."""

import ast
import json
import pickle
import re
from pathlib import Path

import pytest

from strandline.warned import Code, Warned

SOURCES = sorted((Path(__file__).parents[2] / "src" / "strandline").rglob("*.py"))
OTHERS = [path for path in SOURCES if path.name != "warned.py"]


def calls(path):
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]


def test_a_code_is_one_word_with_hyphens_and_has_a_meaning():
    for code in Code:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert code.meaning
        assert json.loads(json.dumps(code)) == code == code.extra["code"]


@pytest.mark.parametrize("code", list(Code))
def test_a_code_is_used(code):
    assert any(f"Code.{code.name}" in path.read_text("utf-8") for path in [*OTHERS])


def test_a_warning_that_is_logged_has_a_code():
    """Those of a run are of the type ``Warned``, which mypy sees to."""
    without = [
        f"{path.name}:{call.lineno}"
        for path in OTHERS
        for call in calls(path)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "warning"
        and "extra" not in {one.arg for one in call.keywords}
    ]
    assert without == []


def test_a_notice_of_a_built_in_source_has_a_code_of_its_own():
    notices = [call for path in OTHERS for call in calls(path) if getattr(call.func, "id", "") == "Notice"]
    assert notices
    assert [ast.unparse(call) for call in notices if len(call.args) < 3 and not call.keywords] == []


def test_a_warning_is_its_text_and_keeps_its_code_where_it_is_sent():
    warned = pickle.loads(pickle.dumps(Warned(Code.UNFILLED, "no values")))
    assert (warned, warned.code, json.dumps(warned)) == ("no values", "unfilled-columns", '"no values"')


def test_events_summary_plan_and_reports_tell_the_code(cli):
    cli.sqlite("shop.db", "orders")
    tables = {"orders": {"incremental_key": "at", "nulls": "exclude", "primary_key": ["status"]}}
    cli.spec(
        (
            "source",
            {"name": "shop", "path": "sqlite", "destinations": ["w"], "spec": {"path": "shop.db", "tables": tables}},
        ),
        ("destination", {"name": "w", "path": "sqlite", "write_mode": "append", "spec": {"path": "w.db"}}),
    )
    done = cli("--log-format", "json", "--log-file", "log", "sync", "--summary-location", "summary")
    assert done.exit_code == 0, done.output
    (task,) = json.loads(Path("summary").read_text())["tasks"]
    assert task["warning_codes"] == ["keys-not-unique"]
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["code"] for one in events if one.get("event") == "warning"] == ["keys-not-unique"]
    assert len(task["warnings"]) == 1
    (plan,) = [json.loads(line) for line in cli("plan", "--json").stdout.splitlines()]
    assert plan["warning_codes"] == []
