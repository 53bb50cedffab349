"""The sources of APIs: ``rest``, from a server that lives beside the syncs, and the functions of a module in the world's folder.

``t`` comes in no order, ``s`` by its key, and ``f`` is read in full. What an API has removed stays in an incremental table.
"""

import random
from datetime import UTC, datetime, timedelta

from campaign.series import Series
from services.api import Api, Reply
from strandline.testing.campaign.chains import Spoiled

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
PAGE = 4
_BAD_ID = 9_999


def _stamp(second):
    return None if second is None else f"{BEGIN + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}"


class Records:
    """What an API has of one table after some steps."""

    def __init__(self, series, *, by_key=False, late=True):
        self.series, self._by_key, self._late, self._rows, self.now_s = series, by_key, late, {}, 0

    def change(self, step):
        change = self.series.steps[step]
        self.now_s = max([self.now_s, *(second or 0 for second, _ in change.upserts.values())])
        for id_, (second, v) in {**change.late, **change.upserts}.items():
            is_now = (id_ in change.late and not self._late) or (self._by_key and second is None)
            self._rows[id_] = {"id": id_, "at": _stamp(self.now_s if is_now else second), "v": v}
        for id_ in change.deletes:
            del self._rows[id_]

    def sorted(self, chance):
        """By their key, or in no order at all."""
        rows = list(self._rows.values())
        if self._by_key:
            return sorted(rows, key=lambda row: (row["at"], row["id"]))
        chance.shuffle(rows)
        return rows


class ApiOrigin:
    """What both have. See ``campaign.origins.Origin``."""

    late = True

    def __init__(self, kept, mode, seed):
        self._chance = random.Random(f"{seed}/order")
        names = {"t": {"first_rows": 11, "few": 3}, "s": {"first_rows": 8, "few": 3}, "f": {"first_rows": 6, "few": 2}}
        series = {name: Series(f"{seed}/{name}", **sizes) for name, sizes in names.items()}
        mirrored = mode == "overwrite-delete-stale"
        self.tables = {
            name: kept(one, full=name == "f", deletes=mirrored and name == "f") for name, one in series.items()
        }
        self.records = {name: Records(one, by_key=name == "s", late=self.late) for name, one in series.items()}
        self.rows, self.bad = {}, []

    def change(self, step):
        for records in self.records.values():
            records.change(step)
        self.rows = {name: one.sorted(self._chance) for name, one in self.records.items()}
        self.serve()

    def serve(self):
        """Let the syncs see ``rows`` and ``bad``."""

    def spoils(self):
        """A key that is no time."""

        def spoil(rows):
            self.bad = rows
            self.serve()

        wrong = {"id": _BAD_ID, "at": True, "v": "bad"}
        yield Spoiled("unreadable", lambda: spoil([wrong]), lambda: spoil([]))


class RestServer:
    """The API, which can be stopped as a server is that dies, and started again at its port."""

    def __init__(self, answer):
        # connections that stand are cut, too
        self._answer = lambda asked: Reply(failure="hang up") if self._api is None else answer(asked)
        self._api, self.port = None, 0
        self.start()

    def start(self):
        self._api = Api(self._answer, self.port).__enter__()
        self.port = self._api.port

    def stop(self):
        api, self._api = self._api, None
        if api is not None:
            api.__exit__()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"
