"""Every block for a shell in every page is run, and every block of YAML is checked, unless it says in the page why not.

The blocks of a page are run from top to bottom in one directory. In comments right above a block, which a reader does not see:
`<!-- before: shop -->` names what is there at first (`pages.BEFORE`), `<!-- not run: why -->` leaves a block out, `<!-- exits: 3 -->` says
how it ends, `<!-- part: postgresql -->` says of which source some lines of a spec are, `<!-- with: a = b -->` what is run in place of what is
written. A block that begins with `# name.yml` is that file.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import BEFORE, PAGES, ROOT, blocks
from ruamel.yaml import YAML

from strandline.spec import load

EVERY = [block for page in PAGES for block in blocks(page)]
RUN = [page for page in PAGES if any(one.commands and one.note("not run") is None for one in blocks(page))]
PART = """\
kind: source
spec:
  name: part
  path: {path}
  destinations: [warehouse]
  spec: {{{own}}}
{lines}
---
kind: destination
spec: {{name: warehouse, path: duckdb, spec: {{path: w.duckdb}}}}
"""

OWN = {
    "postgresql": 'connection_string: "postgresql://localhost/shop"',
    "sqlite": "path: shop.db",
    "files": "path: data",
}
"""What a source needs."""


def ids(block):
    return block.place


def specs():
    for block in EVERY:
        if block.language == "yaml" and ("kind: source" in block.text or block.note("part") is not None):
            yield pytest.param(block, id=block.place)


@pytest.mark.parametrize("block", list(specs()))
def test_specs_are_valid(block, tmp_path, monkeypatch):
    place, path = tmp_path / "strandline.yml", block.note("part")
    place.write_text(PART.format(path=path, own=OWN[path], lines=block.text) if path else block.text, "utf-8")
    for other in blocks(block.page):
        if other.file == ".env":
            (tmp_path / ".env").write_text(other.text, "utf-8")
    modules = re.findall(r"^  registry: python\n  path: (\w+)", block.text, re.MULTILINE)
    for module in modules:
        (tmp_path / f"{module}.py").write_text("import strandline\n\n@strandline.table\ndef rows(): ...\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = load([place], environment={})
    assert config.sources[0].settings is not None
    for module in modules:
        del sys.modules[module]


@pytest.mark.parametrize("block", [block for block in EVERY if block.language == "yaml"], ids=ids)
def test_yaml_is_a_spec_or_a_file_with_a_name(block):
    assert list(YAML(typ="safe").load_all(block.text))
    assert block.file or "kind: source" in block.text or block.note("part") is not None


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_to_type_works(page, tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for block in blocks(page):
        if (before := block.note("before")) is not None:
            BEFORE[before](tmp_path)
        if block.file and not block.file.startswith("/"):
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text, "utf-8")
        if block.commands is None or block.note("not run") is not None:
            continue
        text = block.commands
        for old, new in (pair.split(" = ") for pair in (block.note("with") or "").split(", ") if pair):
            text = text.replace(old, new)
        command = ["sh", "-exc", text]
        variables = os.environ | {"PATH": path, "HOME": str(tmp_path), "NO_COLOR": "1"}
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == int(block.note("exits") or 0), f"{block.place}\n{done.stdout}{done.stderr}"


def test_what_is_left_out_has_a_reason():
    assert [block.place for block in EVERY if "<!-- not run" in block.notes and not block.note("not run")] == []
    assert {block.note("before") for block in EVERY} <= {None, *BEFORE}
