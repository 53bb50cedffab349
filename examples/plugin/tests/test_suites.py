"""The shipped suites on the plugins, through their entry points."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from strandline.destination import WriteMode
from strandline.plugins import load_plugin
from strandline.testing.campaign.chains import Spoiled
from strandline.testing.campaign.suite import CampaignConformance
from strandline.testing.destination import DestinationConformance
from strandline.testing.kills import KillConformance
from strandline.testing.source import SourceConformance
from strandline.testing.state_backend import StateBackendConformance


class RawOneFile:
    """What the file has of a state, for the suite to damage."""

    def __init__(self, path):
        self._path = path

    def read(self, key):
        token, text = self._found(key)[1][0]
        return {"token": token.encode(), "state": text.encode()}

    def write(self, key, fields):
        states, commits = self._found(key)
        try:
            commits[0] = [fields["token"].decode(), fields["state"].decode()]
        except ValueError:  # the file would not be UTF-8 any more, which it says of all states
            return False
        self._path.write_text(json.dumps(states))
        return True

    def _found(self, key):
        states = json.loads(self._path.read_text())
        return states, next(commits for stored, commits in states if stored == [key.source, key.task, key.destination])


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
    def raw(self, tmp_path):
        return RawOneFile(tmp_path / "states.json")


class TestJSONDirectory(DestinationConformance):
    @pytest.fixture
    def reopen(self, tmp_path):
        cls = load_plugin("destination", "jsondir")
        return lambda: cls(cls.Spec(path=str(tmp_path / "rows")))

    @pytest.fixture
    def destination(self, reopen):
        destination = reopen()
        yield destination
        destination.close()


def order(number, status, updated_at, *products):
    lines = [{"product": product, "count": number} for product in products]
    return {"id": number, "status": status, "updated_at": updated_at, "lines": lines}


FIRST = [
    order(number, "new", f"2026-01-01T00:{number // 3:02}:00Z", *("tea", "milk")[number % 3 :]) for number in range(50)
]
LATER = [order(number, "paid", f"2026-01-02T00:00:{number:02}Z", *("tea", "jam")[number % 3 :]) for number in range(9)]


def tables(orders):
    """What has to be stored of some orders."""
    return {
        "orders": [{name: value for name, value in one.items() if name != "lines"} for one in orders],
        "lines": [{"order_id": one["id"], **line} for one in orders for line in one["lines"]],
    }


class Shop(BaseHTTPRequestHandler):
    """The API, as the source's docstring describes it; below /0 on its first day, below /1 on its second."""

    keyless = False
    """Whether a row has lost its key."""

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
                for row in sorted([*FIRST, *LATER], key=lambda row: (row["updated_at"], row["id"]))
                if asked["since"] <= row["updated_at"] < asked["until"] and [row["updated_at"], row["id"]] > after
            ]
            page = rows[: min(7, int(asked["limit"]))]
            sent = [{**row, "id": None} if Shop.keyless else row for row in page]
            more = len(page) < len(rows)
            answer = {"rows": sent, "next": json.dumps([page[-1]["updated_at"], page[-1]["id"]]) if more else None}
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


@pytest.fixture
def plugins(api, request):
    """What is synced at a step of a kill: the shop into a destination of the class, with states in one file."""
    source, backend = load_plugin("source", "shop"), load_plugin("state_backend", "onefile")
    destination = load_plugin("destination", request.cls.DESTINATION)
    return lambda directory, step: (
        source(source.Spec(url=f"{api}/{step}")),
        destination(destination.Spec(path=str(directory / "rows"))),
        backend(backend.Spec(path=str(directory / "states.json"))),
    )


class TestKilled(KillConformance):
    DESTINATION = "jsondir"

    @pytest.fixture
    def plugins(self, plugins):
        return plugins

    @pytest.fixture
    def rows(self):
        return lambda step: tables(FIRST + LATER[: 9 * step])


class TestKilledWhereRowsAreOverwritten(TestKilled):
    """An order that comes again has a line less, and another one."""

    STEPS = 2
    WRITE_MODE = WriteMode.OVERWRITE

    @pytest.fixture
    def rows(self):
        return lambda step: tables({one["id"]: one for one in FIRST + LATER[: 9 * step]}.values())


class TestKilledBeforeADatabase(TestKilledWhereRowsAreOverwritten):
    DESTINATION = "sqlite"


def kept(directory):
    return {"backend_spec": {"path": str(directory / "states.json")}}


class TestCampaign(CampaignConformance):
    STEPS = 2

    @pytest.fixture
    def documents(self, api):
        return lambda directory, step: [
            ("source", {"path": "shop", "spec": {"url": f"{api}/{step}"}, "backend": "onefile", **kept(directory)}),
            ("destination", {"path": "jsondir", "write_mode": "append", "spec": {"path": str(directory / "rows")}}),
        ]

    @pytest.fixture
    def rows(self):
        return lambda step: tables(FIRST + LATER[: 9 * step])

    @pytest.fixture
    def spoils(self):
        return lambda _: [
            Spoiled(
                "a row without a key",
                lambda: setattr(Shop, "keyless", True),
                lambda: setattr(Shop, "keyless", False),
            )
        ]
