"""The specs in `examples/rest`, against servers that behave as the documentation of each API says; each is synced twice."""

import base64
import json
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from services.api import Api, Reply, paged

EXAMPLES = Path(__file__).parents[3] / "examples" / "rest"
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=10)


def iso(at):
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def refused(asked, scheme, value):
    if asked.headers.get("authorization") != f"{scheme} {value}":
        return Reply({"message": "Bad credentials"}, status=401)
    return None


class GitHub:
    """https://docs.github.com/en/rest/using-the-rest-api: Link, `since`, newest first, a secondary rate limit."""

    environment = {"GITHUB_API": "URL", "GITHUB_REPOSITORY": "o/r", "GITHUB_TOKEN": "ghp_0123456789"}  # noqa: RUF012 -- of a test
    before = {"issues": 150, "comments": 120, "commits": 110}  # noqa: RUF012 -- likewise
    after = {"issues": 151, "comments": 121, "commits": 111}  # noqa: RUF012 -- likewise

    def __init__(self):
        self.more, self.limited = 0, False

    def rows(self, what):
        count = self.before[what] + self.more
        times = [iso(START + timedelta(minutes=n))[:19] + "Z" for n in range(count)]
        if what == "commits":
            rows = [
                {"sha": f"{n:040x}", "commit": {"message": "m", "committer": {"name": "x", "date": at}}}
                for n, at in enumerate(times)
            ]
        else:
            rows = [{"id": n, "updated_at": at, "user": {"login": "x"}, "labels": []} for n, at in enumerate(times)]
        return list(zip(times, rows, strict=True))[::-1]

    def __call__(self, asked):
        if bad := refused(asked, "Bearer", "ghp_0123456789"):
            return bad
        if not self.limited:
            self.limited = True
            return Reply(
                {"message": "You have exceeded a secondary rate limit"}, status=403, headers={"Retry-After": "0"}
            )
        what = asked.path.removeprefix("/repos/o/r/")
        name = {"issues": "issues", "issues/comments": "comments", "commits": "commits"}[what]
        assert name != "issues" or asked.query["state"] == "all"
        found = [row for at, row in self.rows(name) if at >= asked.query.get("since", "")]
        return paged(asked, found, int(asked.query["per_page"]))

    def check(self, later):
        assert {one.path for one in later if "since" in one.query} == {
            f"/repos/o/r/{what}" for what in ("issues", "issues/comments", "commits")
        }


class GitHubGraphQL:
    """https://docs.github.com/en/graphql/guides/using-pagination-in-the-graphql-api."""

    environment = {"GITHUB_API": "URL", "GITHUB_OWNER": "o", "GITHUB_NAME": "r", "GITHUB_TOKEN": "ghp_0123456789"}  # noqa: RUF012 -- likewise
    before, after = {"issues": 120}, {"issues": 121}

    def __init__(self):
        self.more = 0

    def __call__(self, asked):
        sent = asked.json["variables"]
        if (sent["owner"], sent["name"]) != ("o", "r"):
            return Reply({"data": None, "errors": [{"message": "Could not resolve to a Repository"}]})
        rows = [
            {"number": n, "updatedAt": iso(START + timedelta(minutes=n))[:19] + "Z"} for n in range(120 + self.more)
        ]
        rows = [row for row in rows if row["updatedAt"] >= sent.get("since", "")]
        at = int(base64.b64decode(sent["after"])) if "after" in sent else 0
        info = {"hasNextPage": at + 100 < len(rows), "endCursor": base64.b64encode(str(at + 100).encode()).decode()}
        return Reply({"data": {"repository": {"issues": {"nodes": rows[at : at + 100], "pageInfo": info}}}})

    def check(self, later):
        assert any("since" in one.json["variables"] for one in later)


class Stripe:
    """https://docs.stripe.com/api/pagination: newest first, `starting_after`, times in seconds."""

    environment = {"STRIPE_API": "URL", "STRIPE_KEY": "sk_test_0123456789"}  # noqa: RUF012 -- likewise
    before = dict.fromkeys(("events", "charges", "customers"), 105)
    after = dict.fromkeys(("events", "charges", "customers"), 106)

    def __init__(self):
        self.more = 0

    def __call__(self, asked):
        if bad := refused(asked, "Basic", base64.b64encode(b"sk_test_0123456789:").decode()):
            return bad
        prefix = asked.path.rpartition("/")[2][:2]
        rows = [
            {
                "id": f"{prefix}_{n:03}",
                "created": int(START.timestamp()) + n,
                "data": {"object": {"id": n, f"f{n % 5}": 1}},
            }
            for n in range(105 + self.more)
        ][::-1]
        rows = [row for row in rows if row["created"] >= int(asked.query.get("created[gte]", 0))]
        after = asked.query.get("starting_after")
        at = next((n + 1 for n, row in enumerate(rows) if row["id"] == after), 0)
        page = rows[at : at + int(asked.query["limit"])]
        return Reply({"object": "list", "data": page, "has_more": at + len(page) < len(rows), "url": asked.path})

    def check(self, later):
        assert {one.query["created[gte]"] for one in later if "created[gte]" in one.query} == {
            str(int(START.timestamp()) + 103)
        }


class Jira:
    """https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search: JQL, `nextPageToken`."""

    environment = {"JIRA_SITE": "URL", "JIRA_USER": "me@example.com", "JIRA_TOKEN": "tok-0123456789"}  # noqa: RUF012 -- likewise
    before, after = {"issues": 30, "comments": 30}, {"issues": 31, "comments": 30}

    def __init__(self):
        self.more = 0

    def __call__(self, asked):
        if bad := refused(asked, "Basic", base64.b64encode(b"me@example.com:tok-0123456789").decode()):
            return bad
        if found := re.fullmatch(r"/rest/api/3/issue/(\d+)/comment", asked.path):
            number, at = int(found[1]), int(asked.query.get("startAt", 0))
            rows = [{"id": f"{number}-{n}", "body": {"type": "doc", "content": []}} for n in range(number % 3)]
            return Reply({"startAt": at, "total": len(rows), "comments": rows[at : at + 1]})
        since = re.fullmatch(r'updated >= "(\d{4}-\d\d-\d\d \d\d:\d\d)" order by updated', asked.query["jql"])[1]
        rows = [
            {
                "id": str(n),
                "key": f"A-{n}",
                "fields": {"summary": "s", "updated": iso(START + timedelta(hours=n))[:-1] + "+0000"},
            }
            for n in range(30 + self.more)
        ]
        rows = [row for row in rows if row["fields"]["updated"][:16].replace("T", " ") >= since]
        at = int(asked.query.get("nextPageToken", 0))
        return Reply(
            {"issues": rows[at : at + 13]}
            | ({"nextPageToken": str(at + 13)} if at + 13 < len(rows) else {"isLast": True})
        )

    def check(self, later):
        assert any('"2026-01-02 0' in one.query.get("jql", "") for one in later)


class HubSpot:
    """https://developers.hubspot.com/docs/api/crm/search: filters in milliseconds, `after`, and no more than 10,000 results."""

    environment = {"HUBSPOT_API": "URL", "HUBSPOT_TOKEN": "pat-0123456789", "HUBSPOT_START": "2025-11-01"}  # noqa: RUF012 -- likewise
    before, after = {"contacts": 130}, {"contacts": 131}

    def __init__(self):
        self.more = 0

    def __call__(self, asked):
        if bad := refused(asked, "Bearer", "pat-0123456789"):
            return bad
        low, high = (int(one["value"]) for one in asked.json["filterGroups"][0]["filters"])
        times = [START - timedelta(hours=10 * n) for n in range(130)] + [START + timedelta(hours=1)] * self.more
        rows = [{"id": str(n), "updatedAt": iso(at), "properties": {"email": f"{n}@x"}} for n, at in enumerate(times)]
        rows = [row for row, at in zip(rows, times, strict=True) if low <= at.timestamp() * 1000 <= high]
        at = int(asked.json.get("after", 0))
        more = {"paging": {"next": {"after": str(at + 100)}}} if at + 100 < len(rows) else {}
        return Reply({"total": len(rows), "results": rows[at : at + 100], **more})

    def check(self, later):
        lows = {one.json["filterGroups"][0]["filters"][0]["value"] for one in later}
        assert int(START.timestamp() * 1000) - 1_000 in lows


class Pokemon:
    """https://pokeapi.co/docs/v2#resource-listspagination-section."""

    environment = {"POKEMON_API": "URL"}  # noqa: RUF012 -- likewise
    before, after = {"pokemon": 30, "details": 30}, {"pokemon": 31, "details": 31}

    def __init__(self):
        self.more = 0

    def __call__(self, asked):
        count, name = 30 + self.more, asked.path.removeprefix("/api/v2/pokemon").strip("/")
        if name:
            number = int(name[1:])
            return Reply(
                {"id": number, "name": name, "height": number, "stats": [{"stat": {"name": "hp"}, "base_stat": number}]}
            )
        at, size = int(asked.query.get("offset", 0)), min(20, int(asked.query["limit"]))
        rows = [{"name": f"p{n}", "url": f"{asked.url}/api/v2/pokemon/{n}/"} for n in range(count)]
        url = f"{asked.url}{asked.path}?offset={at + size}&limit={size}" if at + size < count else None
        return Reply({"count": count, "next": url, "previous": None, "results": rows[at : at + size]})

    def check(self, later):
        assert "/api/v2/pokemon/p30" in {one.path for one in later}


class CKAN:
    """https://docs.ckan.org/en/latest/maintaining/datastore.html#ckanext.datastore.logic.action.datastore_search."""

    environment = {"CKAN_PORTAL": "URL", "CKAN_RESOURCE": "d9d1"}  # noqa: RUF012 -- likewise
    before, after = {"rows": 45}, {"rows": 46}

    def __init__(self):
        self.more = 0

    def __call__(self, asked):
        assert (asked.path, asked.query["resource_id"]) == ("/api/3/action/datastore_search", "d9d1")
        rows = [{"_id": n, "name": f"n{n}", "rank": n / 2} for n in range(45 + self.more)]
        at = int(asked.query.get("offset", 0))
        return Reply(
            {"success": True, "result": {"total": len(rows), "records": rows[at : at + 20]}}
        )  # 20 at most, here

    def check(self, later):
        assert {one.query.get("offset") for one in later} >= {None, "20", "40"}


PLAYED = {
    "github": GitHub,
    "github-graphql": GitHubGraphQL,
    "stripe": Stripe,
    "jira": Jira,
    "hubspot": HubSpot,
    "pokemon": Pokemon,
    "ckan": CKAN,
}


def test_every_example_is_played():
    assert {path.stem for path in EXAMPLES.glob("*.yml")} == PLAYED.keys()


@pytest.mark.parametrize("name", PLAYED)
def test_an_example_syncs_all_and_then_what_is_new(cli, name):
    played = PLAYED[name]()

    def answer(asked):
        reply = played(asked)
        reply.date = NOW.timestamp()
        return reply

    spec = EXAMPLES / f"{name}.yml"
    with Api(answer) as api:
        environment = {key: value.replace("URL", api.url) for key, value in played.environment.items()}
        counts = []
        for step in range(2):
            played.more, first = step, len(api.asked)
            done = cli("sync", spec, **environment)
            assert done.exit_code == 0, done.output
            counts.append(stored(spec, played.before))
        later = api.asked[first:]
    assert counts == [played.before, played.after]
    played.check(later)
    for secret in [value for key, value in environment.items() if "TOKEN" in key or "KEY" in key]:
        assert secret not in done.output + json.dumps([str(path) for path in Path().rglob("*")])


def stored(spec, tables):
    path = re.search(r"(\w+\.duckdb)", spec.read_text("utf-8"))[1]
    with closing(duckdb.connect(path, read_only=True)) as connection:
        return {one: connection.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in tables}
