"""The site of `make docs`: every page is in it, and nothing comes from elsewhere."""

import re
import subprocess
import sys
import tomllib

import pytest
from pages import ROOT

LOADED = re.compile(r"<(?:script|img|iframe)[^>]+src=\"?([^\" >]+)|<link[^>]+href=\"?([^\" >]+)|url\((https?:[^)]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "docs/site.py", place], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def named(nav):
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from named(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation(site):
    nav = set(named(tomllib.loads((site / "zensical.toml").read_text("utf-8"))["project"]["nav"]))
    pages = {str(page.relative_to(site / "pages")) for page in (site / "pages").glob("*.md")}
    assert pages == {page for page in nav if "/" not in page}
    assert all((site / "html" / page).with_suffix(".html").exists() for page in pages)


def test_a_reader_fetches_nothing_from_elsewhere(site):
    found = set()
    for page in (site / "html").rglob("*.html"):
        found |= {next(filter(None, match)) for match in LOADED.findall(page.read_text("utf-8"))}
    assert found
    assert {address for address in found if address.startswith(("http:", "https:", "//"))} == set()


def test_a_link_that_leads_nowhere_is_an_error(site, tmp_path):
    (site / "pages" / "install.md").write_text("# Install\n\n[gone](nowhere.md)\n", "utf-8")
    zensical = [sys.executable.replace("python", "zensical"), "build", "--strict"]
    done = subprocess.run(zensical, cwd=site, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "does not exist" in done.stdout + done.stderr
