"""Neither a password nor a piece of it is ever said or written, however it stands in a connection string."""

import itertools
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from strandline import logs
from strandline.connection_string import understood
from strandline.logs import redact, register_secret

PASSWORDS = [
    "zebra quokka",
    "zebra/quokka",
    "zeb/qok",
    "zebra@quokka",
    "zebra:quokka",
    "zebra?quokka=lynx",
    "zebra#quokka",
    "zebra%quokka",
    "zebra%20quokka",
    "zebra'quokka",
    'zebra"quokka',
    "zebra\\quokka",
    "zebra&quokka",
    "zebra;quokka=lynx",
    "zebra=quokka",
    "zébra/quökka",
    "$zebra$quokka",
    "{zebra}[quokka]",
    "zeb",
    "zebra-quokka_lynx",
    " zebra  quokka ",
    "'zebra quokka'",
    "zebra, quokka",
    "zebra\tquokka\nlynx",
    "zebra\u202equokka\x1blynx",
    "1234/zebra",
    "zebra quokka/lynx@okapi:tapir?numbat=1#dingo",
    "quokka://zebra:lynx@okapi",
]
FORMS = {
    "a URL": lambda password: f"postgresql://me:{password}@127.0.0.1:1/shop",
    "a URL, encoded": lambda password: f"postgres://me:{quote(password, safe='')}@127.0.0.1:1/shop?sslmode=disable",
    "a URL of an at sign": lambda password: f"postgresql://me@corp:{password}@127.0.0.1:1/shop",
    "a query": lambda password: f"postgresql://127.0.0.1:1/shop?user=me&password={password}&sslmode=disable",
    "a query, encoded": lambda password: f"postgresql://me@127.0.0.1:1/shop?password={quote(password, safe='')}",
    "settings": lambda password: f"host=127.0.0.1 port=1 user=me password={password} dbname=shop",
    "settings, at their end": lambda password: f"host = 127.0.0.1 port = 1 dbname = shop password = {password}",
    "settings, quoted": lambda password: "host=127.0.0.1 port=1 password='{}' dbname=shop".format(
        password.replace("\\", r"\\").replace("'", r"\'")
    ),
    "settings, half quoted": lambda password: f"host=127.0.0.1 port=1 dbname=shop password='{password}",
    "settings, escaped": lambda password: "host=127.0.0.1 port=1 password={} dbname=shop".format(
        re.sub(r"([\\'\s])", r"\\\1", password)
    ),
    "settings behind commas": lambda password: f"host=127.0.0.1,port=1,dbname=shop,password={password}",
}
ALL = [
    pytest.param(form, password, id=f"{form}: {password!r}") for form, password in itertools.product(FORMS, PASSWORDS)
]
NASTIEST = [PASSWORDS[at] for at in (0, 2, 3, 7, 9, 13, 18, 26)]


def words(password):
    """It, and every piece of it of three characters or more, split at any of its special characters."""
    found = {password.strip(), *re.split(r"\W+", password), *re.split(r"[\W_]+", password)}
    return {word for word in found if len(word) >= 3}


def left_in(text, password):
    """What of a password is in a text, also where it is encoded."""
    forms = {form for word in words(password) for form in (word, quote(word, safe=""), json.dumps(word)[1:-1])}
    return sorted(form for form in forms if form in text)


@pytest.mark.parametrize(("form", "password"), ALL)
def test_what_a_driver_may_say_is_masked(form, password):
    connection = FORMS[form](password)
    register_secret(connection)
    quoted = [f'"{word}"' for word in words(password)]
    texts = [connection, quote(connection), repr(connection), json.dumps(connection), f'wrong: "{password}"', *quoted]
    texts += [f"--from={connection}", f"url: {connection}"] if "\n" not in connection else []
    try:
        conninfo_to_dict(connection)
    except psycopg.Error as error:
        texts.append(str(error))
    assert [text for text in map(redact, texts) if left_in(text, password)] == []
    assert (
        redact("connection to server at 127.0.0.1, port 1 failed") == "connection to server at 127.0.0.1, port 1 failed"
    )


@pytest.mark.parametrize(("form", "password"), ALL)
def test_what_is_understood_is_understood_as_by_libpq(form, password):
    found = understood(FORMS[form](password))
    if found is not None:
        assert {name: text for name, text in found.items() if text} == conninfo_to_dict(FORMS[form](password))
        assert (found["host"], found["dbname"]) == ("127.0.0.1", "shop")


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql://me@db.internal:5432/shop",
        "postgresql://",
        "postgres:///shop?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/shop",
        "postgresql://one:5432,two,[::1]:5433/shop?target_session_attrs=read-write",
        "postgresql://me:p%40ss@db/shop?options=-c%20search_path%3Dsales&application_name=x",
        "host=/run/postgresql dbname=shop",
        "service=shop",
        r"host=db user='me' password='it\'s' options='-c geqo=off'",
    ],
)
def test_usual_connection_strings_are_understood(connection):
    assert understood(connection) == conninfo_to_dict(connection)


def sides(connection):
    """Specs with the connection string as a source, and as a destination."""
    server, sqlite = {"connection_string": connection}, {"path": "shop.db"}
    usual = {"name": "shop", "tables": ["*"], "destinations": ["copy"]}
    yield (
        ("source", usual | {"path": "postgresql", "spec": server}),
        ("destination", {"name": "copy", "path": "sqlite", "spec": {"path": "copy.db"}}),
    )
    yield (
        ("source", usual | {"path": "sqlite", "spec": sqlite}),
        ("destination", {"name": "copy", "path": "postgresql", "spec": server}),
    )


def written(directory):
    """Everything that is in files, but for the spec and the databases that the test has made."""
    mine = {"strandline.yml", "shop.db"}
    return "".join(
        path.read_bytes().decode("utf-8", "replace")
        for path in directory.rglob("*")
        if path.is_file() and path.name not in mine
    )


@pytest.mark.parametrize("form", FORMS)
class TestEverywhere:
    @pytest.mark.parametrize("arguments", [(), ("--debug",), ("--debug", "--log-format", "json")], ids=len)
    def test_a_sync(self, cli, form, arguments):
        cli.sqlite("shop.db", "orders")
        for password in NASTIEST:
            for documents in sides(FORMS[form](password)):
                cli.spec(*documents)
                done = cli("sync", "--summary-location", "summary.jsonl", *arguments)
                assert done.exit_code in {1, 2, 5}
                assert left_in(done.output + written(cli.directory), password) == []
        assert Path(".cq/runs/runs.jsonl").exists()

    @pytest.mark.parametrize("command", ["doctor", "plan", "tables", "test-connection", "state list"])
    def test_other_commands(self, cli, form, command):
        cli.sqlite("shop.db", "orders")
        for password in NASTIEST:
            for documents in sides(FORMS[form](password)):
                cli.spec(*documents)
                done = cli(*command.split(), "--debug")
                assert left_in(done.output + written(cli.directory), password) == []

    def test_a_spec_with_a_mistake_on_its_line(self, cli, form):
        for password in NASTIEST:
            text = FORMS[form](password)
            for line in (f"connection_string: [{json.dumps(text)}]", f"connection_string: {text}", f'dsn: "{text}'):
                head = "kind: source\nspec:\n  name: shop\n  path: postgresql\n  destinations: [w]\n  spec:\n    "
                Path("strandline.yml").write_text(head + line + "\n", "utf-8")
                done = cli("validate-config", "--debug")
                assert done.exit_code == 2
                assert left_in(done.output, password) == []

    @pytest.mark.parametrize("side", ["--from", "--to"])
    def test_a_spec_that_init_writes_has_a_variable(self, cli, form, side):
        cli.sqlite("shop.db", "orders")
        other = {"--from": ("--to", "w.duckdb"), "--to": ("--from", "shop.db")}[side]
        for password in NASTIEST:
            Path("strandline.yml").unlink(missing_ok=True)
            logs._known = logs._Known()  # another password may have been a part of this string
            connection = FORMS[form](password)
            done = cli("init", f"{side}={connection}", *other, "--debug")
            spec = Path("strandline.yml").read_text("utf-8") if Path("strandline.yml").exists() else ""
            assert left_in(done.output + spec + written(cli.directory), password) == []
            if spec:
                assert "connection_string: ${SHOP_URL}\n" in re.sub(r"\s+# .*", "", spec)
                assert "export SHOP_URL=" in done.stdout
                assert "\n  name: shop\n" in spec
            else:
                assert done.exit_code in {2, 5}

    def test_as_something_else_on_the_command_line(self, cli, form):
        cli.shop("orders")
        for password in NASTIEST:
            connection = FORMS[form](password)
            for arguments in (
                (connection,),
                ("sync", connection),
                ("plan", "--select", connection),
                ("sync", f"--x={connection}"),
            ):
                assert left_in(cli(*arguments).output, password) == []


@pytest.mark.parametrize("debug", [(), ("--debug",)])
@pytest.mark.parametrize(
    "connection",
    [
        "zebra",
        "zebra quokka",
        "zebra=quokka lynx",
        "host=127.0.0.1 port=1 zebra",
        "host=127.0.0.1 port=1 'zebra",
        "postgresql://127.0.0.1:1/shop?zebra=1",
        "postgresql://127.0.0.1:1/shop?user=me&zebra",
        "postgresql://127.0.0.1:zebra/shop",
    ],
)
def test_of_what_is_not_understood_the_driver_is_not_heard(cli, connection, debug):
    cli.sqlite("shop.db", "orders")
    for documents in sides(connection):
        cli.spec(*documents)
        done = cli("sync", *debug)
        assert done.exit_code == 2
        assert left_in(done.output + written(cli.directory), "zebra quokka lynx") == []
        assert "%40 for @" in re.sub(r"\s+", " ", done.stderr)


@pytest.mark.parametrize("shown", [3, 5, 7, 9])
def test_a_line_that_is_cut_shows_no_beginning_of_a_secret(cli, shown):
    head = "kind: source\nspec:\n  name: shop\n  path: postgresql\n  destinations: [w]\n  spec:\n"
    key = "    connection_string: "
    Path("strandline.yml").write_text(f"{head}{key:<{199 - shown}}[zebraquokka]\n", "utf-8")
    done = cli("validate-config")
    assert done.exit_code == 2
    assert "connection_string" in done.stderr
    assert "zeb" not in done.stderr


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:zebra",
        "postgresql://me:zebra/quokka",
        "postgresql:/me:zebra@quokka",
        "mysql://me:zebra quokka@127.0.0.1/shop",
        "me:zebra quokka@127.0.0.1/shop",
        "sqlite://me:zebra@quokka/shop.db",
        "duckdb:///me:zebra@quokka/w.duckdb",
        "zebra quokka = 1",
        "user=me password=zebra quokka",
        "password=zebra quokka host=127.0.0.1",
    ],
)
@pytest.mark.parametrize("side", ["--from", "--to"])
def test_what_is_not_understood_is_not_said(cli, uri, side):
    cli.sqlite("shop.db", "orders")
    other = {"--from": ("--to", "w.duckdb"), "--to": ("--from", "shop.db")}[side]
    done = cli("init", side, uri, *other, "--debug")
    assert done.exit_code == 2
    assert left_in(done.output + written(cli.directory), "zebra quokka") == []
    assert not Path("strandline.yml").exists()


def test_names_of_connectors_come_from_the_database_or_the_host(cli):
    cli.sqlite("shop.db", "orders")
    for at, (uri, name) in enumerate(
        [
            ("postgresql://me:zebra@127.0.0.1:1/ware-house?sslmode=disable", "ware-house"),
            ("postgresql://me:zebra@db.internal", "db_internal"),
            ("host=db.internal password='ze bra' user=me", "db_internal"),
            ("host=db.internal password='ze bra' dbname=w", "w"),
        ]
    ):
        done = cli("init", "--from", "shop.db", "--to", uri, "--output", f"{at}.yml")
        assert done.exit_code == 0, done.output
        assert f"\n  name: {name}\n" in Path(f"{at}.yml").read_text("utf-8")
    assert "export W_URL='host=db.internal dbname=w password=***'" in done.stdout


def test_a_spec_of_settings_works_with_its_variable(cli, postgresql):
    settings = conninfo_to_dict(postgresql)
    connection = " ".join(f"{name}='{text}'" for name, text in settings.items()) + r" password='zebra\' quokka'"
    with psycopg.connect(postgresql, autocommit=True) as server:
        server.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        server.execute("INSERT INTO orders VALUES (1)")
    assert cli("init", "--from", connection, "--to", "copy.sqlite", "--name", "web").exit_code == 0
    assert left_in(Path("strandline.yml").read_text("utf-8"), "zebra' quokka") == []
    assert cli("sync", WEB_URL=connection).exit_code == 0
    with closing(sqlite3.connect("copy.sqlite")) as file:
        assert file.execute("SELECT id FROM orders").fetchall() == [(1,)]
