"""The spec as a whole: what it may say, what comes out of it, and every error at its place."""

import contextlib
import logging
import pickle
import secrets
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import third_party
from pydantic import SecretStr

from strandline import logs, spec
from strandline.destination import MigrateMode, WriteMode
from strandline.errors import UsageError
from strandline.spec import Batch, DestinationBackend, DestinationSpec, SourceSpec, discover
from strandline.spec.models import CLOUDQUERY_FIELDS

STORE = """
---
kind: destination
spec: {name: warehouse, path: store, spec: {path: x}}
"""


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    """The plugins ``acme``, ``store`` and ``log``, installed."""
    site = tmp_path / "site"
    third_party.install(site)
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in [name for name in sys.modules if name.startswith("acme_strandline")]:
        del sys.modules[name]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a spec from a text."""
    monkeypatch.chdir(tmp_path)

    def load(text, **environment):
        (tmp_path / "s.yml").write_text(text)
        return spec.load(["s.yml"], environment=environment, now=datetime(2026, 1, 1, tzinfo=UTC))

    return load


@pytest.fixture
def problems(load):
    """What is wrong with a spec: place and message of each problem."""

    def problems(text, **environment):
        with pytest.raises(UsageError) as caught:
            load(text, **environment)
        assert caught.value.exit_code == 2
        return [(problem.where.removeprefix("s.yml:"), problem.message) for problem in caught.value.problems]

    return problems


def source(more="", own="{url: x}", name="shop"):
    return f"kind: source\nspec:\n  name: {name}\n  path: acme\n  destinations: [warehouse]\n  spec: {own}\n{more}"


def test_a_source_and_a_destination(load):
    config = load(source() + STORE)
    (shop,), (warehouse,) = config.sources, config.destinations
    assert (shop.name, shop.plugin, shop.tables, shop.skip_tables) == ("shop", "acme", ["*"], [])
    assert (shop.destinations, shop.backend, shop.concurrency) == (["warehouse"], "local", 8)
    assert shop.skip_dependent_tables is True
    assert shop.settings.url == "x"
    assert shop.backend_settings.path == ".cq/state"
    assert shop.open().spec.port == 5432
    assert (warehouse.write_mode, warehouse.migrate_mode) == (WriteMode.OVERWRITE_DELETE_STALE, MigrateMode.SAFE)
    assert (warehouse.pk_mode, warehouse.batch) == ("default", Batch())
    assert warehouse.open().spec.path == "x"
    assert config.destination("warehouse") is warehouse


def test_everything_that_can_be_said(load):
    config = load(
        """
kind: source
spec:
  name: shop
  path: cloudquery/acme
  registry: cloudquery
  version: v1.2.3
  tables: [a*, b]
  skip_tables: [ab]
  skip_dependent_tables: false
  destinations: [warehouse]
  backend: none
  concurrency: 3
  spec: {url: x, tables: {orders: {incremental_key: at, start: 2024-01-01}}}
---
kind: destination
spec:
  name: warehouse
  path: store
  write_mode: append
  migrate_mode: forced
  pk_mode: cq-id-only
  spec: {path: x, batch_size: 100, batch_size_bytes: 1048576, batch_timeout: 1m30s}
"""
    )
    (shop,), (warehouse,) = config.sources, config.destinations
    assert (shop.plugin, shop.skip_dependent_tables, shop.backend, shop.concurrency) == ("acme", False, "none", 3)
    assert shop.settings.tables["orders"].start == "2024-01-01"
    assert (warehouse.write_mode, warehouse.migrate_mode) == (WriteMode.APPEND, MigrateMode.FORCED)
    assert warehouse.pk_mode == "cq-id-only"
    assert warehouse.batch == Batch(batch_size=100, batch_size_bytes=1 << 20, batch_timeout=90)


def test_specs_can_be_pickled(load):
    config = load(source() + STORE)
    assert config.sources[0].settings.url == "x"
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_destination_that_cannot_overwrite_appends_by_default(load):
    config = load(source() + STORE.replace("store", "log"))
    assert config.destinations[0].write_mode is WriteMode.APPEND


def test_names_are_any_text(load):
    config = load(source(name='"a/../ü 🚢.\\n"') + STORE)
    assert config.sources[0].name == "a/../ü 🚢.\n"


def test_a_source_and_a_destination_may_share_a_name(load):
    assert load(source(name="warehouse") + STORE)


class TestVariables:
    def test_numbers_come_out_of_texts(self, load):
        config = load(
            source(own='{url: x, port: "${P}", ratio: "${R}", fast: "${F}"}') + STORE, P="99", R="0.25", F="true"
        )
        settings = config.sources[0].settings
        assert (settings.port, settings.ratio, settings.fast) == (99, 0.25, True)

    def test_a_list_does_not_come_out_of_a_text(self, problems):
        text = source("  tables: ${T}\n") + STORE
        assert problems(text, T='["a", "b"]') == [("7:11", "`spec.tables`: should be a valid list")]

    def test_an_unset_variable_is_said_once_at_its_place(self, problems):
        text = source(own='{url: x, port: "${PORT}"}') + STORE
        assert problems(text) == [("6:24", "the environment variable PORT is not set")]

    def test_a_number_that_is_none_is_said_without_its_value(self, problems):
        ((where, message),) = problems(source(own='{url: x, port: "${P}"}') + STORE, P="canary-canary")
        assert where == "6:24"
        assert "canary" not in message


class TestProblems:
    def test_all_are_reported_at_once_in_their_order(self, problems):
        text = """kind: source
spec:
  name: shop
  path: acmee
  tabels: ["*"]
  destinations: [warehuose]
  concurrency: many
---
kind: sorce
---
kind: destination
spec:
  name: warehouse
  path: store
  write_mode: apend
  spec: {paht: x}
"""
        assert problems(text) == [
            ("4:9", "there is no source plugin 'acmee'"),
            ("5:3", "unknown field 'tabels'"),
            ("6:18", "unknown destination 'warehuose'"),
            ("7:16", "`spec.concurrency`: should be a valid integer, unable to parse string as an integer"),
            ("9:7", "unknown kind 'sorce'"),
            ("15:15", "`spec.write_mode`: should be 'append', 'overwrite' or 'overwrite-delete-stale'"),
            ("16:3", "missing field 'path' in `spec.spec`"),
            ("16:10", "unknown field 'paht'"),
        ]

    @pytest.mark.parametrize(
        ("wrong", "hint"),
        [
            (source().replace("acme", "acne"), "did you mean 'acme'?"),
            (source().replace("[warehouse]", "[werehouse]"), "did you mean 'warehouse'?"),
            (source("  skip_table: [x]\n"), "did you mean 'skip_tables'?"),
            (source("  backend: lokal\n"), "did you mean 'local'?"),
            (source(own="{url: x, mode: quikc}"), "did you mean 'quick'?"),
            (source(own="{url: x, tables: {orders: {incrementalkey: at}}}"), "did you mean 'incremental_key'?"),
            (source().replace("kind: source", "kind: sources"), "did you mean 'source'?"),
            (source().replace("kind: source", "kinds: source"), "did you mean 'kind'?"),
            (source(own="{url: x, label: 012}"), 'put it in quotes: "012"'),
            (source("  tables: a*\n"), "write a list: [one, two]"),
        ],
    )
    def test_what_was_meant_is_guessed(self, load, wrong, hint):
        with pytest.raises(UsageError) as caught:
            load(wrong + STORE)
        assert hint in [problem.hint for problem in caught.value.problems]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", [("", "there is no document of kind source")]),
            ("# nothing\n---\n---\n", [("", "there is no document of kind source")]),
            ("- a\n", [("1:1", "a document is a mapping with `kind` and `spec`")]),
            ("text\n", [("1:1", "a document is a mapping with `kind` and `spec`")]),
            ("spec: {}\n", [("1:1", "missing field 'kind'")]),
            ("kind: source\n", [("1:1", "missing field 'spec'")]),
            ("kind: source\nspec: [1]\n", [("2:7", "`spec`: should be a mapping")]),
            ("kind: [source]\nspec: {}\n", [("1:7", "unknown kind ''")]),
            ("kind: transformer\nspec: {}\n", [("1:7", "transformers are not supported")]),
        ],
    )
    def test_documents_that_are_none(self, problems, text, expected):
        assert problems(text)[: len(expected)] == expected

    def test_missing_fields(self, problems):
        assert problems("kind: source\nspec: {concurrency: 1}\n") == [
            ("2:1", "missing field 'name' in `spec`"),
            ("2:1", "missing field 'path' in `spec`"),
            ("2:1", "missing field 'destinations' in `spec`"),
        ]

    def test_a_plugins_settings_may_be_missing_altogether(self, problems):
        text = source().replace("  spec: {url: x}\n", "") + STORE
        assert problems(text) == [("2:1", "missing field 'url' in `spec.spec`")]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ("  concurrency: 0\n", "`spec.concurrency`: should be greater than or equal to 1"),
            ("  tables: []\n", "`spec.tables`: nothing is in this list"),
            ("  skip_tables: [1]\n", "`spec.skip_tables[0]`: should be a valid string"),
            ("  registry: docker\n", "`registry: docker` is not supported yet"),
            ("  backend_spec: {paht: x}\n", "unknown field 'paht'"),
            ("  backend: destination\n  backend_spec: {destination: wearhouse}\n", "unknown destination 'wearhouse'"),
        ],
    )
    def test_what_a_source_cannot_say(self, problems, more, message):
        assert [text for _, text in problems(source(more) + STORE)] == [message]

    @pytest.mark.parametrize(
        ("name", "said"), [("''", "at least 1 character"), ("x" * 201, "at most 200 characters"), ("7", "valid string")]
    )
    def test_names_that_cannot_be(self, problems, name, said):
        ((where, message),) = problems(source(name=name) + STORE)
        assert where == "3:9"
        assert said in message

    def test_a_name_stands_once(self, problems):
        text = source() + "---\n" + source() + STORE + STORE
        assert problems(text) == [
            ("10:9", "a second source named 'shop'"),
            ("21:14", "a second destination named 'warehouse'"),
        ]

    def test_a_destination_is_named_once(self, problems):
        text = source().replace("[warehouse]", "[warehouse, warehouse]") + STORE
        assert problems(text) == [("5:29", "'warehouse' stands here twice")]

    def test_a_mode_that_the_destination_has_not(self, problems):
        text = source() + STORE.replace("store", "log").replace("spec: {name", "spec: {write_mode: overwrite, name")
        assert problems(text) == [("10:20", "log cannot 'overwrite'")]

    def test_a_plugin_that_cannot_be_imported(self, problems):
        ((where, message),) = problems(source().replace("acme", "absent") + STORE)
        assert where == "4:9"
        assert message.startswith("the source plugin 'absent' cannot be imported: No module named 'acme_absent'")

    def test_a_plugin_of_cloudquery_that_is_not_built_in(self, load):
        with pytest.raises(UsageError) as caught:
            load(source("  registry: cloudquery\n").replace("acme", "cloudquery/aws") + STORE)
        (problem,) = caught.value.problems
        assert problem.message == "there is no source plugin 'cloudquery/aws'"
        assert "acme" in problem.hint


class TestCloudQuery:
    """A spec that was written for it."""

    def test_fields_without_a_use_are_accepted_and_said(self, load, caplog):
        more = "  scheduler: dfs\n  deterministic_cq_id: true\n  otel_endpoint: x\n  table_concurrency: 0\n"
        with caplog.at_level(logging.WARNING, "strandline"):
            load(source(more) + STORE)
        assert [record.getMessage() for record in caplog.records] == [
            "s.yml:7:3: `scheduler` is ignored: `concurrency` is all there is to choose",
            "s.yml:8:3: `deterministic_cq_id` is ignored: _cq_id is always deterministic",
            "s.yml:9:3: `otel_endpoint` is ignored: no traces are sent",
        ]

    @pytest.mark.parametrize("kind", CLOUDQUERY_FIELDS)
    def test_every_field_of_the_table_is_known(self, problems, load, kind):
        for name, foreign in CLOUDQUERY_FIELDS[kind].items():
            more, store = f"  {name}: x\n", STORE
            if kind == "destination":
                more, store = "", STORE.replace("{name", f"{{{name}: x, name")
            if foreign.action == "refused":
                assert [text for _, text in problems(source(more) + store)] == [f"`{name}` is refused: {foreign.why}"]
            else:
                load(source(more) + store)

    def test_backend_options_keep_the_states_in_a_destination(self, load):
        more = '  backend_options: {table_name: cq_state_shop, connection: "@@plugins.warehouse.connection"}\n'
        shop = load(source(more) + STORE).sources[0]
        assert shop.backend == "destination"
        assert shop.backend_settings == DestinationBackend(destination="warehouse")

    @pytest.mark.parametrize(
        ("options", "place", "message"),
        [
            ("{table_name: t, connection: localhost:7777}", "7:48", "should be @@plugins.NAME.connection"),
            ('{table_name: t, connection: "@@plugins.lake.connection"}', "7:48", "unknown destination 'lake'"),
            ('{connection: "@@plugins.warehouse.connection"}', "7:3", "missing field 'table_name'"),
        ],
    )
    def test_backend_options_are_checked(self, problems, options, place, message):
        found = problems(source(f"  backend_options: {options}\n") + STORE)
        assert [where for where, _ in found] == [place]
        assert message in found[0][1]

    def test_backend_and_backend_options_exclude_each_other(self, problems):
        more = '  backend: local\n  backend_options: {table_name: t, connection: "@@plugins.warehouse.connection"}\n'
        assert problems(source(more) + STORE) == [("7:3", "both `backend` and `backend_options`")]


class TestFiles:
    def test_files_and_directories(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "specs"
        (folder / "below").mkdir(parents=True)
        (folder / "b.yaml").write_text(STORE)
        (folder / "a.yml").write_text(source())
        for other in (".hidden.yml", "note.txt", "below/c.yml"):
            (folder / other).write_text("kind: nonsense")
        config = spec.load(["specs", "specs/a.yml", folder / "b.yaml"])
        assert [one.name for one in (*config.sources, *config.destinations)] == ["shop", "warehouse"]

    def test_problems_name_files_as_the_user_did(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "a.yml").write_text("kind: nonsense\n")
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError) as caught:
            spec.load(["d", "./none.yml", "empty"])
        assert sorted((problem.where, problem.message) for problem in caught.value.problems) == [
            ("d/a.yml:1:7", "unknown kind 'nonsense'"),
            ("empty", "no *.yml or *.yaml in this directory"),
            ("none.yml", "cannot be read: No such file or directory"),
        ]

    def test_the_nearest_spec_up_to_the_root_of_the_repository(self, tmp_path):
        below = tmp_path / "repo" / "a" / "b"
        below.mkdir(parents=True)
        (tmp_path / "repo" / ".git").mkdir()
        (tmp_path / "strandline.yml").touch()
        with pytest.raises(UsageError, match="up to the root of the repository"):
            discover(below)
        (tmp_path / "repo" / "strandline.yml").touch()
        assert discover(below) == tmp_path / "repo" / "strandline.yml"
        (below.parent / "strandline.yml").touch()
        assert discover(below) == below.parent / "strandline.yml"

    def test_outside_a_repository_only_this_directory_counts(self, tmp_path):
        (tmp_path / "strandline.yml").touch()
        (tmp_path / "below").mkdir()
        assert discover(tmp_path) == tmp_path / "strandline.yml"
        with pytest.raises(UsageError, match=r"there is no strandline\.yml here"):
            discover(tmp_path / "below")


class TestSecrets:
    def test_variables_and_secret_fields_are_masked(self, load, tmp_path):
        (tmp_path / "key").write_text("file-canary-1")
        own = '{url: "postgresql://u:url-canary-2@h/x", api_key: "${KEY}", label: "${LABEL}${file:key}"}'
        load(source(own=own) + STORE, KEY="env-canary-3", LABEL="label-canary-4")
        said = logs.redact("file-canary-1 url-canary-2 env-canary-3 label-canary-4 shop warehouse")
        assert said == "*** *** *** *** shop warehouse"

    def test_the_line_of_a_problem_shows_none(self, load):
        own = '{url: "postgresql://u:canary-1@h/x", api_key: "canary-2", prot: 1}'
        with pytest.raises(UsageError) as caught:
            load(source(own=own) + STORE)
        (problem,) = caught.value.problems
        assert problem.message == "unknown field 'prot'"
        assert "canary" not in problem.line
        assert problem.line.startswith("  spec: {url: ")

    def test_a_spec_shows_none(self, load):
        config = load(source("  backend_spec: {path: canary-path}\n", own="{url: x, api_key: canary-key}") + STORE)
        assert "canary" not in repr(config)
        assert config.sources[0].settings.api_key == SecretStr("canary-key")

    def test_settings_that_are_wrong_show_none(self):
        made = SourceSpec(name="shop", path="acme", destinations=["w"], spec={"url": ["canary-url"], "prot": "canary"})
        with pytest.raises(UsageError) as caught:
            made.open()
        assert caught.value.message == (
            "the settings of source 'shop' are wrong: url: Input should be a valid string; "
            "prot: Extra inputs are not permitted"
        )

    @pytest.mark.parametrize("more", ["", ", prot: 1"])
    def test_fields_that_the_plugin_declares_secret_are_masked(self, load, more):
        own = f"{{url: x, tables: {{orders: {{opener: [canary-one]}}}}{more}}}"
        with pytest.raises(UsageError) if more else contextlib.nullcontext():
            load(source(own=own) + STORE)
        assert logs.redact("canary-one") == "***"

    def test_names_from_variables_are_said(self, load):
        document = source("  tables: ['${TABLE}*']\n", name="${NAME}").replace("[warehouse]", "['${TO}']")
        load(
            document + STORE.replace("warehouse", "'${TO}'"), NAME="said-shop-1", TABLE="said-order", TO="said-house-1"
        )
        assert logs.redact("said-shop-1 said-order said-house-1") == "said-shop-1 said-order said-house-1"

    @pytest.mark.parametrize(
        ("name", "own", "more"),
        [
            ("${PASSWORD}", "{url: x}", ""),
            ("'${file:secret.key}'", "{url: x}", ""),
            ("${VALUE}", "{url: '${VALUE}'}", ""),
            ("&name '${VALUE}'", "{url: *name}", ""),
            ("shop", "{url: x}", "  backend_spec: {path: '${VALUE}'}\n"),
            ("shop", "{url: x}", "  nonsense: '${VALUE}'\n"),
            ("shop", "{url: x}", "nonsense: '${VALUE}'\n"),
        ],
    )
    def test_a_variable_that_stands_anywhere_else_is_a_secret_even_in_a_name(self, load, tmp_path, name, own, more):
        canary = secrets.token_hex(12)
        (tmp_path / "secret.key").write_text(canary)
        with contextlib.suppress(UsageError):
            load(source(more, own=own, name=name) + STORE, VALUE=canary, PASSWORD=canary)
        assert logs.redact(f"a {canary} z") == "a *** z"

    def test_keys_of_tables_are_no_secrets(self, load):
        load(source(own="{url: x, tables: {orders: {incremental_key: updated_at}}}") + STORE)
        assert logs.redact("cursor of updated_at") == "cursor of updated_at"


def test_specs_can_be_made_in_python():
    made = DestinationSpec(name="w", path="log", spec={"path": "x", "batch_size": 5})
    assert (made.write_mode, made.batch.batch_size) == (WriteMode.APPEND, 5)
    assert made.open().spec.path == "x"


def test_loading_imports_neither_arrow_nor_a_driver(tmp_path, site):
    (tmp_path / "s.yml").write_text(source() + STORE)
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        f"from strandline.spec import load; load([{str(tmp_path / 's.yml')!r}])\n"
        "print(sorted({'pyarrow', 'duckdb', 'sqlite3', 'psycopg', 'rich', 'numpy'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
