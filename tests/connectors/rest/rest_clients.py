"""What tests of the source ``rest`` share: a client with a clock of its own, and syncs into DuckDB."""

from datetime import UTC, datetime, timedelta

from strandline.connectors.rest.authentication import credentials_of
from strandline.connectors.rest.client import Client, Clock, json_of
from strandline.connectors.rest.request import Request
from strandline.connectors.rest.settings import RestSettings
from strandline.connectors.rest.transport import Transport

__all__ = ["TestClock", "client_of", "get"]


class TestClock:
    """Time passes only where somebody sleeps."""

    __test__ = False

    def __init__(self, start=datetime(2026, 1, 1, tzinfo=UTC)):
        self.start, self.slept = start, []

    @property
    def passed_s(self):
        return sum(self.slept)

    def clock(self):
        return Clock(
            monotonic_s=lambda: 1_000 + self.passed_s,
            now=lambda: self.start + timedelta(seconds=self.passed_s),
            sleep=self.slept.append,
            chance=lambda: 0.5,
        )


def client_of(url, time=None, *, reach=None, **said):
    """The client that a source with these settings has."""
    settings = RestSettings.model_validate({"base_url": url, **said})
    clock = (time or TestClock()).clock()
    token_url = getattr(settings.authentication, "url", None)
    transport = Transport(
        url,
        trusted=[str(token_url)] if token_url else [],
        timeout_s=settings.timeout,
        answer_timeout_s=settings.answer_timeout,
        answer_max=settings.answer_max,
        connections=settings.concurrency,
        allows_narrower=settings.private_addresses == "allow",
        **({"reach": reach} if reach else {}),
    )
    limit = settings.rate_limit
    return Client(
        transport,
        home=url,
        headers=settings.headers,
        query=settings.query,
        credentials=credentials_of(settings.authentication, url, clock),
        attempts=settings.attempts,
        wait_max_s=settings.wait_max.total_seconds(),
        every_s=limit.per / limit.requests if limit else 0.0,
        clock=clock,
    )


def get(client, url, **more):
    """The JSON of a GET."""
    return client.ask(Request("GET", url, **more), lambda: None, json_of)
