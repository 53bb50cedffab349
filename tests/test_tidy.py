"""The limits of style that no linter keeps: sizes, names, late imports, and a reason for each exception."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = sorted(path for folder in ("bench", "examples", "integrations") for path in (ROOT / folder).rglob("*.py"))
ALL = [*SRC, *TESTS, *SCRIPTS]

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 400
TEST_MODULE_LINES_MAX = 600
BLOCKS_MAX = 4
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "base", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)


def place(path: Path, line: int = 0) -> str:
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text("utf-8"), str(path)))


def functions(path: Path) -> Iterator[Function]:
    return (node for node in nodes(path) if isinstance(node, Function))


def depth(node: ast.AST) -> int:
    """How many blocks stand inside each other below ``node``; functions inside it count for themselves."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        # `elif` is an `if` in the `else`, and no deeper.
        flat = field == "orelse" and isinstance(node, ast.If) and len(children) == 1 and isinstance(children[0], ast.If)
        for child in children:
            if isinstance(child, Function | ast.ClassDef) or not isinstance(child, ast.AST):
                continue
            deepest = max(deepest, depth(child) + (isinstance(child, BLOCKS) and not flat))
    return deepest


def test_functions_are_short():
    long = [
        f"{place(path, node.lineno)} {node.name}: {lines} lines"
        for path in ALL
        for node in functions(path)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize(("paths", "lines_max"), [(SRC, MODULE_LINES_MAX), ([*TESTS, *SCRIPTS], TEST_MODULE_LINES_MAX)])
def test_modules_are_short(paths, lines_max):
    long = [
        f"{place(path)}: {lines} lines"
        for path in paths
        if (lines := len(path.read_text("utf-8").splitlines())) > lines_max
    ]
    assert long == []


def test_blocks_are_not_nested_deeply():
    deep = [
        f"{place(path, node.lineno)} {node.name}: {blocks} nested blocks"
        for path in ALL
        for node in functions(path)
        if (blocks := depth(node)) > BLOCKS_MAX
    ]
    assert deep == []


def test_modules_are_called_by_what_they_hold():
    vague = [place(path) for path in SRC if VAGUE_NAMES & {part.strip("_") for part in path.with_suffix("").parts}]
    assert vague == []


def test_imports_stand_at_the_top():
    late = [
        place(path, inner.lineno)
        for path in SRC
        if "cli" not in path.parts and path.name != "plugins.py"
        for function in functions(path)
        for inner in ast.walk(function)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert late == [], "only the command line and plugins.py import late; heavy modules come from strandline.lazy"


def test_only_the_command_line_prints():
    prints = [
        place(path, node.lineno)
        for path in SRC
        if "cli" not in path.parts
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


def found(pattern: str, paths: list[Path]) -> list[str]:
    return [
        f"{place(path, number)} {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_nothing_is_left_to_do():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert found(r"\b(TO[D]O|FIX[M]E|XX[X]|HA[C]K)\b", [*ALL, *pages]) == []


def test_every_exception_from_a_rule_has_a_reason():
    # It names its rules, then says why: "BLE001 the run loop is where errors end".
    bare = found(r"#\s*[n]oqa(?!:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*[\s#:;,–—-]+\w.{5})", ALL)
    assert bare == []


def test_every_ignored_rule_has_a_reason():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    lint = text.partition("[tool.ruff.lint]")[2].partition("[tool.ruff.lint.pydocstyle]")[0]
    bare = [
        line for line in lint.splitlines() if re.match(r'\s+"[A-Z]+[0-9]*",', line) and not re.search(r"#\s*\w", line)
    ]
    assert lint
    assert bare == []


def left_out(path: Path) -> Iterator[tuple[ast.expr, bool]]:
    """Each skip and expected failure of a test module, and whether it says why."""
    for node in nodes(path):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if re.fullmatch(r"pytest\.(mark\.(skip|skipif|xfail)|skip|importorskip)", name):
                yield (
                    node,
                    "reason" in {word.arg for word in node.keywords} or (name == "pytest.skip" and bool(node.args)),
                )
        elif isinstance(node, Function | ast.ClassDef):
            marks = {"pytest.mark.skip", "pytest.mark.xfail"}
            yield from ((mark, False) for mark in node.decorator_list if ast.unparse(mark) in marks)


def test_every_skip_has_a_reason():
    bare = [place(path, node.lineno) for path in TESTS for node, said in left_out(path) if not said]
    assert bare == []


def test_connectors_are_imported_without_arrow_or_a_driver():
    connectors = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for path in SRC
        if "connectors" in path.parts and path.name != "__init__.py"
    ]
    script = (
        "import importlib, sys\n"
        f"for name in {connectors!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'pyarrow', 'duckdb', 'sqlite3'} & sys.modules.keys()\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_neither_arrow_nor_a_driver():
    script = (
        "import sys\n"
        "from strandline.__main__ import main\n"
        "sys.argv = ['strandline', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "heavy = {'pyarrow', 'duckdb', 'sqlite3', 'rich'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def requirements(entries: list[dict[str, object]]) -> set[tuple[object, object]]:
    return {(entry["name"], entry.get("specifier", "")) for entry in entries}


def test_the_lock_fits_the_project():
    """What `uv sync --frozen` installs is what pyproject.toml asks for. To fix: make lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    ours = next(package for package in lock["package"] if package["name"] == "strandline")["metadata"]
    optional = project["project"]["optional-dependencies"]

    def wanted(lines: list[str]) -> set[tuple[object, object]]:
        parts = [re.fullmatch(r"([a-z0-9.-]+)(\[.*\])?(.*)", line.lower()) for line in lines]
        return {(part[1].replace(".", "-"), part[3]) for part in parts if part}

    everything = [*project["project"]["dependencies"], *(line for lines in optional.values() for line in lines)]
    assert requirements(ours["requires-dist"]) == wanted(everything)
    assert requirements(ours["requires-dev"]["dev"]) == wanted(project["dependency-groups"]["dev"])


def test_the_lock_names_the_public_index_only():
    text = (ROOT / "uv.lock").read_text("utf-8")
    assert set(re.findall(r"https?://([^/\"]+)", text)) == {"pypi.org", "files.pythonhosted.org"}


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a module with its line, docstrings too."""
    return (
        (node.lineno, node.value)
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


SYSTEMS = re.compile(
    r"postgres|psycopg|libpq|adbc|sqlite|duckdb|hackernews|redis|iceberg|mysql|snowflake|bigquery", re.IGNORECASE
)
NAMES_ALLOWED = {
    # what is secret in a connection string of any system, whether or not there is a connector for it
    "connection_string.py": SYSTEMS.pattern,
    # the defaults of `backend` and `executor`
    "plugins.py": "local|threads",
    # CloudQuery's registries
    "spec/models.py": "local|python",
    # the registry of modules of table functions, and a program that has some
    "spec/reading.py": "python",
    "api/__init__.py": "duckdb|postgresql",
    "api/places.py": "python|duckdb|sqlite",
    "api/project.py": "duckdb",
    "__init__.py": "duckdb",
    # what a file system is made of
    "disk.py": "memory",
}


def test_nothing_but_connectors_names_a_connector():
    """Plugins describe themselves (`strandline.describe`), so that those of third parties are no lesser ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    plugins = {name for group, named in project.items() if group.startswith("strandline.") for name in named}
    package = ROOT / "src" / "strandline"
    plugins.remove("none")  # which is the word for nothing, too
    named = [
        f"{place(path, line)} {text.strip()[:60]!r}"
        for path in SRC
        if path.relative_to(package).parts[0] not in {"connectors", "executors", "testing"}
        for line, text in strings(path)
        if (text in plugins or SYSTEMS.search(text))
        and not re.search(NAMES_ALLOWED.get(str(path.relative_to(package)), "^$"), text, re.IGNORECASE)
    ]
    assert named == []


def test_modules_that_tests_import_from_each_other_have_names_of_their_own():
    """Directories of tests are no packages, so of two modules of one name the one that is imported first is both."""
    named = [path for path in TESTS if not (path.parent / "__init__.py").exists() and path.name != "conftest.py"]
    names = [path.name for path in named]
    assert [place(path) for path in named if names.count(path.name) > 1] == []
