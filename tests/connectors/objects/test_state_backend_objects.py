"""The state backend ``objects``, in S3 as moto has it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import obstore
import pytest
from obstore.store import S3Store
from raw_states import RawObject

from services.s3 import S3
from strandline.connectors.objects import store as store_module
from strandline.errors import StateConflictError, StateError, StrandlineError, UnreachableError, UsageError
from strandline.plugins import load_plugin
from strandline.probe import Verdict
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state
from strandline.testing.state_raw import Raw

PLUGIN = load_plugin("state_backend", "objects")


def opened(url: str, options: dict[str, str], **settings) -> StateBackend:
    return PLUGIN(PLUGIN.Spec(url=url, options=options, **settings))


@pytest.fixture(scope="module")
def server():
    with S3() as started:
        yield started


@pytest.fixture
def s3(server):
    server.empty()
    return server


class TestObjectsState(StateBackendConformance):
    @pytest.fixture
    def reopen(self, s3: S3) -> Callable[[], StateBackend]:
        return lambda: opened("s3://bucket/states", s3.options)

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        with closing(reopen()) as backend:
            yield backend

    @pytest.fixture
    def raw(self, s3: S3) -> Raw:
        return RawObject(S3Store("bucket", prefix="states", client_options={"allow_http": True}, **s3.options))


def test_nothing_is_left_of_what_was_tried(s3):
    with closing(opened("s3://bucket/states", s3.options)) as backend:
        backend.save(KEY, example_state(), expected=None)
        assert {one.verdict for one in backend.probes()} == {Verdict.OK}
    store = S3Store("bucket", client_options={"allow_http": True}, **s3.options)
    names = [one["path"] for some in obstore.list(store) for one in some]
    assert names == [f"states/{KEY.source}/{KEY.task}@{KEY.destination}.json"]


def test_a_bucket_that_is_not_there_is_named(s3):
    with closing(opened("s3://nowhere/states", s3.options)) as backend:
        with pytest.raises(StrandlineError, match="nowhere") as error:
            backend.save(KEY, example_state(), expected=None)
        assert error.value.exit_code in {2, 5}


def test_a_store_that_does_not_answer_is_unreachable_and_no_secret_is_shown():
    options = {"endpoint": "http://127.0.0.1:1", "access_key_id": "x", "secret_access_key": "s3cret-word"}
    with closing(opened("s3://bucket/states", options, timeout=2)) as backend:
        with pytest.raises(UnreachableError) as error:
            backend.load("shop")
        assert "s3cret-word" not in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize("url", ["file:///tmp/x", "memory:///", "http://somewhere/x", "nonsense"])
def test_what_is_no_object_store_is_refused(url):
    with closing(opened(url, {})) as backend, pytest.raises(UsageError):
        backend.load("shop")


class Careless(BaseHTTPRequestHandler):
    """Takes every write, whatever its condition."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self):
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"", {"ETag": f'"{len(self.objects)}"'})

    def do_DELETE(self):
        self._answer(204, b"", {})

    def do_GET(self):
        self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})

    def _answer(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_store_that_ignores_conditions_is_refused_before_a_state_is_written():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        options = {"endpoint": endpoint, "access_key_id": "x", "secret_access_key": "y", "region": "us-east-1"}
        with closing(opened("s3://bucket/states", options)) as backend, pytest.raises(UsageError, match="ignores"):
            backend.save(KEY, example_state(), expected=None)
        assert not [name for name in Careless.objects if ".probe-" not in name]
    finally:
        server.shutdown()
        server.server_close()


def test_a_write_is_not_repeated_by_the_driver_and_its_outcome_is_unknown(s3, monkeypatch):
    with closing(opened("s3://bucket/states", s3.options)) as backend:
        token = backend.save(KEY, example_state(1), expected=None)
        sent = []

        def put(store, name, content, **more):
            sent.append(name)
            sound(store, name, content, **more)
            raise obstore.exceptions.GenericError("the reply was lost")

        sound = store_module.obstore.put
        monkeypatch.setattr(store_module.obstore, "put", put)
        with pytest.raises(StateError):
            backend.save(KEY, example_state(2), expected=token)
        monkeypatch.undo()
        assert len(sent) == 1
        assert backend.load(KEY.source)[KEY].sequence == 2
        with pytest.raises(StateConflictError):
            backend.save(KEY, example_state(2), expected=token)


def test_a_save_is_one_write_with_a_condition_however_many_states_there_are(s3):
    keys = [StateKey("shop", f"orders{number}", "w") for number in range(30)]
    with closing(opened("s3://bucket/states", s3.options)) as backend:
        tokens = {key: backend.save(key, example_state(1), expected=None) for key in keys}
        s3.asked.clear()
        backend.save(keys[7], example_state(2), expected=tokens[keys[7]])
        backend.save(StateKey("shop", "new", "w"), example_state(1), expected=None)
        assert [(method, path.rpartition("/")[2]) for method, path, _ in s3.asked] == [
            *(("GET", "orders7@w.json"), ("PUT", "orders7@w.json")),
            *(("GET", "new@w.json"), ("PUT", "new@w.json")),
        ]
        _, known, _, absent = [condition for *_, condition in s3.asked]
    assert (known[0], absent) == ('"', "*")  # the version that was read, and none


def test_what_has_not_changed_is_not_read_again(s3, monkeypatch):
    """A run looks at all states of a source several times, and there may be ten thousand."""
    keys = [StateKey("shop", f"orders:{number}", "w") for number in range(40)]
    with (
        closing(opened("s3://bucket/states", s3.options)) as backend,
        closing(opened("s3://bucket/states", s3.options)) as other,
    ):
        tokens = {key: backend.save(key, example_state(1), expected=None) for key in keys}
        assert len(backend.load("shop")) == 40
        read = []
        sound = store_module.Store.get
        monkeypatch.setattr(store_module.Store, "get", lambda self, name: read.append(name) or sound(self, name))
        assert len(backend.load("shop")) == 40
        assert read == []
        other.save(keys[7], example_state(2), expected=tokens[keys[7]])
        read.clear()
        assert {key: state.sequence for key, state in backend.load("shop").items()} == dict.fromkeys(keys, 1) | {
            keys[7]: 2
        }
        assert len(read) == 1
