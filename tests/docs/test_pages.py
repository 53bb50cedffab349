"""What the pages say is there: links, commands, verbs of make, and specs that are valid."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    dead = [
        link
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text)
        if not link.startswith("http") and not (page.parent / link).exists()
    ]
    assert dead == []


def strandline(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "strandline", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_exist(page):
    text = page.read_text("utf-8")
    for command in set(re.findall(r"^(?:\.venv/bin/)?strandline ([a-z-]+)", text, re.MULTILINE)):
        assert strandline(command, "--help").returncode == 0, f"there is no `strandline {command}`"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_verbs_of_make_exist(page):
    verbs = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(named) <= verbs


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def specs():
    for page in PAGES:
        env_file = next((block for block in blocks(page, "ini") if block.startswith("# .env")), "")
        for number, block in enumerate(blocks(page, "yaml")):
            if "kind: source" in block:
                yield pytest.param(block, env_file, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize(("spec", "env_file"), list(specs()))
def test_specs_in_pages_are_valid(spec, env_file, tmp_path):
    (tmp_path / "strandline.yml").write_text(spec, "utf-8")
    (tmp_path / ".env").write_text(env_file, "utf-8")
    for module in re.findall(r"^  registry: python\n  path: (\w+)", spec, re.MULTILINE):
        (tmp_path / f"{module}.py").write_text("import strandline\n\n@strandline.table\ndef rows(): ...\n", "utf-8")
    done = strandline("validate-config", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
