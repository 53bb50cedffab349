"""The pages of the documentation, and the blocks of code in them."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BEFORE", "PAGES", "ROOT", "Block", "blocks"]

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for place in (".", "docs", "examples", "integrations")
    for page in (ROOT / place).glob("*.md" if place == "." else "**/*.md")
)
_FENCE = re.compile(r"^((?: *<!--.*?-->\n)*)( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_ANSWER = re.compile(r"^(?!\$ ).*\n?", re.MULTILINE)
_NAME = re.compile(r"(?:#|--) ([\w./-]*\.[\w.]+)\b")


@dataclass(frozen=True)
class Block:
    """A block of code: what stands between fences, and in comments right above."""

    page: Path
    line: int
    language: str
    text: str
    notes: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> str | None:
        """What a person would type, of a block for a shell; without what it answers."""
        if self.language == "sh":
            return self.text
        return _ANSWER.sub("", self.text).replace("$ ", "") if self.language == "console" else None

    @property
    def file(self) -> str | None:
        """The file that it is, by its first line: `# strandline.yml`."""
        found = _NAME.match(self.text)
        return found[1] if found else None

    def note(self, name: str) -> str | None:
        """What a comment of this name says: `<!-- not run: because -->`."""
        found = re.search(rf"<!-- {name}(?:: (.+?))? -->", self.notes)
        return None if found is None else found[1] or ""


def blocks(page: Path) -> list[Block]:
    """All of a page, from top to bottom."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        notes, indent, language, body = match.groups()
        inside = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        found.append(Block(page, text.count("\n", 0, match.start(4)), language, inside, notes))
    return found


def _shop(directory: Path) -> None:
    """shop.db: customers, and orders with a time of change."""
    with closing(sqlite3.connect(directory / "shop.db")) as shop, shop:
        shop.executescript("""
            CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT);
            CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, price DECIMAL(10, 2), updated_at DATETIME);
            INSERT INTO customers VALUES (1, 'ada@example.com'), (2, 'alan@example.com');
            INSERT INTO orders VALUES (1, 'paid', 12.5, '2026-01-01 10:00:00'), (2, 'new', 7, '2026-01-02 10:00:00');
        """)


def _project(directory: Path) -> None:
    """The shop, its spec, and a sync; and the same spec with another backend, in new.yml."""
    _shop(directory)
    (directory / "strandline.yml").write_text(SPEC, "utf-8")
    (directory / "new.yml").write_text(SPEC.replace("backend: local", "backend: sqlite"), "utf-8")
    subprocess.run([sys.executable, "-m", "strandline", "--quiet", "sync"], cwd=directory, check=True)


def _files(directory: Path) -> None:
    """data: a CSV file and a directory of JSON lines."""
    (directory / "data" / "events").mkdir(parents=True)
    (directory / "data" / "prices.csv").write_text("id,price\n1,12.50\n2,7.00\n", "utf-8")
    (directory / "data" / "events" / "2026-01-01.jsonl").write_text(
        '{"id": 1, "at": "2026-01-01T10:00:00Z"}\n', "utf-8"
    )


SPEC = """\
kind: source
spec:
  name: shop
  path: sqlite
  backend: local
  destinations: [warehouse]
  spec: {path: shop.db}
  table_settings: {orders: {incremental_key: updated_at}}
---
kind: destination
spec: {name: warehouse, path: duckdb, spec: {path: warehouse.duckdb}}
"""

BEFORE: dict[str, Callable[[Path], None]] = {"shop": _shop, "files": _files, "project": _project}
"""What is there before a page begins, by the name in `<!-- before: shop -->`."""
