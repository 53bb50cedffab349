"""Chains of pages that are asked for before their turn: how far, in which order they come, and what of them is nobody's concern."""

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from threading import Event

import pytest
from rest_clients import TestClock
from shop_api import moment

from services.api import Api, Reply
from strandline.connectors.rest.source import RestSource
from strandline.errors import RetryableError, TaskError
from strandline.message import Checkpoint, Insert
from strandline.reading import Reading

WAIT_S = 60
SHORT_S = 0.3
NOW = datetime(2026, 2, 1, tzinfo=UTC)
SIZE = 2
WAYS = {
    "link": {"type": "link"},
    "next_url": {"type": "next_url", "path": "next"},
    "token": {"type": "token", "path": "next", "query": "page"},
}


@pytest.fixture
def api():
    with Api(lambda _asked: Reply([])) as api:
        yield api


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


def number_of(asked):
    return int(asked.query.get("page", "1"))


def page(way, number, following, text=""):
    """Of a chain; it names the ``following`` one."""
    rows = [{"id": id_, "at": moment(id_), "text": text} for id_ in range((number - 1) * SIZE, number * SIZE)]
    url = None if following is None else f"/rows?page={following}"
    if way == "link":
        return Reply({"rows": rows}, headers={"Link": f'<{url}>; rel="next"'} if url else {})
    return Reply({"rows": rows, "next": following if way == "token" else url})


def source_of(api, way):
    table = {"path": "rows", "records": "rows", "primary_key": ["id"], "incremental_key": "at", "sorted": True}
    said = {"base_url": api.url, "pagination": WAYS[way], "attempts": 2, "tables": {"rows": table}}
    return RestSource(RestSource.Spec.model_validate(said), clock=TestClock(NOW).clock())


@contextmanager
def begun(api, way, batch_rows=SIZE):
    """A reading whose first rows were taken, and no others."""
    with closing(source_of(api, way)) as source:
        [task] = source.tasks(source.tables())
        api.asked.clear()
        reading = Reading(None, NOW, batch_rows=batch_rows)
        with closing(reading), closing(source.read(task, reading)) as messages:
            yield Taken(messages)


class Taken:
    """What is taken of a reading: the first rows at once."""

    def __init__(self, messages):
        self.messages, self.ids, self.after, self.error = messages, [], None, None
        self._take(next(messages))

    def _take(self, message):
        if isinstance(message, Insert):
            self.ids += message.batch["id"].to_pylist()
        elif isinstance(message, Checkpoint):
            self.after = message.cursor.get("after")

    def rest(self, rows=None):
        """All of them; or until there are ``rows``."""
        try:
            for message in self.messages:
                self._take(message)
                if rows is not None and len(self.ids) >= rows:
                    break
        except (TaskError, RetryableError) as error:
            self.error = error
        return self


def test_a_chain_goes_on_while_a_page_is_taken_and_no_further_than_some_pages(api, way):
    reached = {number: Event() for number in (20, 50)}

    def answer(asked):
        number = number_of(asked)
        if number in reached:
            reached[number].set()
        return page(way, number, number + 1 if number < 80 else None)

    api.answer = answer
    with begun(api, way) as taken:
        assert reached[20].wait(WAIT_S)
        assert not reached[50].wait(SHORT_S)
        taken.rest(rows=50)
        assert reached[50].wait(WAIT_S)
        assert taken.rest().error is None
    assert taken.ids == [*range(160)]
    assert sorted(map(number_of, api.asked)) == [*range(1, 81)]


def test_of_large_pages_few_are_ahead(api):
    too_far = Event()

    def answer(asked):
        number = number_of(asked)
        if number == 8:
            too_far.set()
        return page("link", number, number + 1 if number < 9 else None, text="x" * (2 << 20))

    api.answer = answer
    with begun(api, "link") as taken:
        assert not too_far.wait(2 * SHORT_S)
        assert taken.rest().error is None
    assert taken.ids == [*range(18)]


def test_an_error_of_a_later_page_comes_behind_all_that_was_read_before_it(api, way):
    def answer(asked):
        number = number_of(asked)
        return Reply({"message": "none"}, status=404) if number == 9 else page(way, number, number + 1)

    api.answer = answer
    with begun(api, way, batch_rows=10_000) as taken:
        assert "404" in str(taken.rest().error)
    # the last row waits for others of its time
    assert taken.ids == [*range(15)]
    assert datetime.fromisoformat(taken.after) == datetime.fromisoformat(moment(14))


def test_a_circle_is_asked_for_once_and_all_before_it_is_told(api, way):
    def answer(asked):
        number = number_of(asked)
        return page(way, number, 2 if number == 5 else number + 1)

    api.answer = answer
    with begun(api, way, batch_rows=10_000) as taken:
        assert "the same next page twice" in str(taken.rest().error)
    assert taken.ids == [*range(7)]
    assert [*map(number_of, api.asked)] == [1, 2, 3, 4, 5]


def test_nothing_is_asked_for_once_nobody_takes_more(api, way):
    goes_on, asked_again = Event(), Event()

    def answer(asked):
        number = number_of(asked)
        if number == 3:
            goes_on.wait(WAIT_S)
        elif number == 4:
            asked_again.set()
        return page(way, number, number + 1)

    api.answer = answer
    with begun(api, way) as taken:
        taken.messages.close()
        goes_on.set()
        assert not asked_again.wait(SHORT_S)


def test_a_page_that_comes_broken_first_counts_as_it_comes_then(api):
    """Also in what it names: the page that it had named is nobody's concern."""
    broken = [Reply(b'{"rows": [', headers={"Link": '</rows?page=77>; rel="next"'})]

    def answer(asked):
        number = number_of(asked)
        if number == 77:
            return Reply({"message": "none"}, status=404)
        if number == 4 and broken:
            return broken.pop()
        return page("link", number, number + 1 if number < 9 else None)

    api.answer = answer
    with begun(api, "link") as taken:
        assert taken.rest().error is None
    assert taken.ids == [*range(18)]
    assert 77 in map(number_of, api.asked)
