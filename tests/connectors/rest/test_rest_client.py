"""The client of the source ``rest`` against a server that fails in every way: a whole answer, or an error that says what happened."""

from contextlib import closing
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from rest_clients import TestClock, client_of, get

from services.api import Api, Reply
from strandline.connectors.rest.reach import EVERYWHERE, LOCAL, PRIVATE, reach
from strandline.errors import RetryableError, StrandlineError, TaskError, UnreachableError

GOOD = Reply({"rows": [1, 2, 3]})


@pytest.fixture
def api():
    with Api(lambda _asked: GOOD) as api:
        yield api


@pytest.fixture
def other():
    with Api(lambda _asked: GOOD) as api:
        yield api


def then_good(*first):
    """Answers with these, then well."""
    return lambda asked: first[asked.number] if asked.number < len(first) else GOOD


@pytest.mark.parametrize(
    "bad",
    [
        Reply(status=500),
        Reply(status=503, body=b"<html>busy</html>", headers={"Content-Type": "text/html"}),
        Reply(GOOD.body, failure="cut"),
        Reply(GOOD.body, failure="cut unsaid"),
        Reply(b"<html>please log in</html>", headers={"Content-Type": "text/html"}),
        Reply(b"\x1f\x8b\x08 no gzip", headers={"Content-Encoding": "gzip"}),
        Reply(failure="hang up"),
        Reply(status=429),
    ],
    ids=["500", "503", "cut", "cut unsaid", "HTML", "broken gzip", "no answer", "429"],
)
def test_what_passes_is_tried_again(api, bad):
    api.answer = then_good(bad, bad)
    time = TestClock()
    with closing(client_of(api.url, time)) as client:
        assert get(client, f"{api.url}/rows") == GOOD.body
    assert len(api.asked) == 3
    assert time.passed_s > 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Reply(status=500, body={"error": "broken"}), "answers with 500"),
        (Reply(GOOD.body, failure="cut"), "breaks off"),
        (Reply(GOOD.body, failure="cut unsaid"), "no whole JSON"),
        (Reply(b"<html>please log in"), "a page for people and not with JSON"),
        (Reply(failure="hang up"), "does not answer"),
    ],
)
def test_what_does_not_pass_is_an_error_that_may_be_tried_later(api, bad, words):
    api.answer = lambda _asked: bad
    with closing(client_of(api.url, attempts=3)) as client, pytest.raises(RetryableError, match=words):
        get(client, f"{api.url}/rows")
    assert len(api.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_is_told_in_the_words_of_the_api(api, status):
    api.answer = lambda _asked: Reply({"message": "no such thing"}, status=status)
    with closing(client_of(api.url)) as client, pytest.raises(TaskError, match=f"{status}.*no such thing"):
        get(client, f"{api.url}/rows")
    assert len(api.asked) == 1


def test_nobody_there_is_an_error_of_reach(api):
    with closing(client_of("http://127.0.0.1:1", attempts=2)) as client, pytest.raises(UnreachableError):
        get(client, "http://127.0.0.1:1/rows")


@pytest.mark.parametrize("failure", ["endless", "bomb"])
def test_an_answer_without_an_end_is_left(api, failure):
    api.answer = lambda _asked: Reply(failure=failure)
    with (
        closing(client_of(api.url, answer_max="4MiB")) as client,
        pytest.raises(TaskError, match="larger than 4,194,304"),
    ):
        get(client, f"{api.url}/rows")


# rate limits ---------------------------------------------------------------------------------------------------------
HALF_PAST = datetime(2026, 1, 1, 12, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "limited",
    [
        Reply(status=429, headers={"Retry-After": "40"}),
        Reply(status=429, headers={"Retry-After": formatdate(HALF_PAST + 40, usegmt=True)}, date=HALF_PAST),
        Reply(status=503, headers={"Retry-After": "40"}),
        Reply(
            status=403,
            headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(HALF_PAST) + 40)},
            date=HALF_PAST,
        ),
        Reply(status=403, headers={"Retry-After": "40"}),
        Reply(status=429, headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "40"}),
        Reply(status=429, headers={"RateLimit": '"default";r=0;t=40'}),
    ],
    ids=["seconds", "date", "503", "GitHub", "GitHub secondary", "RateLimit-Reset", "RateLimit"],
)
def test_a_rate_limit_is_waited_for_as_the_api_says_by_its_own_clock(api, limited):
    api.answer = then_good(limited)
    time, signs = TestClock(), []
    with closing(client_of(api.url, time)) as client:
        from strandline.connectors.rest.client import json_of
        from strandline.connectors.rest.request import Request

        assert client.ask(Request("GET", api.url), lambda: signs.append(1), json_of) == GOOD.body
    assert 40 <= time.passed_s < 42
    assert len(signs) >= 40


def test_nothing_is_asked_while_nothing_is_left(api):
    left = Reply(
        [1], headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(HALF_PAST) + 90)}, date=HALF_PAST
    )
    api.answer = then_good(left)
    time = TestClock()
    with closing(client_of(api.url, time)) as client:
        get(client, api.url)
        assert time.passed_s == 0
        get(client, api.url)
    assert 90 <= time.passed_s < 92


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_limit_that_lasts_too_long_ends_the_task_and_says_when_to_come_back(api, attempts):
    api.answer = lambda _asked: Reply(status=429, headers={"Retry-After": "999999999"})
    with (
        closing(client_of(api.url, attempts=attempts, wait_max="10m")) as client,
        pytest.raises(TaskError, match="again in 999999999 s"),
    ):
        get(client, api.url)
    assert len(api.asked) == 1


def test_a_declared_limit_is_kept(api):
    time = TestClock()
    with closing(client_of(api.url, time, rate_limit={"requests": 10, "per": "60s"})) as client:
        for _ in range(5):
            get(client, api.url)
    assert time.passed_s == pytest.approx(24)


# redirects, and other hosts ------------------------------------------------------------------------------------------
def test_a_redirect_is_followed_with_what_belongs_to_the_host(api):
    api.answer = then_good(Reply(status=302, headers={"Location": "/elsewhere?page=2"}))
    token = {"type": "bearer", "token": "tok-12345678"}
    with closing(client_of(api.url, authentication=token, query={"v": 3})) as client:
        get(client, f"{api.url}/rows")
    second = api.asked[1]
    assert (second.path, second.query) == ("/elsewhere", {"page": "2", "v": "3"})
    assert second.headers["authorization"] == "Bearer tok-12345678"


@pytest.mark.parametrize(
    "said",
    [
        {"authentication": {"type": "bearer", "token": "tok-12345678"}},
        {"authentication": {"type": "api_key", "key": "tok-12345678", "query": "api_key"}},
        {"headers": {"X-Api-Key": "tok-12345678"}},
        {"query": {"api_key": "tok-12345678"}},
    ],
)
def test_another_host_gets_nothing_of_what_the_spec_says(api, other, said):
    api.answer = lambda _asked: Reply(status=307, headers={"Location": f"{other.url}/rows"})
    with closing(client_of(api.url, **said)) as client:
        assert get(client, f"{api.url}/rows") == GOOD.body
    assert "tok-12345678" in str(api.asked[0])
    assert "tok-12345678" not in str(other.asked[0])


def test_another_host_gets_no_body(api, other):
    from strandline.connectors.rest.client import json_of
    from strandline.connectors.rest.request import Request

    api.answer = lambda _asked: Reply(status=307, headers={"Location": f"{other.url}/rows"})
    with closing(client_of(api.url)) as client, pytest.raises(TaskError, match="no body of ours"):
        client.ask(Request("POST", api.url, body={"password": "pw"}), lambda: None, json_of)
    assert other.asked == []


def test_a_circle_of_redirects_is_left(api):
    api.answer = lambda asked: Reply(status=302, headers={"Location": "/b" if asked.path == "/a" else "/a"})
    with closing(client_of(api.url)) as client, pytest.raises(TaskError, match="in a circle"):
        get(client, f"{api.url}/a")


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[broken", "http://127.0.0.1:99999/"]
)
def test_nobody_is_sent_to_what_is_no_url_of_http(api, where):
    api.answer = lambda _asked: Reply(status=302, headers={"Location": where})
    with closing(client_of(api.url)) as client, pytest.raises(TaskError):
        get(client, f"{api.url}/a")
    assert len(api.asked) == 1


def test_a_chain_of_redirects_ends(api):
    api.answer = lambda asked: Reply(status=302, headers={"Location": f"/{asked.number + 1}"})
    with closing(client_of(api.url)) as client, pytest.raises(TaskError, match="more than 10 redirects"):
        get(client, f"{api.url}/0")


def test_nobody_is_sent_from_https_to_http():
    from strandline.connectors.rest.client import _redirected
    from strandline.connectors.rest.request import Request

    with pytest.raises(TaskError, match="not encrypted"):
        _redirected(Request("GET", "https://api.example.com/a"), 302, "http://api.example.com/a")


def seen_as(port, wide):
    """The first connection leads to the internet, as far as the client can see; others are what they are."""
    first = []

    def found(address):
        if not first:
            first.append(address)
            return wide
        return reach(address)

    return found


def test_an_api_cannot_send_us_to_where_only_we_are(api, other):
    api.answer = lambda _asked: Reply(
        status=302, headers={"Location": f"http://localhost:{other.port}/latest/meta-data"}
    )
    with closing(client_of(api.url, reach=seen_as(api.port, EVERYWHERE))) as client, pytest.raises(TaskError) as caught:
        get(client, f"{api.url}/rows")
    assert "private_addresses: allow" in caught.value.hint
    assert other.asked == []
    allowed = client_of(api.url, reach=seen_as(api.port, EVERYWHERE), private_addresses="allow")
    with closing(allowed) as client:
        assert get(client, f"{api.url}/rows") == GOOD.body


@pytest.mark.parametrize(
    ("address", "wide"),
    [
        ("127.0.0.1", LOCAL),
        ("::1", LOCAL),
        ("0.0.0.0", LOCAL),
        ("::ffff:127.0.0.1", LOCAL),
        ("169.254.169.254", LOCAL + 1),
        ("fe80::1%eth0", LOCAL + 1),
        ("10.1.2.3", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fd00::1", PRIVATE),
        ("2002:0a00:0001::", PRIVATE),
        ("140.82.121.6", EVERYWHERE),
        ("2606:50c0:8000::154", EVERYWHERE),
    ],
)
def test_how_far_an_address_reaches(address, wide):
    assert reach(address) == wide


def test_no_error_shows_what_is_secret(api):
    secret = "s3cr3t-0123456789"
    for reply in (Reply({"you sent": secret}, status=400), Reply(failure="hang up"), Reply(secret.encode())):
        api.answer = lambda _asked, reply=reply: reply
        key = {"type": "api_key", "key": secret, "query": "key"}
        with (
            closing(client_of(api.url, attempts=1, authentication=key)) as client,
            pytest.raises(StrandlineError) as caught,
        ):
            get(client, f"{api.url}/rows")
        assert secret not in f"{caught.value.message} {caught.value.hint}"
