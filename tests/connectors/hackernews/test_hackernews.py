"""Hacker News, played by a server of our own: the suite, kills, holes, errors, and CloudQuery's cursors."""

import json
import threading
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

import strandline as sl
from sampling import SHARE
from strandline.errors import RetryableError, TaskError, UnreachableError
from strandline.message import Checkpoint, Insert
from strandline.plugins import load_plugin
from strandline.reading import Reading
from strandline.testing.kills import KillConformance
from strandline.testing.source import SourceConformance

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FIRST_S = int(NOW.timestamp()) - 1_000


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        api = self.server.api
        name = self.path.removeprefix("/v0/").removesuffix(".json")
        status, body = api.fails.pop(name, None) or (200, json.dumps(api.answer(name)).encode())
        api.asked.append(name)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for header in api.headers.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class HackerNews:
    """Items 1 to ``newest``, one a second; those in ``holes`` are not there yet."""

    def __init__(self):
        self.newest, self.holes, self.fails, self.asked, self.headers = 25, {7, 24}, {}, [], {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.server.api = self
        self.url = f"http://127.0.0.1:{self.server.server_port}/v0"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, name):
        number = int(name.removeprefix("item/")) if name.startswith("item/") else None
        if number is None:
            return self.newest
        return None if number in self.holes or number > self.newest else self.item(number)

    @staticmethod
    def item(number):
        more = {"title": f"item {number}", "kids": [number + 1]} if number % 3 else {"deleted": True, "unheard": [1]}
        return {"id": number, "type": "story", "by": "ann", "time": FIRST_S + number, **more}


@pytest.fixture
def api():
    api = HackerNews()
    yield api
    api.server.shutdown()
    api.server.server_close()


def source(api, **settings):
    cls = load_plugin("source", "hackernews")
    return cls(cls.Spec(**({"url": api.url, "item_concurrency": 4, "start_time": "2023-01-01T00:00:00Z"} | settings)))


def read(api, cursor=None, **settings):
    with closing(source(api, **settings)) as one:
        [task] = one.tasks(one.tables())
        messages = list(one.read(task, Reading(cursor, NOW)))
    ids = [key for message in messages if isinstance(message, Insert) for key in message.batch["id"].to_pylist()]
    return ids, [message.cursor for message in messages if isinstance(message, Checkpoint)][-1]


class TestHackerNews(SourceConformance):
    @pytest.fixture
    def make_source(self, api):
        return lambda: source(api)

    @pytest.fixture
    def change(self, api):
        def change():
            api.newest += 10
            api.holes = {24, 30}

        return change


class TestKilled(KillConformance):
    SHARE = SHARE
    STEPS = 2
    ROWS_MAX = 8

    @pytest.fixture
    def plugins(self, api):
        destination, backend = load_plugin("destination", "sqlite"), load_plugin("state_backend", "local")

        def opened(directory, step):
            api.newest, api.holes = (12, {7, 12}) if step == 0 else (15, {7})
            return (
                source(api, item_concurrency=1),
                destination(destination.Spec(path=str(directory / "w.db"))),
                backend(backend.Spec(path=str(directory / "states"))),
            )

        return opened

    @pytest.fixture
    def rows(self, api):
        def stored(step):
            ids = set(range(1, 13)) - {7, 12} if step == 0 else set(range(1, 16)) - {7}
            items = [api.item(number) for number in ids]
            known = [{name: value for name, value in item.items() if name != "unheard"} for item in items]
            return {"hackernews_items": [item | {"time": datetime.fromtimestamp(item["time"], UTC)} for item in known]}

        return stored


# what is read --------------------------------------------------------------------------------------------------------
def test_ids_without_an_item_are_asked_for_again_until_it_is_there(api):
    ids, cursor = read(api)
    assert ids == [one for one in range(1, 26) if one not in {7, 24}]
    assert cursor == {"shown": "25", "next": 26, "holes": [7, 24]}
    api.holes, api.newest = {7}, 27
    ids, cursor = read(api, cursor)
    assert ids == [24, 26, 27]
    assert cursor["holes"] == [7]
    api.newest = 200_000
    api.answer = lambda name: api.newest if name == "maxitem" else None
    assert read(api, cursor | {"next": 200_001})[1]["holes"] == [], "as old as this it never comes"


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("2026-05-31T23:43:40Z", 20),
        ("2000-01-01", 1),
        ("1 hour ago", 1),
        ("980 seconds ago", 20),
        ("2027-01-01T00:00:00Z", 26),
    ],
)
def test_the_first_sync_begins_at_a_time(api, start, first):
    ids, cursor = read(api, start_time=start)
    assert ids == [one for one in range(first, 26) if one not in {7, 24}]
    api.newest += 1
    assert read(api, cursor, start_time="2027-01-01T00:00:00Z")[0][-1:] == [26], "a cursor comes before it"


def test_a_time_that_is_none_is_refused(api):
    with pytest.raises(ValidationError, match="is no time such as"):
        source(api, start_time="yesterday")


@pytest.mark.parametrize(
    ("fails", "kind", "what"),
    [
        ({"item/9": (500, b"oops")}, RetryableError, "answers 500"),
        ({"item/9": (404, b"")}, TaskError, "answers 404"),
        ({"item/9": (200, b"<html>")}, RetryableError, "no JSON"),
        ({"item/9": (200, b'{"id": 8}')}, TaskError, "not this item"),
        ({"item/9": (200, b'{"id": 9, "time": "x"}')}, TaskError, "as the API documents"),
        ({"maxitem": (200, b'"x"')}, TaskError, "no number"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_no_hole(api, fails, kind, what):
    api.fails.update(fails)
    with pytest.raises(kind, match=what):
        read(api, {"next": 1, "holes": []})


def test_how_long_to_wait_is_taken_from_the_answer_and_a_server_that_is_gone_is_said_so(api):
    api.fails["item/9"], api.headers = (429, b""), {"Retry-After": "12"}
    with pytest.raises(RetryableError) as caught:
        read(api, {"next": 1, "holes": []})
    assert caught.value.after_s == 12
    api.server.server_close()
    with pytest.raises(UnreachableError):
        read(api, url="http://127.0.0.1:9/v0")


# CloudQuery's cursors ------------------------------------------------------------------------------------------------
SPEC = """\
kind: source
spec: {{name: hackernews, path: cloudquery/hackernews, registry: cloudquery, version: v1.0.0, tables: ["*"], destinations: [store],
  spec: {{item_concurrency: 4, start_time: 2023-01-01T00:00:00Z, url: "{url}"}}}}
---
kind: destination
spec: {{name: store, path: {destination}, write_mode: append, spec: {{path: {path}}}}}
"""


@pytest.mark.parametrize(("destination", "path"), [("sqlite", "s.db"), ("files", "lake")])
def test_a_file_of_cloudquerys_is_imported_and_the_sync_goes_on_from_it(
    api, tmp_path, monkeypatch, caplog, destination, path
):
    from click.testing import CliRunner

    from strandline.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "strandline.yml").write_text(SPEC.format(url=api.url, destination=destination, path=path))
    (tmp_path / "hackernews-hackernews_items.json").write_text('{\n  "hackernews": "20"\n}')
    (tmp_path / "other.json").write_text('{"hackernews": "20"}')

    def run(*arguments):
        return CliRunner().invoke(main, ["state", "import", "hackernews", *arguments])

    assert run("other.json").exit_code == 2
    done = run("hackernews-hackernews_items.json")
    assert done.exit_code == 0, done.output
    assert "goes on from 20" in done.output
    report = sl.load("strandline.yml").sync()
    assert report.tasks[0].rows_read == 5
    again = run("hackernews-hackernews_items.json")
    assert again.exit_code == 2
    assert "there is a state already" in caplog.text + again.output
