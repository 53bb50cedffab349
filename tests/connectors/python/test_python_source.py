"""Python functions as a source: the suite, kills, and what an author may declare."""

import asyncio
import enum
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, TypedDict
from uuid import UUID

import pyarrow as pa
import pydantic
import pytest

import strandline as sl
from sampling import SHARE
from strandline.errors import RetryableError, TaskError, UsageError
from strandline.message import Insert, Replace
from strandline.plugins import load_plugin
from strandline.reading import Reading
from strandline.testing.kills import KillConformance
from strandline.testing.source import SourceConformance

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def source(*functions):
    cls = load_plugin("source", "python")
    return cls(cls.Spec(functions=list(functions)))


def read(*functions, cursor=None, **reading):
    one = source(*functions)
    return {task.id: list(one.read(task, Reading(cursor, NOW, **reading))) for task in one.tasks(one.tables())}


def rows_of(messages, table):
    return [row for one in messages if isinstance(one, Insert) and one.table == table for row in one.batch.to_pylist()]


def stored(count, changed=0):
    """Issues as an API has them, sorted by when they were changed."""
    at = [NOW - timedelta(days=60, minutes=-n // 3) for n in range(count)]
    rows = [{"id": n, "at": at[n], "title": f"issue {n}", "labels": ["a"] * (n % 3)} for n in range(count)]
    late = [
        {"id": n, "at": NOW - timedelta(days=1, minutes=-n), "title": "changed", "labels": []} for n in range(changed)
    ]
    return [row for row in rows if row["id"] >= changed] + late


def functions(rows, **declared):
    @sl.table(primary_key="id", incremental_key="at", **declared)
    def issues(cursor):
        found = [row for row in rows if cursor is None or row["at"] >= cursor]
        for start in range(0, len(found), 2):
            yield found[start : start + 2]

    @sl.table(parent=issues)
    def comments(issue):
        yield [{"text": f"{issue['title']} {n}"} for n in range(issue["id"] % 3)]

    return issues, comments


class TestSortedWithChildren(SourceConformance):
    @pytest.fixture
    def rows(self):
        return stored(14)

    @pytest.fixture
    def make_source(self, rows):
        return lambda: source(*functions(rows, sorted=True))

    @pytest.fixture
    def change(self, rows):
        def change():
            rows[:] = stored(16, changed=3)

        return change


class TestAsyncWithCheckpointsInPartitions(SourceConformance):
    @pytest.fixture
    def make_source(self):
        rows = [{"id": number, "name": f"n{number}"} for number in range(7)]

        @sl.table(partitions=["eu", "us"])
        async def orders(cursor, region):
            for end in range((cursor or {}).get("row", 0) + 2, len(rows) + 2, 2):
                await asyncio.sleep(0)
                yield pa.RecordBatch.from_pylist([row | {"region": region} for row in rows[end - 2 : end]])
                yield sl.checkpoint({"row": min(end, len(rows))})

        return lambda: source(orders)


class KilledFunction(KillConformance):
    SHARE = SHARE
    STEPS = 2
    ROWS_MAX = 4
    DESTINATION = "sqlite"
    SORTED = False

    @pytest.fixture
    def plugins(self):
        destination, backend = load_plugin("destination", self.DESTINATION), load_plugin("state_backend", "local")
        suffix = "" if self.DESTINATION == "files" else ".db"
        return lambda directory, step: (
            source(*functions(stored(4, changed=step), sorted=self.SORTED)),
            destination(destination.Spec(path=str(directory / f"warehouse{suffix}"))),
            backend(backend.Spec(path=str(directory / "states"))),
        )

    @pytest.fixture
    def rows(self):
        def of_both(step):
            appended = self.WRITE_MODE == "append" and step
            issues = stored(4, changed=step) + (stored(1) if appended else [])
            texts = [(issue["id"], n, issue["title"]) for issue in issues for n in range(issue["id"] % 3)]
            comments = [{"issues_id": i, "position": n, "text": f"{title} {n}"} for i, n, title in texts]
            return {"issues": issues, "comments": comments}

        return of_both


class TestKilledInAppendMode(KilledFunction):
    SORTED = True


# what it may yield ---------------------------------------------------------------------------------------------------
class Kind(enum.Enum):
    BUG = "bug"


@dataclass
class User:
    id: int
    name: str | None


@dataclass
class Issue:
    id: int
    price: Decimal
    at: datetime
    day: date
    kind: Kind
    user: User
    tags: list[str]
    size: Literal["s", "m"]
    note: Annotated[float | None, "of its author"] = None
    extra: dict[str, Any] | None = None
    uid: UUID | None = None


class Typed(TypedDict):
    id: int
    name: NotRequired[str]


class Model(pydantic.BaseModel):
    id: int
    user: dict[str, int]


def test_a_dataclass_is_a_schema_and_its_objects_are_rows():
    @sl.table
    def issues() -> Iterator[Issue]:
        calls.append(1)
        yield Issue(1, Decimal("1.5"), NOW, NOW.date(), Kind.BUG, User(7, None), ["a"], "s", extra={"b": 1})

    calls = []
    [table] = source(issues).tables()
    assert calls == [], "what is declared needs no look"
    assert [str(one.type) for one in table.schema] == [
        "int64", "decimal128(38, 18)", "timestamp[us, tz=UTC]", "date32[day]", "string",
        "struct<id: int64, name: string>", "list<item: string>", "string", "double", "extension<arrow.json>", "extension<arrow.uuid>",
    ]  # fmt: skip
    [row] = rows_of(read(issues)["issues"], "issues")
    assert (row["user"], row["kind"], row["extra"]) == ({"id": 7, "name": None}, "bug", '{"b": 1}')


def test_typed_dicts_models_and_mappings_declare_columns_and_other_fields_come_as_well():
    @sl.table
    def typed() -> list[Typed]:
        return [{"id": 1}, {"id": 2, "name": "b"}]

    @sl.table
    async def models() -> AsyncIterator[list[Model]]:
        yield [Model(id=1, user={"a": 1})]

    @sl.table(columns={"id": int}, types={"price": "decimal(10, 2)"})
    def mapped():
        yield {"id": 1, "price": 2, "more": True}
        yield {"id": 2}

    tables = {table.name: table for table in source(typed, models, mapped).tables()}
    assert tables["typed"].schema == pa.schema([("id", pa.int64()), ("name", pa.string())])
    assert tables["models"].schema == pa.schema([("id", pa.int64()), ("user", pa.json_())])
    messages = read(typed, models, mapped)
    assert rows_of(messages["typed"], "typed") == [{"id": 1, "name": None}, {"id": 2, "name": "b"}]
    assert rows_of(messages["models"], "models") == [{"id": 1, "user": '{"a": 1}'}]
    assert rows_of(messages["mapped"], "mapped")[1] == {"id": 2, "price": None, "more": None}


def test_a_parent_that_comes_again_names_its_children_and_a_child_alone_brings_its_parent():
    issues, comments = functions(stored(4))
    messages = read(comments)["issues"]
    assert next(one.keys.to_pylist() for one in messages if isinstance(one, Replace))[0] == {"issues_id": 0}
    assert {row["issues_id"] for row in rows_of(messages, "comments")} == {1, 2}
    one = source(issues, comments)
    [task] = one.tasks([table for table in one.tables() if table.name == "comments"])
    assert not rows_of(one.read(task, Reading(None, NOW)), "issues")


def test_a_program_may_use_the_function_itself():
    issues, _ = functions(stored(1))
    assert [len(page) for page in issues(None)] == [1]


# what goes wrong -----------------------------------------------------------------------------------------------------
class AnswerError(Exception):
    def __init__(self, status, **headers):
        super().__init__(f"answer {status}")
        self.response = type("Response", (), {"status_code": status, "headers": headers})()


@pytest.mark.parametrize(
    ("error", "kind", "after_s"),
    [
        (KeyError("updated"), TaskError, 0),
        (AnswerError(403), TaskError, 0),
        (AnswerError(429, **{"Retry-After": "7"}), RetryableError, 7),
        (ConnectionResetError("gone"), RetryableError, 0),
    ],
)
def test_an_error_of_a_function_says_where_it_was_raised_and_whether_it_passes(error, kind, after_s):
    @sl.table(columns={"id": int})
    def issues():
        yield [{"id": 1}]
        raise error

    with pytest.raises(kind, match=r"^issues: .*\(test_python_source.py:\d+\)") as caught:
        read(issues)
    assert getattr(caught.value, "after_s", 0) == after_s


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ({"sorted": True}, "no incremental key"),
        ({"key": "id"}, "unexpected keyword argument 'key'"),
        ({"types": {"a": "nonsense"}}, "is not a type"),
    ],
)
def test_what_is_declared_wrongly_is_said_at_once(declared, what):
    with pytest.raises(UsageError, match=what):

        @sl.table(**declared)
        def issues(cursor):
            yield []


def test_a_function_of_unknown_arguments_and_two_of_one_name_are_refused():
    with pytest.raises(UsageError, match="'limit'"):
        sl.table(lambda cursor, limit: [], name="issues")
    one, other = functions(stored(1))
    with pytest.raises(UsageError, match="two functions are table 'issues'"):
        source(one, replace(other, name="issues", parent=None)).tables()


def test_a_cursor_of_another_type_is_said_to_be_none_of_this_function():
    issues, _ = functions(stored(2))
    with pytest.raises(TaskError, match="cursor") as caught:
        read(issues, cursor={"since": "not a time", "columns": {"at": "timestamp[us, tz=UTC]"}})
    assert caught.value.hint
