"""Lines of code of the package, without blanks, comments, docstrings and the `testing` suite, by directory.

python bench/lines.py [FOLDER]
"""

import ast
import sys
import tokenize
from collections import Counter
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


def main(folder: Path) -> None:
    lines: Counter[str] = Counter()
    for path in folder.rglob("*.py"):
        inside = path.relative_to(folder)
        if inside.parts[0] != "testing":
            lines[str(inside.parent)] += lines_of(path)
    for name, count in sorted(lines.items()):
        print(f"{count:7,}  {name}")
    print(f"{lines.total():7,}  in all")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "src" / "strandline"))
