"""Responses that are recorded and played again: the same rows, without the API, and without a secret in the file."""

import json
import urllib.request

import pytest

import strandline as sl
from services.api import Api, Reply
from strandline.testing.replay import RECORD, replayed

KEY, TOKEN, PAGE = "k3y-of-the-spec", "acc3ss-of-today", "p4ge-two"
ROWS = [{"id": n, "owner": {"password": f"hunter-{n}", "name": f"o{n}"}} for n in range(4)]


def answer(asked):
    if asked.path == "/v1/login":
        assert KEY.encode() in asked.content or "authorization" in asked.headers
        return Reply({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        return Reply({"message": "who are you?"}, status=401)
    second = asked.query.get("at") == PAGE
    page = {"data": ROWS[2:] if second else ROWS[:2], "next_token": None if second else PAGE}
    return Reply(page | {"self": f"{asked.url}/v1/rows"}, headers={"X-Internal": KEY, "ETag": '"1"'})


@pytest.fixture
def api():
    with Api(answer) as one:
        yield one


def synced(url, tmp_path, number):
    login = {"type": "oauth2", "url": f"{url}/login", "client_id": "ann", "client_secret": KEY}
    pages = {"type": "token", "path": "next_token", "query": "at"}
    table = {"path": "rows", "records": "data", "primary_key": ["id"]}
    said = {"authentication": login, "pagination": pages, "tables": {"rows": table}, "attempts": 1}
    place = sl.sqlite(str(tmp_path / f"{number}.db"))
    backend = sl.local(str(tmp_path / f"state{number}"))
    return sl.sync(sl.source(sl.rest(url, **said), backend=backend), to=place).arrow("rows").sort_by("id").to_pylist()


def test_what_was_recorded_is_played_without_the_api_and_has_no_secret_in_it(api, tmp_path, monkeypatch):
    file = tmp_path / "rows.json"
    monkeypatch.setenv(RECORD, "1")
    with replayed(file, of=f"{api.url}/v1") as url:
        first = synced(url, tmp_path, 1)
    monkeypatch.delenv(RECORD)
    text = file.read_text()
    for secret in (KEY, TOKEN, PAGE, "hunter", "X-Internal", "x-internal"):
        assert secret not in text
    assert "{api}/v1/rows" in text
    count = len(api.asked)
    with replayed(file, of=f"{api.url}/v1") as url:
        again = synced(url, tmp_path, 2)
    assert len(api.asked) == count
    assert [row["id"] for row in again] == [row["id"] for row in first] == [0, 1, 2, 3]
    assert [row["owner"]["name"] for row in again] == ["o0", "o1", "o2", "o3"]


def test_what_was_not_recorded_fails_the_test(api, tmp_path):
    file = tmp_path / "rows.json"
    with pytest.raises(FileNotFoundError, match="STRANDLINE_RECORD=1"), replayed(file, of=api.url):
        pass
    with replayed(file, of=api.url, record=True, secrets=["s3cret"]) as url:
        assert asked(f"{url}/a/s3cret?token=abcd")[0] == 401
    assert [one["request"] for one in json.loads(file.read_text())["responses"]] == ["GET /a/***?token=***"]
    with replayed(file, of=api.url, secrets=["s3cret"]) as url:
        assert asked(f"{url}/a/s3cret?token=another") == (401, b'{"message": "who are you?"}')
    with pytest.raises(AssertionError, match="no response to GET /b"), replayed(file, of=api.url) as url:
        assert asked(f"{url}/b")[0] == 501


def test_a_request_that_comes_again_gets_the_next_response(tmp_path):
    answers = iter([Reply([1], status=503, headers={"Retry-After": "1"}), Reply([2])])
    file = tmp_path / "two.json"
    with Api(lambda _: next(answers)) as api:
        with replayed(file, of=api.url, record=True) as url:
            recorded = [asked(f"{url}/x") for _ in range(2)]
        with replayed(file, of=api.url) as url:
            assert [asked(f"{url}/x") for _ in range(3)] == [*recorded, recorded[-1]]


def asked(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
