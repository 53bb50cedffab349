"""Lines of code of the package, without blanks, comments, docstrings and the `testing` suite, by directory.

python bench/lines.py [FOLDER]

A room of a system is told by kind, too: what only its source, its destination or its state backend imports of it, and what several of
them do.
"""

import ast
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_KINDS = ("source", "destination", "state")


def lines_of(path: Path) -> int:
    """How many lines of a file hold code; a text that is a statement by itself describes, and is none."""
    with path.open("rb") as stream:
        code = {
            row
            for token in tokenize.tokenize(stream.readline)
            if token.type not in _NO_CODE
            for row in range(token.start[0], token.end[0] + 1)
        }
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def kinds_of(room: Path) -> Mapping[str, int]:
    """The lines of a room by kind; nothing where it has one kind only."""
    modules = {path.stem: path for path in room.glob("*.py")}
    imports = {name: _imported(path, room.name) for name, path in modules.items()}
    users: dict[str, set[str]] = defaultdict(set)
    for kind in _KINDS:
        left = [kind] if kind in modules else []
        while left:
            name = left.pop()
            if kind not in users[name]:
                users[name].add(kind)
                left += imports[name] & modules.keys()
    lines: Counter[str] = Counter()
    for name, path in modules.items():
        lines[next(iter(users[name])) if len(users[name]) == 1 else "shared"] += lines_of(path)
    return lines if len(lines) > 1 else {}


def _imported(path: Path, room: str) -> set[str]:
    """The modules of a room that one of them imports, and other names."""
    package, found = f"strandline.connectors.{room}", set[str]()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {one.name for one in node.names} if node.module == package else set()
            found |= {node.module.removeprefix(f"{package}.")} if node.module.startswith(f"{package}.") else set()
    return found


def main(folder: Path) -> None:
    lines: Counter[str] = Counter()
    for path in folder.rglob("*.py"):
        inside = path.relative_to(folder)
        if inside.parts[0] != "testing":
            lines[str(inside.parent)] += lines_of(path)
    for name, count in sorted(lines.items()):
        kinds = kinds_of(folder / name) if name.startswith("connectors/") else {}
        told = ", ".join(f"{kind} {number:,}" for kind, number in sorted(kinds.items()) if number)
        print(f"{count:7,}  {name}{f': {told}' if told else ''}")
    print(f"{lines.total():7,}  in all")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "src" / "strandline"))
