"""What a text tells a user to type exists: each command, and each option."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

from strandline.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
MODULES = sorted((ROOT / "src").rglob("*.py"))

CALL = re.compile(r"(?<![\w./'\"-])(?<!\bA )(?<!\bimport )(?<!\bgeneric )strandline((?: +-{0,2}[a-z][\w-]*)+)")
SHORT = re.compile(r"`(state +-{0,2}[a-z][^`]*)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]\b")


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Each text of a file and where it begins; of a module, its strings and docstrings."""
    if path.suffix == ".md":
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield f"{path.relative_to(ROOT)}:{number}", line
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def commands(command: click.Command = main, path: str = "") -> dict[str, click.Command]:
    found = {path: command}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= commands(below, f"{path} {name}".strip())
    return found


COMMANDS = commands()


def options(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}


def wrong(words: list[str]) -> str:
    """What is wrong with words that someone would type after `strandline`."""
    path = ""
    for word in words:
        command = COMMANDS[path]
        if word.startswith("-"):
            if word not in options(command):
                return f"`{path}` has no option {word}"
        elif isinstance(command, click.Group):
            path = f"{path} {word}".strip()
            if path not in COMMANDS:
                return f"there is no command {path!r}"
    return ""


def test_every_command_that_is_named_exists():
    found = [
        f"{where}: {said}"
        for path in [*PAGES, *MODULES]
        for where, text in texts(path)
        for call in (*CALL.finditer(text), *SHORT.finditer(text))
        if (said := wrong(re.split(r"\s+", call[1].strip())))
    ]
    assert found == []


def test_every_option_that_is_named_exists():
    every = set().union(*map(options, COMMANDS.values()))
    found = [
        f"{where}: {option}"
        for path in MODULES
        for where, text in texts(path)
        for option in OPTION.findall(text)
        if option not in every
    ]
    assert found == []
