"""The shipped suites on the plugins, through their entry points."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from strandline.plugins import load_plugin
from strandline.testing.destination import DestinationConformance
from strandline.testing.kills import KillConformance
from strandline.testing.source import SourceConformance
from strandline.testing.state_backend import StateBackendConformance


class TestOneFile(StateBackendConformance):
    @pytest.fixture
    def reopen(self, tmp_path):
        cls = load_plugin("state_backend", "onefile")
        return lambda: cls(cls.Spec(path=str(tmp_path / "states.json")))

    @pytest.fixture
    def backend(self, reopen):
        backend = reopen()
        yield backend
        backend.close()

    @pytest.fixture
    def damage(self, tmp_path):
        def damage(key):
            path = tmp_path / "states.json"
            states = json.loads(path.read_text())
            for stored, commits in states:
                if stored == [key.source, key.task, key.destination]:
                    commits[0][1] = commits[0][1].replace('"epoch"', '"epoch_"', 1)
            path.write_text(json.dumps(states))

        return damage


class TestJSONDirectory(DestinationConformance):
    DRIFT_REFUSED = frozenset({"a whole number becomes a fraction", "a day becomes a moment"})

    @pytest.fixture
    def reopen(self, tmp_path):
        cls = load_plugin("destination", "jsondir")
        return lambda: cls(cls.Spec(path=str(tmp_path / "rows")))

    @pytest.fixture
    def destination(self, reopen):
        destination = reopen()
        yield destination
        destination.close()


ORDERS = [{"id": number, "status": "new", "updated_at": f"2026-01-01T00:{number // 3:02}:00Z"} for number in range(50)]


LATER = [{"id": number, "status": "paid", "updated_at": f"2026-01-02T00:00:{number:02}Z"} for number in range(9)]


class Shop(BaseHTTPRequestHandler):
    """The API, as the source's docstring describes it; below /0 on its first day, below /1 on its second."""

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        step, what = url.path.strip("/").split("/")
        if what == "now":
            answer = {"now": f"2026-01-0{2 + int(step)}T00:00:00Z"}
        else:
            after = json.loads(asked.get("after", '["", 0]'))
            rows = [
                row
                for row in sorted([*ORDERS, *LATER], key=lambda row: (row["updated_at"], row["id"]))
                if asked["since"] <= row["updated_at"] < asked["until"] and [row["updated_at"], row["id"]] > after
            ]
            page = rows[: min(7, int(asked["limit"]))]
            more = len(page) < len(rows)
            answer = {"rows": page, "next": json.dumps([page[-1]["updated_at"], page[-1]["id"]]) if more else None}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def api():
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestShop(SourceConformance):
    @pytest.fixture
    def make_source(self, api):
        cls = load_plugin("source", "shop")
        return lambda: cls(cls.Spec(url=f"{api}/0"))


class TestKilled(KillConformance):
    STEPS = 2

    @pytest.fixture
    def rows(self):
        return lambda step: {"orders": ORDERS + LATER[: 9 * step]}

    @pytest.fixture
    def plugins(self, api):
        source, destination = load_plugin("source", "shop"), load_plugin("destination", "jsondir")
        backend = load_plugin("state_backend", "onefile")
        return lambda directory, step: (
            source(source.Spec(url=f"{api}/{step}")),
            destination(destination.Spec(path=str(directory / "rows"))),
            backend(backend.Spec(path=str(directory / "states.json"))),
        )
