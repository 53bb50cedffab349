"""The state backend ``redis``, with servers that the tests start and kill."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis
from raw_states import RawValue

from services.proxy import CommitProxy, Loss
from services.redis import DURABLE, RedisServer, redis_program, valkey_program
from strandline.errors import StateConflictError, StateError, StrandlineError, UnreachableError, UsageError
from strandline.parted import Parted
from strandline.plugins import load_plugin
from strandline.probe import Verdict
from strandline.state import HISTORY_MAX, StateBackend, StateKey
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state
from strandline.testing.state_parts import PartsCases, PutPart, large_mapping
from strandline.testing.state_raw import Raw

PLUGIN = load_plugin("state_backend", "redis")


def opened(url: str, **settings) -> StateBackend:
    return PLUGIN(PLUGIN.Spec(url=url, **settings))


def program(name: str) -> str:
    found = valkey_program() if name == "valkey" else redis_program()
    if found is None:
        pytest.skip("LOUD: Redis is not installed; on Debian: apt-get install redis-server")
    return found


def refused(backend: StateBackend, error: type[StrandlineError], match: str) -> None:
    with closing(backend), pytest.raises(error, match=match):
        backend.load("shop")


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request):
    with RedisServer(program(request.param), *DURABLE) as started:
        yield started


@pytest.fixture
def client(server):
    with closing(redis.Redis.from_url(server.url)) as client:
        yield client
        client.flushall()


class TestRedisState(StateBackendConformance, PartsCases):
    @pytest.fixture
    def reopen(self, server: RedisServer, client: redis.Redis) -> Callable[[], StateBackend]:
        return lambda: opened(server.url)

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        with closing(reopen()) as backend:
            yield backend

    @pytest.fixture
    def raw(self, client: redis.Redis) -> Raw:
        return RawValue(client)

    @pytest.fixture
    def parts(self, client: redis.Redis) -> Callable[[StateKey], set[str]]:
        return lambda key: {name.decode() for name in client.hkeys(parts_of(key))}

    @pytest.fixture
    def put_part(self, client: redis.Redis) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            client.hdel(parts_of(key), name) if text is None else client.hset(parts_of(key), name, text)

        return put


def parts_of(key: StateKey) -> str:
    return f"strandline:{{{key.source}}}:parts:{key.task} {key.destination}"


def test_a_reader_whose_parts_were_removed_meanwhile_reads_the_newer_state(server, client, monkeypatch):
    with closing(opened(server.url)) as writer, closing(opened(server.url)) as reader:
        large = [Parted.of(large_mapping(1000 * number)) for number in range(HISTORY_MAX + 2)]
        tokens = [writer.save(KEY, example_state(1, cursor={"files": large[0]}), expected=None)]
        real = type(reader)._part

        def part(self, key):
            monkeypatch.setattr(type(reader), "_part", real)
            for sequence, files in enumerate(large[1:], 2):
                tokens.append(writer.save(key, example_state(sequence, cursor={"files": files}), expected=tokens[-1]))
            return real(self, key)

        monkeypatch.setattr(type(reader), "_part", part)
        assert reader.load("shop")[KEY].cursor == {"files": large[-1]}
        assert len(tokens) == len(large)


def test_the_keys_of_a_source_lie_in_one_slot_of_a_cluster(server, client):
    with closing(opened(server.url)) as backend:
        backend.save(StateKey("a{b}c", "t", "d"), example_state(), expected=None)
        backend.save(StateKey("a{b}c", "other", "d"), example_state(), expected=None)
    names = [name.decode() for name in client.scan_iter()]
    assert len(names) == 3
    assert {name[name.index("{") : name.index("}") + 1] for name in names} == {"{a%7Bb%7Dc}"}


RISKS = [
    ("eviction", ("--maxmemory-policy", "allkeys-lru", *DURABLE)),
    ("no-persistence", ()),
    ("everysec", ("--appendonly", "yes")),
]


@pytest.mark.parametrize(("name", "arguments"), RISKS, ids=[name for name, _ in RISKS])
def test_a_server_that_can_lose_a_cursor_is_refused_unless_it_is_accepted_by_name(name, arguments):
    with RedisServer(valkey_program(), *arguments) as server:
        with closing(opened(server.url)) as backend:
            for attempt in (lambda: backend.load("shop"), lambda: backend.save(KEY, example_state(), expected=None)):
                with pytest.raises(UsageError, match=str(server.port)) as refused:
                    attempt()
            assert f"accept: [{name}]" in refused.value.hint
            assert [one.verdict for one in backend.probes() if one.subject == "durability"] == [Verdict.PROBLEM]
        with closing(opened(server.url, accept=[name])) as backend:
            backend.save(KEY, example_state(), expected=None)
            assert dict(backend.load(KEY.source)) == {KEY: backend.history(KEY)[0]}
            assert [one.verdict for one in backend.probes() if one.subject == "durability"] == [Verdict.WARNING]


def test_a_replica_is_refused():
    with RedisServer(valkey_program(), *DURABLE) as primary:
        follows = ("--replicaof", f"127.0.0.1 {primary.port}", *DURABLE)
        with RedisServer(valkey_program(), *follows) as replica:
            refused(opened(replica.url), UsageError, "replica")


def test_what_was_saved_outlives_a_killed_server():
    with RedisServer(valkey_program(), *DURABLE) as server, closing(opened(server.url)) as backend:
        token = None
        for number in range(1, 6):
            token = backend.save(KEY, example_state(number), expected=token)
            server.kill()
            server.start()
        with pytest.raises(StateConflictError):
            backend.save(KEY, example_state(9), expected=None)
        assert [state.sequence for state in backend.history(KEY)] == [5, 4, 3, 2, 1]


def test_a_server_that_is_not_there_is_unreachable_and_a_password_is_in_no_error():
    with closing(opened("redis://user:s3cret-word@127.0.0.1:1/0")) as backend:
        with pytest.raises(UnreachableError) as error:
            backend.load("shop")
        assert "s3cret-word" not in f"{error.value} {error.value.hint}"


def test_a_user_of_an_acl_needs_no_more_than_the_documentation_says(server, client):
    rights = "on >word ~strandline:* +hgetall +hget +hset +hkeys +hdel +lpush +lpop +lrange +ltrim +eval +info +config|get +time"
    client.execute_command("ACL", "SETUSER", "cursors", *rights.split())
    try:
        with closing(opened(server.url, username="cursors", password="word")) as backend:
            token = backend.save(KEY, example_state(1), expected=None)
            backend.save(KEY, example_state(2), expected=token)
            assert [state.sequence for state in backend.history(KEY)] == [2, 1]
            assert not [one for one in backend.probes() if one.verdict is Verdict.PROBLEM]
        refused(opened(server.url, username="cursors", password="wrong"), UsageError, "password")
        client.execute_command("ACL", "SETUSER", "cursors", "-config|get")
        refused(opened(server.url, username="cursors", password="word"), UsageError, "appendfsync is unknown")
    finally:
        client.execute_command("ACL", "DELUSER", "cursors")


def test_with_tls_the_server_s_certificate_is_checked(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    tls = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with RedisServer(program("redis"), *DURABLE, *tls) as server:
        url = f"rediss://localhost:{server.port}/0"
        with closing(opened(f"{url}?ssl_ca_certs={certificate}")) as backend:
            backend.save(KEY, example_state(), expected=None)
            assert len(backend.history(KEY)) == 1
        refused(opened(url), UnreachableError, "certificate")


def test_a_reply_that_is_lost_is_no_conflict_and_no_silence(server, client):
    """Whether it was saved, the engine looks itself."""
    with CommitProxy(server.port, b"EVAL") as proxy, closing(opened(f"redis://127.0.0.1:{proxy.port}/0")) as backend:
        token = backend.save(KEY, example_state(1), expected=None)
        for sequence, loss, saved in ((2, Loss.REPLY, 2), (3, Loss.REQUEST, 2)):
            proxy.lose(loss)
            with pytest.raises(StateError):
                backend.save(KEY, example_state(sequence), expected=token)
            assert proxy.spare()
            stored = backend.load(KEY.source)[KEY]
            assert stored.sequence == saved
            token = stored.token


def test_of_two_that_save_at_once_one_wins_each_time(server, client):
    with closing(opened(server.url)) as first:
        first.save(KEY, example_state(0), expected=None)
    won = []

    def save(number):
        with closing(opened(server.url)) as backend:
            for _ in range(100):
                stored = backend.load(KEY.source)[KEY]
                try:
                    backend.save(KEY, example_state(stored.sequence + 1), expected=stored.token)
                except StateConflictError:
                    continue
                won.append((number, stored.sequence + 1))

    threads = [threading.Thread(target=save, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(sequence for _, sequence in won) == list(range(1, len(won) + 1))
    assert len(won) >= 100


def test_a_wrong_url_is_named_and_nothing_of_it_is_shown():
    for url in ("http://somewhere", "redis://host:port/0", "redis://user:s3cret-word/rest@host/0"):
        with pytest.raises(UsageError, match="url") as error:
            opened(url)
        assert "s3cret" not in f"{error.value} {error.value.hint}"


def test_a_sentinel_that_is_none_is_named_and_a_port_may_be_left_out():
    with pytest.raises(UsageError, match="sentinels"):
        opened("redis://nowhere.invalid/0", sentinels=["127.0.0.1:none"])
    opened("redis://nowhere.invalid/0", sentinels=["127.0.0.1"]).close()


def test_a_sentinel_names_the_server(tmp_path):
    with RedisServer(program("redis"), *DURABLE) as primary:
        settings = tmp_path / "sentinel.conf"
        settings.write_text(f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n", "utf-8")
        with RedisServer(program("redis"), str(settings), "--sentinel") as sentinel:
            watching = {"sentinels": [f"127.0.0.1:{sentinel.port}"]}
            with closing(opened("redis://nowhere.invalid/0", **watching)) as backend:
                backend.save(KEY, example_state(), expected=None)
            with closing(opened(primary.url)) as backend:
                assert len(backend.history(KEY)) == 1
            refused(opened("redis://nowhere.invalid/0", service="another", **watching), UnreachableError, "another")
