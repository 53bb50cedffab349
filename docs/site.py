"""Builds the site from docs and the pages beside it, without the network: site.py [DIRECTORY]. `make docs` runs it.

The pages link to each other as they lie in the repository, where people read them too. In the site some have another place, and
a link to what is no page keeps its words only. A link that leads nowhere is an error.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/deploy/README.md": "containers.md",
    "examples/plugin/README.md": "example-plugin.md",
    "integrations/airflow/README.md": "airflow.md",
    "integrations/dagster/README.md": "dagster.md",
}
"""Pages that lie outside of docs, and where they are in the site."""
LINK = re.compile(r"\[([^\[\]]+)\]\(([^()#\s]+)(#[^()\s]*)?\)")


def places() -> dict[Path, str]:
    """Every page and picture of the repository that is in the site, and where."""
    found = {
        path: str(path.relative_to(DOCS)) for pattern in ("*.md", "adr/*.md", "*.svg") for path in DOCS.glob(pattern)
    }
    return found | {ROOT / path: place for path, place in ELSEWHERE.items()}


def page(path: Path, known: dict[Path, str]) -> str:
    """As the site has it: without notes for the tests, and its links as they lead there."""

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        there = (path.parent / target).resolve()
        there = there / "README.md" if there.is_dir() else there
        if target.startswith(("http://", "https://")) or not there.exists():
            return match[0]
        if there not in known:
            return words
        return f"[{words}]({os.path.relpath(known[there], Path(known[path]).parent)}{anchor})"

    parts = re.split(r"(^ *```.*?^ *```$)", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = "".join(part if part.lstrip().startswith("```") else LINK.sub(link, part) for part in parts)
    return re.sub(r"^ *<!--.*?-->\n", "", text, flags=re.MULTILINE)


def build(directory: Path) -> None:
    """The site, in `html` below `directory`, of which nothing else is kept."""
    shutil.rmtree(directory, ignore_errors=True)
    known = places()
    for path, place in known.items():
        to = directory / "pages" / place
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            to.write_text(page(path, known), "utf-8")
        else:
            shutil.copy(path, to)
    with (directory / "pages" / "adr" / "README.md").open("a", encoding="utf-8") as file:
        for path in sorted((DOCS / "adr").glob("0*.md")):
            title = path.read_text("utf-8").partition("\n")[0].lstrip("# ")
            file.write(f"\n- [{title}]({path.name})")
    shutil.copy(DOCS / "zensical.toml", directory)
    zensical = Path(sys.executable).with_name("zensical")
    done = subprocess.run([zensical, "build", "--strict"], cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr.partition("Traceback")[0])


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".cache" / "site"
    build(place)
    sys.stdout.write(f"{place / 'html' / 'index.html'}\n")
