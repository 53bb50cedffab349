"""One word, one meaning: the nouns are in the glossary, and texts for people use its words."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(page for place in ("examples", "integrations") for page in (ROOT / place).rglob("*.md")),
]
BANNED = re.compile(r"\b(mend(s|ed|ing)?|anew|heights?|(?<!`)[Ff]org(et|ets|ot|otten)|swap(s|ped)?( in)?)\b")
"""For these there are words of the field: fix, again, high-water mark, discard, replace."""


def entries():
    return re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY, re.MULTILINE)


def test_every_noun_of_the_architecture_is_explained():
    nouns = re.findall(r"^\| ([A-Z][\w ,]+?) \|", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.MULTILINE)
    every = {word.strip().lower() for noun in nouns for word in noun.split(",")}
    explained = set(entries())
    inside = {"project", "register", "version order", "write mode", "window"}
    assert {"cursor", "pass", "lineage"} <= every
    assert every - explained - inside == set()


def test_it_is_in_alphabetical_order_and_says_each_word_once():
    assert entries() == sorted(set(entries()))


def test_pages_use_its_words():
    found = [
        f"{page.relative_to(ROOT)}: {match[0]}"
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for match in BANNED.finditer(page.read_text("utf-8"))
    ]
    assert found == []


def test_messages_use_its_words():
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = (node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.value[:60]!r}"
            for node in texts
            # a single word is a name, as of a field of a cursor
            if id(node) not in docs and re.search(r"\s", node.value) and BANNED.search(node.value)
        ]
    assert found == []
