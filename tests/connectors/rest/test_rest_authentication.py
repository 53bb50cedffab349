"""Credentials of every kind: what the server sees, and that those that expire are renewed and none is lost."""

import json
import threading
from contextlib import closing
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from rest_clients import TestClock, client_of, get

from services.api import Api, Reply
from strandline.connectors.rest.request import Request
from strandline.connectors.rest.signature import signature_headers
from strandline.errors import TaskError

GOOD = Reply({"rows": []})


@pytest.fixture
def api():
    with Api(lambda _asked: GOOD) as api:
        yield api


@pytest.mark.parametrize(
    ("said", "header", "value"),
    [
        ({"type": "bearer", "token": "abcdefgh"}, "authorization", "Bearer abcdefgh"),
        ({"type": "basic", "username": "me", "password": "pw:1"}, "authorization", "Basic bWU6cHc6MQ=="),
        ({"type": "api_key", "key": "abcdefgh", "header": "X-Key"}, "x-key", "abcdefgh"),
    ],
)
def test_a_header_says_who_asks(api, said, header, value):
    with closing(client_of(api.url, authentication=said)) as client:
        get(client, api.url)
    assert api.asked[0].headers[header] == value


def test_a_key_in_the_query_is_beside_what_is_asked(api):
    key = {"type": "api_key", "key": "a b&c=d", "query": "key"}
    with closing(client_of(api.url, authentication=key)) as client:
        get(client, f"{api.url}/rows?page=2&key=old")
    assert api.asked[0].query == {"page": "2", "key": "a b&c=d"}


# OAuth 2 -------------------------------------------------------------------------------------------------------------
class TokenServer:
    """Gives tokens that live for an hour; with ``rotates``, each refresh token once."""

    def __init__(self, *, rotates=False):
        self.rotates, self.given, self.refresh, self.crashes = rotates, 0, "refresh-0-abcdef", False
        self.lock = threading.Lock()

    def __call__(self, asked):
        if asked.path != "/token":
            good = asked.headers.get("authorization") == f"Bearer access-{self.given}-abcdef"
            return GOOD if good else Reply({"error": "expired"}, status=401)
        with self.lock:
            if asked.form["grant_type"] == "refresh_token" and asked.form["refresh_token"] != self.refresh:
                return Reply({"error": "invalid_grant", "error_description": "the token was used up"}, status=400)
            self.given += 1
            answer = {"access_token": f"access-{self.given}-abcdef", "expires_in": 3600}
            if self.rotates:
                self.refresh = answer["refresh_token"] = f"refresh-{self.given}-abcdef"
            return Reply(answer)


def oauth(api, **more):
    return {"type": "oauth2", "url": f"{api.url}/token", "client_id": "app", "client_secret": "app-secret", **more}


@pytest.mark.parametrize("where", ["header", "body"])
def test_client_credentials_give_a_token_once(api, where):
    api.answer = TokenServer()
    said = oauth(api, client_in=where, scope="read all", parameters={"audience": "shop"})
    with closing(client_of(api.url, authentication=said)) as client:
        get(client, f"{api.url}/a")
        get(client, f"{api.url}/b")
    assert [one.path for one in api.asked] == ["/token", "/a", "/b"]
    form = api.asked[0].form
    assert (form["grant_type"], form["scope"], form["audience"]) == ("client_credentials", "read all", "shop")
    assert ("client_secret" in form) == (where == "body")
    assert ("authorization" in api.asked[0].headers) == (where == "header")


def test_a_token_is_renewed_before_it_expires(api):
    api.answer, time = TokenServer(), TestClock()
    with closing(client_of(api.url, time, authentication=oauth(api))) as client:
        get(client, f"{api.url}/a")
        time.slept.append(3_580)
        get(client, f"{api.url}/b")
    assert [one.path for one in api.asked] == ["/token", "/a", "/token", "/b"]


def test_a_token_that_is_withdrawn_in_the_middle_is_renewed_once(api):
    server = api.answer = TokenServer()
    with closing(client_of(api.url, authentication=oauth(api))) as client:
        get(client, f"{api.url}/a")
        server.given += 1
        get(client, f"{api.url}/b")
        assert [one.path for one in api.asked] == ["/token", "/a", "/b", "/token", "/b"]
        api.answer = lambda asked: server(asked) if asked.path == "/token" else Reply(status=401)
        with pytest.raises(TaskError, match="401"):
            get(client, f"{api.url}/c")
        assert len(api.asked) == 8


def test_a_refresh_token_that_the_server_replaces_is_kept_before_anything_is_asked_with_it(api, tmp_path):
    file = tmp_path / "secrets" / "token.json"
    server = TokenServer(rotates=True)
    stored = []

    def answer(asked):
        if asked.path != "/token":
            stored.append(json.loads(file.read_text())["refresh_token"])
        return server(asked)

    api.answer = answer
    said = oauth(api, refresh_token="refresh-0-abcdef", file=str(file))
    for step in (1, 2):
        time = TestClock(datetime(2026, 1, step, tzinfo=UTC))
        with closing(client_of(api.url, time, authentication=said)) as client:
            get(client, f"{api.url}/a")
        assert stored == [f"refresh-{number}-abcdef" for number in range(1, step + 1)]
    assert file.stat().st_mode & 0o077 == 0


def test_an_access_token_that_still_lives_is_taken_from_the_file(api, tmp_path):
    api.answer = TokenServer(rotates=True)
    said = oauth(api, refresh_token="refresh-0-abcdef", file=str(tmp_path / "token.json"))
    for _ in range(3):
        with closing(client_of(api.url, authentication=said)) as client:
            get(client, f"{api.url}/a")
    assert [one.path for one in api.asked] == ["/token", "/a", "/a", "/a"]


def test_threads_and_other_processes_share_one_refresh(api, tmp_path):
    api.answer = TokenServer(rotates=True)
    said = oauth(api, refresh_token="refresh-0-abcdef", file=str(tmp_path / "token.json"))
    clients = [client_of(api.url, authentication=said) for _ in range(4)]
    threads = [threading.Thread(target=get, args=(client, f"{api.url}/a")) for client in clients * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    assert api.paths("POST") == ["/token"]
    assert api.paths() == ["/a"] * 8


def test_a_file_that_cannot_be_written_is_known_before_a_token_is_used_up(api, tmp_path):
    api.answer = TokenServer(rotates=True)
    (tmp_path / "blocked").write_text("a file, and no directory")
    said = oauth(api, refresh_token="refresh-0-abcdef", file=str(tmp_path / "blocked" / "token.json"))
    with closing(client_of(api.url, authentication=said)) as client, pytest.raises(TaskError, match="cannot be used"):
        get(client, f"{api.url}/a")
    assert api.asked == []


def test_another_refresh_token_in_the_spec_begins_again_with_it(api, tmp_path):
    server = api.answer = TokenServer(rotates=True)
    file = str(tmp_path / "token.json")
    with closing(client_of(api.url, authentication=oauth(api, refresh_token="refresh-0-abcdef", file=file))) as client:
        get(client, f"{api.url}/a")
    server.refresh = "refresh-new-abcdef"
    with closing(
        client_of(api.url, authentication=oauth(api, refresh_token="refresh-new-abcdef", file=file))
    ) as client:
        get(client, f"{api.url}/a")
    assert api.paths("POST") == ["/token", "/token"]


def test_a_refresh_token_that_was_used_up_is_told_in_words(api, tmp_path):
    api.answer = TokenServer(rotates=True)
    said = oauth(api, refresh_token="refresh-old-abcdef", file=str(tmp_path / "token.json"))
    with (
        closing(client_of(api.url, authentication=said)) as client,
        pytest.raises(TaskError, match="used up") as caught,
    ):
        get(client, f"{api.url}/a")
    assert "needs a new one" in caught.value.hint
    assert "refresh-old-abcdef" not in str(caught.value)


def test_a_damaged_token_file_is_told_and_left(api, tmp_path):
    file = tmp_path / "token.json"
    file.write_text("{")
    said = oauth(api, refresh_token="refresh-0-abcdef", file=str(file))
    with closing(client_of(api.url, authentication=said)) as client, pytest.raises(TaskError, match="is damaged"):
        get(client, f"{api.url}/a")
    assert file.read_text() == "{"


# sessions ------------------------------------------------------------------------------------------------------------
def test_a_login_gives_a_token_and_is_repeated_when_it_has_ended(api):
    logins = []

    def answer(asked):
        if asked.path == "/v1/login":
            assert asked.json == {"user": "me", "password": "pw-12345"}
            logins.append(1)
            return Reply({"data": {"token": f"session-{len(logins)}"}})
        good = asked.headers.get("x-session") == f"session-{len(logins)}"
        return GOOD if good else Reply(status=401)

    api.answer = answer
    said = {"type": "session", "path": "login", "body": {"user": "me", "password": "pw-12345"}}
    said |= {"found_at": "data.token", "header": "X-Session", "prefix": ""}
    with closing(client_of(f"{api.url}/v1", authentication=said)) as client:
        get(client, f"{api.url}/v1/a")
        logins.append(1)
        get(client, f"{api.url}/v1/a")
    assert len(logins) == 3


def test_a_login_may_give_cookies(api):
    def answer(asked):
        if asked.path == "/login":
            return Reply(
                {},
                headers={"Set-Cookie": "sid=abc123; Path=/; HttpOnly\nlang=en; Expires=Wed, 21 Oct 2026 07:28:00 GMT"},
            )
        return GOOD if asked.headers.get("cookie") == "sid=abc123; lang=en" else Reply(status=401)

    api.answer = answer
    with closing(
        client_of(api.url, authentication={"type": "session", "path": "/login", "body": {}, "form": True})
    ) as client:
        assert get(client, f"{api.url}/a") == GOOD.body


# AWS -----------------------------------------------------------------------------------------------------------------
def test_a_signature_is_that_of_the_documentation():
    """`get-vanilla-query-order-key-case` of AWS' own test suite."""
    request = Request("GET", "https://example.amazonaws.com/", query={"Param2": "value2", "Param1": "value1"})
    headers = signature_headers(
        request,
        key_id="AKIDEXAMPLE",
        key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        token=None,
        region="us-east-1",
        service="service",
        now=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )
    assert headers["Authorization"].endswith("b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500")


@pytest.mark.parametrize(
    ("url", "query", "body"),
    [
        ("https://api.example.com/v1/a b/ü:1", {"q": "a+b c/=&~é", "empty": ""}, None),
        ("https://api.example.com:8443/x?b=2&a=1&a=0", {}, {"rows": [1, "ü"]}),
        ("https://api.example.com", {}, None),
    ],
)
def test_a_signature_is_that_of_botocore(url, query, body, monkeypatch):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    request = Request("GET" if body is None else "POST", url, query=query, body=body)
    ours = signature_headers(request, key_id="AK", key="SK", token="ST", region="eu", service="execute-api", now=now)
    theirs = AWSRequest(request.method, request.target, data=request.content)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None), raising=False)
    SigV4Auth(Credentials("AK", "SK", "ST"), "execute-api", "eu").add_auth(theirs)
    if theirs.headers["X-Amz-Date"] == ours["x-amz-date"]:
        assert theirs.headers["Authorization"] == ours["Authorization"]
    else:
        raise AssertionError(theirs.headers["X-Amz-Date"])
