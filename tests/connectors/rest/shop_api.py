"""A shop with an API: tables in every order and pagination, which change on demand and fail on demand."""

from datetime import UTC, datetime, timedelta

from services.api import Api, Asked, Reply, paged

__all__ = ["SPEC", "Shop"]

START = datetime(2026, 1, 1, tzinfo=UTC)

SPEC = {
    "pagination": {"type": "link"},
    "concurrency": 3,
    "tables": {
        # newest first, pages that shift
        "issues": {
            "path": "issues",
            "primary_key": ["id"],
            "incremental_key": "updated_at",
            "query": {"since": "{since}", "per_page": 4},
        },
        "comments": {"parent": "issues", "path": "issues/{parent.id}/comments", "primary_key": ["id"]},
        # children of children, to any depth
        "reactions": {
            "parent": "comments",
            "path": "issues/{parent.parent.id}/comments/{parent.id}/reactions",
            "primary_key": ["id"],
        },
        "voters": {
            "parent": "reactions",
            "path": "reactions/{parent.id}/voters",
            "query": {"of": "{parent.parent.parent.title}"},
        },
        # in order, by a token in the body
        "events": {
            "path": "events",
            "method": "POST",
            "body": {"filter": {"from": "{since:unix}"}},
            "records": "data.items",
            "pagination": {"type": "token", "path": "data.next", "body": "token"},
            "primary_key": ["id"],
            "incremental_key": "at",
            "sorted": True,
            "lag": "10s",
        },
        # in no order, by windows of time
        "visits": {
            "path": "visits",
            "query": {"from": "{since}", "to": "{until}"},
            "primary_key": ["id"],
            "incremental_key": "at",
            "start": "2026-01-01",
            "window": "2m",
        },
        # all of it at each sync, without a key
        "things": {"path": "things", "pagination": {"type": "offset", "query": "skip"}, "records": "rows"},
    },
}
"""Without `base_url`."""


def moment(minutes, seconds=0):
    return (START + timedelta(minutes=minutes, seconds=seconds)).isoformat().replace("+00:00", "Z")


class Shop:
    """Its data at step 0, 1, 2…; the clock is half an hour later for each."""

    def __init__(self, step=0, size=11):
        self.step, self.size = step, size

    @property
    def now(self):
        return START + timedelta(minutes=30 * (self.step + 1))

    @property
    def issues(self):
        """At each step two of the old ones have changed, one of them with another set of comments, and two are new."""
        rows = {
            n: {"id": n, "title": f"issue {n}", "updated_at": moment(n), "user": {"login": f"u{n % 3}"}}
            for n in range(self.size)
        }
        for step in range(1, self.step + 1):
            for n in (step, step + 1, self.size + 2 * step, self.size + 1 + 2 * step):
                rows[n] = {"id": n, "title": f"step {step}", "updated_at": moment(30 * step, n), "user": {"login": "u"}}
        return sorted(rows.values(), key=lambda row: row["updated_at"], reverse=True)

    def comments(self, issue):
        title = next((row["title"] for row in self.issues if row["id"] == issue), "")
        numbers = range(issue % 3) if title.startswith("issue") else range(1, 2 + issue % 3)
        return [{"id": issue * 10 + n, "text": f"{title} {n}"} for n in numbers]

    def reactions(self, issue, comment):
        """As many as the text of the comment allows, which changes."""
        text = next((one["text"] for one in self.comments(issue) if one["id"] == comment), "")
        return [{"id": comment * 10 + n, "kind": "+-"[n % 2]} for n in range((len(text) + comment) % 3)]

    @staticmethod
    def voters(reaction, title):
        return [{"name": f"{title} {n}"} for n in range(1 + reaction % 2)]

    @property
    def events(self):
        """Several at one time."""
        count = self.size + 2 + 4 * self.step
        return [
            {"id": f"e{n}", "at": int(START.timestamp()) + (n // 3) * 100, "tags": ["x"] * (n % 3)}
            for n in range(count)
        ]

    @property
    def visits(self):
        return [{"id": n * 7 % 17, "at": moment(n // 2)} for n in range(self.size + 6)] + [
            {"id": 100 + n, "at": moment(30 * n, 1)} for n in range(1, self.step + 1)
        ]

    def _comments(self):
        return [(row["id"], one["id"]) for row in self.issues for one in self.comments(row["id"])]

    def _title(self, issue):
        return next(row["title"] for row in self.issues if row["id"] == issue)

    @property
    def things(self):
        return [{"name": f"thing {n}", "price": n / 4 if n % 2 else n} for n in range(9 + self.step)]

    def __call__(self, asked: Asked) -> Reply:
        reply = self._reply(asked)
        reply.date = self.now.timestamp()
        return reply

    def _reply(self, asked):
        since = asked.query.get("since", asked.query.get("from", ""))
        match asked.path.strip("/").split("/"):
            case ["issues"]:
                return paged(
                    asked, [row for row in self.issues if row["updated_at"] >= since], int(asked.query["per_page"])
                )
            case ["issues", number, "comments"]:
                return paged(asked, self.comments(int(number)), 2)
            case ["issues", number, "comments", comment, "reactions"]:
                return paged(asked, self.reactions(int(number), int(comment)), 1)
            case ["reactions", number, "voters"]:
                return Reply(self.voters(int(number), asked.query["of"]))
            case ["events"]:
                rows = [row for row in self.events if row["at"] >= asked.json.get("filter", {}).get("from", 0)]
                at = int(asked.json.get("token", 0))
                return Reply(
                    {"data": {"items": rows[at : at + 5], "next": str(at + 5) if at + 5 < len(rows) else None}}
                )
            case ["visits"]:
                return paged(asked, [row for row in self.visits if since <= row["at"] <= asked.query["to"]], 3)
            case ["things"]:
                at = int(asked.query.get("skip", 0))
                return Reply({"rows": self.things[at : at + 4]})
        return Reply({"message": "no such thing"}, status=404)

    def serve(self) -> Api:
        return Api(self)

    def tables(self):
        """What has to be stored: texts that are times are times."""
        found = {
            "issues": self.issues,
            "comments": [{"issues_id": row["id"], **one} for row in self.issues for one in self.comments(row["id"])],
            "reactions": [
                {"issues_id": issue, "comments_id": comment, **one}
                for issue, comment in self._comments()
                for one in self.reactions(issue, comment)
            ],
            "voters": [
                {"issues_id": issue, "comments_id": comment, "reactions_id": one["id"], "position": n, **voter}
                for issue, comment in self._comments()
                for one in self.reactions(issue, comment)
                for n, voter in enumerate(self.voters(one["id"], self._title(issue)))
            ],
            "events": self.events,
            "visits": self.visits,
            "things": self.things,
        }
        return {
            name: [{column: _typed(value) for column, value in row.items()} for row in rows]
            for name, rows in found.items()
        }


def _typed(value):
    return datetime.fromisoformat(value) if isinstance(value, str) and value.startswith("2026-") else value
