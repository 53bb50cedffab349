"""The command line, as a process: what it prints where, and the code it exits with."""

import importlib
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import third_party
from click.testing import CliRunner

from strandline import __version__
from strandline.cli import _COMMANDS, main

SPEC = """
kind: source
spec:
  name: shop
  path: acme
  destinations: [warehouse]
  tables: [orders]
  spec: {url: x}
---
kind: destination
spec: {name: warehouse, path: store, spec: {path: x}}
"""


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def site(tmp_path):
    """Where the plugins ``acme``, ``store`` and ``log`` are installed."""
    site = tmp_path / "site"
    third_party.install(site)
    return site


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current directory, empty."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def run(site, work, monkeypatch):
    """Run ``strandline`` inside this process, and leave it as it was."""
    root, ours = logging.getLogger(), logging.getLogger("strandline")
    kept = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    monkeypatch.syspath_prepend(str(site))

    def run(*arguments, **environment):
        done = CliRunner(env=environment).invoke(main, list(map(str, arguments)), prog_name="strandline")
        return Done(done.exit_code, done.stdout, done.stderr)

    yield run
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = kept
    logging.captureWarnings(capture=False)
    for name in [name for name in sys.modules if name.startswith("acme_strandline")]:
        del sys.modules[name]


@pytest.fixture
def process(site, work):
    """Run ``strandline``, or some Python, as a process of its own."""

    def process(*arguments, script=None, **options):
        how = ["-c", script] if script else ["-m", "strandline"]
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        usual = {"env": kept | {"PYTHONPATH": str(site)}, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, *how, *map(str, arguments)]
        done = subprocess.run(command, **usual | options, text=True, check=False, timeout=120)
        return Done(done.returncode, done.stdout, done.stderr)

    return process


@pytest.fixture
def spec(work):
    path = work / "strandline.yml"
    path.write_text(SPEC)
    return path


class TestHelp:
    def test_it_lists_every_command(self, run):
        done = run("--help")
        assert (done.code, done.err) == (0, "")
        for name in _COMMANDS:
            assert f"  {name} " in done.out

    def test_what_it_says_of_a_command_is_what_the_command_says(self):
        context = click.Context(main)
        for name, (_, text) in _COMMANDS.items():
            command = main.get_command(context, name)
            assert command.name == name
            assert command.get_short_help_str(limit=200) == text

    def test_nothing_heavy_is_imported(self, process):
        script = (
            "import sys\nfrom strandline.__main__ import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "heavy = {'pydantic', 'ruamel.yaml', 'rich', 'pyarrow', 'numpy', 'duckdb', 'sqlite3', 'strandline.spec'}\n"
            "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)\n"
        )
        assert process(script=script).err == "[]\n"

    def test_the_help_of_commands_imports_no_arrow_and_no_driver(self, process):
        modules = [f"strandline.cli.{module}" for module, _ in _COMMANDS.values()]
        script = (
            f"import sys, importlib\nfor name in {modules!r}:\n    importlib.import_module(name)\n"
            "print(sorted({'rich', 'pyarrow', 'numpy', 'duckdb', 'sqlite3'} & sys.modules.keys()))\n"
        )
        assert process(script=script).out == "[]\n"

    def test_every_command_has_help(self, run):
        for name in _COMMANDS:
            done = run(name, "--help")
            assert (done.code, done.err) == (0, "")
            assert done.out.startswith(f"Usage: strandline {name} ")

    def test_the_version(self, run):
        assert run("--version").out == f"strandline, version {__version__}\n"


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["tabels"], "error: no such command 'tabels'\nhint: did you mean 'tables'?\n"),
            (["zzz"], "error: no such command 'zzz'\nhint: `strandline --help` lists what there is\n"),
            (["plugin", "lst"], "hint: `strandline plugin --help` lists what there is\n"),
            (["--log-level", "loud", "schema"], "error: invalid value for '--log-level': 'loud' is not one of"),
            (["tables", "--format", "html"], "error: invalid value for '--format': 'html' is not one of"),
            (["validate-config", "--nonsense"], "error: no such option"),
        ],
    )
    def test_a_wrong_command_line_exits_2(self, run, arguments, said):
        done = run(*arguments)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert "Usage:" not in done.err

    def test_without_a_command_it_shows_help(self, run):
        done = run()
        assert done.code == 2
        assert "Commands:" in done.out + done.err


class TestValidate:
    def test_a_valid_spec(self, run, spec):
        done = run("validate-config", spec.name)
        assert (done.code, done.err) == (0, "")
        assert done.out == "shop (acme) -> warehouse\nvalid: 1 source, 1 destination\n"

    def test_the_spec_of_this_directory(self, run, spec):
        assert run("validate-config").code == 0

    def test_the_spec_above_counts_from_its_own_directory(self, run, work, spec, monkeypatch):
        (work / ".git").mkdir()
        (work / "key").write_text("x")
        spec.write_text(SPEC.replace("url: x", 'url: "${file:key}"'))
        below = work / "a" / "b"
        below.mkdir(parents=True)
        monkeypatch.chdir(below)
        assert run("validate-config").code == 0

    def test_no_spec_anywhere(self, run):
        done = run("validate-config")
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: there is no strandline.yml here\nhint: ")

    def test_every_problem_with_its_line_a_caret_and_a_hint(self, run, spec):
        spec.write_text(SPEC.replace("tables:", "tabels:").replace("url: x", "url: x, port: many"))
        done = run("validate-config", spec.name)
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            "error: unknown field 'tabels'\n"
            "  strandline.yml:7:3\n"
            "  |   tabels: [orders]\n"
            "  |   ^\n"
            "hint: did you mean 'tables'?\n"
            "\n"
            "error: `spec.spec.port`: should be a valid integer, unable to parse string as an integer\n"
            "  strandline.yml:8:24\n"
            "  |   spec: {url: x, port: many}\n"
            "  |                        ^\n"
            "\n"
            "error: the spec has 2 problems; nothing was touched\n"
        )

    def test_the_caret_stands_below_wide_characters(self, run, spec):
        spec.write_text(SPEC.replace("url: x", "label: 日本, ulr: x"))
        lines = run("validate-config", spec.name).err.splitlines()
        assert "  |   spec: {label: 日本, ulr: x}" in lines
        assert "  | " + " " * (len("  spec: {label: , ") + 4) + "^" in lines

    def test_a_spec_cannot_write_to_the_terminal(self, run, spec):
        spec.write_text(SPEC.replace("path: acme", 'path: "\\e[2Jacme\\x9b"'))
        done = run("validate-config", spec.name)
        assert done.code == 2
        assert "\\x1b[2Jacme\\x9b" in done.err
        assert "\x1b" not in done.err
        assert "\x9b" not in done.err

    @pytest.mark.parametrize(
        ("source", "destination"), [("acme", "store"), ("sqlite", "duckdb"), ("files", "duckdb"), ("test", "memory")]
    )
    def test_neither_arrow_nor_a_driver_is_imported(self, process, spec, source, destination):
        settings = {"acme": "{url: x}", "test": "{rows: 1}"}.get(source, "{path: x}")
        text = SPEC.replace("acme", source).replace("{url: x}", settings).replace("store", destination)
        spec.write_text(text.replace(", spec: {path: x}", "") if destination == "memory" else text)
        script = (
            "import sys\nfrom strandline.cli import main\n"
            "try:\n    main(['validate-config'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
            "print(sorted({'pyarrow', 'numpy', 'duckdb', 'sqlite3', 'psycopg', 'rich'} & sys.modules.keys()))\n"
        )
        done = process(script=script)
        assert done.err == ""
        assert done.out.splitlines()[-1] == "[]"


class TestErrors:
    @pytest.fixture
    def broken(self, spec):
        """A source with a bug, whose message holds a secret."""
        spec.write_text(SPEC.replace("url: x", 'url: broken, label: "${CANARY_TOKEN}"'))
        return {"CANARY_TOKEN": "canary-canary"}

    def test_a_bug_is_one_line_a_hint_and_70(self, run, broken):
        done = run("tables", **broken)
        assert (done.code, done.out) == (70, "")
        assert done.err == (
            "error: this is a bug in Strandline: KeyError: 'no such place: ***'\n"
            "hint: run it again with --debug, and report the bug with what it prints\n"
        )

    @pytest.mark.parametrize("arguments", [("--debug", "tables"), ("tables", "--debug")])
    def test_a_traceback_only_with_debug_and_without_secrets(self, run, broken, arguments):
        done = run(*arguments, **broken)
        assert done.code == 70
        assert "Traceback (most recent call last)" in done.err
        assert "KeyError: 'no such place: ***'" in done.err
        assert "canary" not in done.err

    def test_errors_as_json_are_one_event_a_line(self, run, broken):
        done = run("tables", "--log-format", "json", "--debug", **broken)
        events = [json.loads(line) for line in done.err.splitlines()]
        assert {"level": "error", "message": "this is a bug in Strandline: KeyError: 'no such place: ***'"}.items() <= (
            events[-2].items()
        )
        assert "Traceback" in events[-1]["exception"]
        assert "canary" not in done.err

    def test_problems_as_json_have_their_place(self, run, spec):
        spec.write_text(SPEC.replace("tables:", "tabels:"))
        done = run("--log-format", "json", "validate-config")
        first, last = [json.loads(line) for line in done.err.splitlines()]
        assert (first["where"], first["hint"]) == ("strandline.yml:7:3", "did you mean 'tables'?")
        assert (done.code, last["message"]) == (2, "the spec has a problem; nothing was touched")

    def test_a_plugin_that_uses_cloudquerys_fields_is_told_so_quietly(self, run, spec):
        spec.write_text(SPEC.replace("tables:", "scheduler: dfs\n  tables:"))
        assert "warning: strandline.yml:7:3: `scheduler` is ignored" in run("validate-config").err
        assert run("validate-config", "--log-level", "error").err == ""

    def test_an_interrupt_exits_130(self, process):
        script = (
            "from unittest.mock import patch\nfrom strandline.cli import main, validate\n"
            "with patch.object(validate, 'load_config', side_effect=KeyboardInterrupt):\n    main(['validate-config'])\n"
        )
        done = process(script=script)
        assert (done.code, done.err) == (130, "\nerror: interrupted\n")

    def test_a_bug_in_a_thread_shows_no_secret(self, process):
        script = (
            "import sys, threading\nfrom strandline.cli import main\nfrom strandline.logs import register_secret\n"
            "sys.argv = ['strandline', '--version']\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "register_secret('canary-canary')\n"
            "thread = threading.Thread(target=lambda: {}['canary-canary'])\nthread.start()\nthread.join()\n"
            "raise ValueError('canary-canary')\n"
        )
        done = process(script=script)
        assert done.code != 0
        assert "KeyError: '***'" in done.err
        assert "ValueError: ***" in done.err
        assert "canary" not in done.err
        assert "Traceback" not in done.err

    def test_a_bug_in_a_process_is_70_and_a_traceback_only_with_debug(self, process, broken, site):
        environment = os.environ | broken | {"PYTHONPATH": str(site)}
        plain, debug = process("tables", env=environment), process("tables", "--debug", env=environment)
        assert (plain.code, debug.code) == (70, 70)
        assert ("Traceback" in plain.err, "Traceback" in debug.err) == (False, True)
        assert "canary" not in plain.err + debug.err

    def test_a_full_disk_is_an_error(self, process):
        with Path("/dev/full").open("w") as full:
            done = process("plugin", "list", stdout=full)
        assert done.code == 1
        assert done.err.startswith("error: stdout cannot be written: No space left on device\n")

    def test_a_reader_that_has_seen_enough_is_no_error(self, process):
        reading, writing = os.pipe()
        os.close(reading)
        done = process("plugin", "list", stdout=writing)
        os.close(writing)
        assert (done.code, done.err) == (141, "")

    @pytest.mark.parametrize(("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
    def test_color_on_a_terminal_unless_no_color(self, process, environment, colored):
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        terminal, inner = os.openpty()
        process("nonsense", stderr=inner, env=kept | {"TERM": "xterm"} | environment)
        os.close(inner)
        said = os.read(terminal, 4096).decode()
        os.close(terminal)
        assert "no such command 'nonsense'" in said
        assert ("\x1b[" in said) is colored


class TestTables:
    def test_a_list(self, run, spec):
        done = run("tables")
        assert (done.code, done.err) == (0, "")
        assert done.out == (
            "shop: 3 tables\n"
            "  TABLE         INCREMENTAL  PRIMARY KEY  GUARANTEE\n"
            "  audit         -            -            full read\n"
            "  orders        at           id           full read\n"
            "    Lines/../x  -            id           full read\n"
        )

    def test_the_tables_of_the_spec(self, run, spec):
        assert [line.split()[0] for line in run("tables", "--filter", "spec").out.splitlines()] == [
            "shop:",
            "TABLE",
            "orders",
        ]

    def test_a_glob_that_matches_nothing_exits_2(self, run, spec):
        spec.write_text(SPEC.replace("[orders]", "[order]"))
        done = run("tables", "--filter", "spec")
        assert (done.code, done.err) == (2, "error: `tables`: no table matches 'order'\nhint: did you mean 'orders'?\n")

    def test_markdown(self, run, work, spec):
        done = run("tables", "--format", "markdown", "--output-dir", "docs")
        assert (done.code, done.out) == (0, "shop: docs/shop\n")
        folder = work / "docs" / "shop"
        assert sorted(path.name for path in folder.iterdir()) == [
            "%4cines%2f..%2fx.md",
            "README.md",
            "audit.md",
            "orders.md",
        ]
        assert (folder / "README.md").read_text() == (
            "# Source Plugin: acme\n\n## Tables\n\n- [audit](audit.md)\n- [orders](orders.md) (Incremental)\n"
            "  - [Lines/../x](%254cines%252f..%252fx.md)"
        )

    def test_json(self, run, work, spec):
        assert run("tables", "--format", "json").code == 0
        tables = json.loads((work / "cq-docs" / "shop" / "__tables.json").read_text())
        assert [table["name"] for table in tables] == ["audit", "orders"]
        assert tables[1]["is_incremental"] is True

    def test_a_source_cannot_name_its_way_out(self, run, work, spec):
        spec.write_text(SPEC.replace("name: shop", "name: ../../shop"))
        assert run("tables", "--format", "json", "--output-dir", "docs").code == 0
        assert [path.name for path in (work / "docs").iterdir()] == ["%2e.%2f..%2fshop"]

    def test_a_directory_that_cannot_be_written(self, run, work, spec):
        (work / "docs").write_text("")
        done = run("tables", "--format", "json", "--output-dir", "docs/below")
        assert (done.code, done.out) == (2, "")
        assert "docs/below/shop: Not a directory\nhint: choose another --output-dir" in done.err


class TestPlugins:
    def test_built_ins_and_others_are_listed(self, run):
        rows = [tuple(line.split()) for line in run("plugin", "list").out.splitlines()]
        assert rows[0] == ("KIND", "NAME", "PACKAGE", "VERSION")
        assert ("source", "acme", "acme-strandline", "3.1") in rows
        assert ("state_backend", "local", "strandline", __version__) in rows


class TestSchema:
    @pytest.fixture
    def schema(self, run):
        done = run("schema")
        assert done.code == 0
        return json.loads(done.out)

    def test_it_has_the_settings_of_each_plugin(self, schema):
        source = schema["$defs"]["SourceSpec"]
        (then,) = [
            rule["then"]
            for rule in source["allOf"]
            if "acme" in rule["if"]["properties"].get("path", {}).get("enum", [])
        ]
        name = then["properties"]["spec"]["$ref"].rpartition("/")[2]
        settings = schema["$defs"][name]
        assert settings["required"] == ["url"]
        assert settings["properties"]["label"]["description"] == "Any text."
        assert settings["additionalProperties"] is False

    def test_a_number_may_be_a_variable(self, schema):
        concurrency = schema["$defs"]["SourceSpec"]["properties"]["concurrency"]
        assert concurrency["anyOf"] == [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": r"\$\{[^}]+\}"},
        ]
        assert concurrency["default"] == 8

    def test_every_reference_leads_somewhere(self, schema):
        def references(value):
            if isinstance(value, dict):
                yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
                value = list(value.values())
            if isinstance(value, list):
                for item in value:
                    yield from references(item)

        found = set(references(schema))
        assert found
        assert {reference.removeprefix("#/$defs/") for reference in found} <= schema["$defs"].keys()

    def test_a_plugin_that_cannot_be_imported_is_left_out(self, run):
        done = run("schema")
        assert done.code == 0
        assert "warning: the settings of source 'absent' are left out" in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell):
    done = run("completion", shell)
    assert done.code == 0
    assert "_STRANDLINE_COMPLETE" in done.out


def test_completion_knows_the_commands(run):
    done = run(_STRANDLINE_COMPLETE="bash_complete", COMP_WORDS="strandline val", COMP_CWORD="1")
    assert "validate-config" in done.out


def test_every_command_module_is_where_the_group_looks():
    for module, _ in _COMMANDS.values():
        assert isinstance(importlib.import_module(f"strandline.cli.{module}").command, click.Command)
