"""Two processes save over each other: of each save one is the winner, and none is lost. `make races SAVES=1000` has more of them."""

import json
import os
import subprocess
import sys
from contextlib import closing

import pytest

from services.redis import DURABLE, RedisServer, valkey_program
from services.s3 import S3
from strandline.plugins import load_plugin
from strandline.state import HISTORY_MAX
from strandline.testing.state_backend import KEY, example_state

pytestmark = pytest.mark.crash

SAVES = int(os.environ.get("STRANDLINE_SAVES") or 30)
"""Of both together."""
RACER = """
import json, sys
from strandline.errors import RetryableError, StateConflictError
from strandline.plugins import load_plugin
from strandline.state import State, StateKey

name, settings, saves, number = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
cls = load_plugin("state_backend", name)
backend, won, key = cls(cls.Spec(**settings)), [], StateKey(*json.loads(sys.argv[5]))
print("ready", flush=True)
sys.stdin.readline()
while (stored := backend.load(key.source)[key]).sequence < saves:
    following = State({}, 1, stored.sequence + 1, number)
    try:
        backend.save(key, following, expected=stored.token)
    except (StateConflictError, RetryableError):
        continue
    won.append(following.sequence)
print(json.dumps(won))
"""


@pytest.fixture
def stored_in(request, tmp_path):
    """The settings of a backend by its name, with its server if it has one."""

    def settings(name):
        if name in {"local", "sqlite"}:
            return {"path": str(tmp_path / "kept")}
        if name in {"postgresql", "mysql"}:
            return {"connection_string": request.getfixturevalue(name)}
        return request.getfixturevalue(f"{name}_settings")

    return settings


@pytest.fixture
def redis_settings():
    with RedisServer(valkey_program(), *DURABLE) as server:
        yield {"url": server.url}


@pytest.fixture
def objects_settings():
    with S3() as s3:
        yield {"url": "s3://bucket/states", "options": s3.options}


@pytest.mark.parametrize("name", ["local", "sqlite", "postgresql", "mysql", "redis", "objects"])
def test_of_two_processes_one_wins_each_save_and_none_is_lost(stored_in, name):
    settings, cls = stored_in(name), load_plugin("state_backend", name)
    with closing(cls(cls.Spec(**settings))) as backend:
        backend.save(KEY, example_state(0), expected=None)
        command = [sys.executable, "-c", RACER, name, json.dumps(settings), str(SAVES)]
        key = json.dumps([KEY.source, KEY.task, KEY.destination])
        racers = [
            subprocess.Popen([*command, number, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in "12"
        ]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        won = dict(
            zip("12", (json.loads(racer.communicate(timeout=600)[0]) for racer in _started(racers)), strict=True)
        )
        assert sorted([*won["1"], *won["2"]]) == list(range(1, SAVES + 1))
        history = backend.history(KEY)
        assert [state.sequence for state in history] == list(range(SAVES, max(SAVES - HISTORY_MAX, -1), -1))
        assert all(state.sequence in won[state.run_id] for state in history if state.sequence)


def _started(racers):
    """Both at once; ``communicate`` alone would wait for the first."""
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    return racers
