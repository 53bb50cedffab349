"""What the pages say is there: links, commands, verbs of make."""

import re

import click
import pytest
from pages import PAGES, ROOT

from strandline.cli import main

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


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_exist(page):
    context = click.Context(main)
    named = set(re.findall(r"^(?:\$ )?(?:\.venv/bin/)?strandline ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE))
    assert {name for name in named if main.get_command(context, name) is None} == set()


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_verbs_of_make_exist(page):
    verbs = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(named) <= verbs
