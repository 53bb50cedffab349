"""The source ``files`` on object stores: what changes there, and what goes wrong there."""

import json
import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from pydantic import ValidationError
from synced_objects import Asked, Server, SyncedObjects, served

from services.s3 import S3
from strandline.cli._places import meant
from strandline.connectors.files import object_file
from strandline.connectors.files import objects as files_objects
from strandline.connectors.files import source as files_source
from strandline.connectors.files.objects import ObjectPlace
from strandline.errors import RetryableError, TaskError, UnreachableError, UsageError
from strandline.message import Checkpoint, Insert
from strandline.plugins import load_plugin
from strandline.reading import Reading

PLUGIN = load_plugin("source", "files")


@pytest.fixture(scope="module")
def server():
    with S3() as started:
        yield started


@pytest.fixture
def s3(server):
    server.empty()
    return server


@pytest.fixture
def fetched(monkeypatch):
    """What is fetched: name and range."""
    ranges = []
    real = ObjectPlace.fetch

    def fetch(place, file, look, start, end):
        ranges.append((file.key, start, end))
        return real(place, file, look, start, end)

    monkeypatch.setattr(ObjectPlace, "fetch", fetch)
    return ranges


@pytest.fixture
def small_requests(monkeypatch):
    monkeypatch.setattr(object_file, "_FIRST_BYTES", 1_000)
    monkeypatch.setattr(object_file, "_CHUNK_BYTES", 1_000)
    monkeypatch.setattr(object_file, "_FOOTER_BYTES", 1_000)
    monkeypatch.setattr(files_source, "HEAD_BYTES", 1_000)


def parquet(rows: list[dict], **options) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue().to_pybytes()


def csv(numbers) -> str:
    return "n,text\n" + "".join(f"{n},text{n}\n" for n in numbers)


def numbers(rows: list[dict]) -> list[int]:
    return [row["n"] for row in rows]


# What changes ---------------------------------------------------------------------------------------------------------
def test_new_and_replaced_objects_are_read_and_no_others(s3):
    objects = SyncedObjects(s3, "/**/*.parquet", table="t", file_column="file")
    objects.write("a.parquet", parquet([{"n": 1}]))
    objects.write("x/b.parquet", parquet([{"n": 2}]))
    objects.write("x/c.csv", "n\n7\n")
    assert objects.rows() == [{"n": 1, "file": "a.parquet"}, {"n": 2, "file": "x/b.parquet"}]
    assert objects.rows() == []
    objects.write("a.parquet", parquet([{"n": 1}, {"n": 3}]))
    objects.write("x/y/d.parquet", parquet([{"n": 4}]))
    assert numbers(objects.rows()) == [1, 3, 4]
    assert objects.rows() == []


def test_an_object_that_is_written_again_as_it_was_is_not_read_again(s3, fetched):
    objects = SyncedObjects(s3, table="t")
    for name, content in (("a.csv", csv(range(3))), ("b.csv", csv(range(3, 5)))):
        objects.write(name, content)
    assert numbers(objects.rows()) == [0, 1, 2, 3, 4]
    objects.cursors["t"]["files"]["a.csv"][1] -= 10**9  # it was a second older than it is
    fetched.clear()
    assert objects.rows() == []
    assert ("a.csv", 0, len(csv(range(3)))) in fetched


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_object_of_the_same_size_and_time_is_read_again_by_its_etag(s3, ending):
    objects = SyncedObjects(s3, table="t")

    def write(numbers) -> None:
        content = parquet([{"n": n} for n in numbers], compression="none", use_dictionary=False, write_statistics=False)
        objects.write(f"a.{ending}", "".join(f"{n}\n" for n in ["n", *numbers]) if ending == "csv" else content)

    write([1, 2])
    assert numbers(objects.rows()) == [1, 2]
    write([7, 8])
    (known,) = objects.cursors["t"]["files"].values()
    (file,) = objects.source()._listed("t")
    known[1] = file.look.mtime_ns
    assert known[0] == file.look.size
    assert numbers(objects.rows()) == [7, 8]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_of_an_object_that_is_replaced_by_a_longer_one_that_begins_so_the_rest_is_read(s3, name):
    objects = SyncedObjects(s3, table="t")

    def content(numbers) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "gzip") as stream:
            stream.write(csv(numbers).encode())
        return sink.getvalue().to_pybytes() if name.endswith(".gz") else csv(numbers).encode()

    objects.write(name, content(range(3)))
    assert numbers(objects.rows()) == [0, 1, 2]
    objects.write(name, content(range(5)))
    assert numbers(objects.rows()) == [3, 4]
    objects.write(name, content([9, *range(1, 7)]))  # not the same beginning
    assert numbers(objects.rows()) == [9, 1, 2, 3, 4, 5, 6]


def test_an_object_that_begins_otherwise_fails_where_that_is_asked_for(s3):
    objects = SyncedObjects(s3, table="t", on_replace="fail")
    objects.write("a.csv", csv(range(3)))
    objects.rows()
    objects.write("a.csv", csv([9]))
    with pytest.raises(TaskError, match=r"been replaced: a\.csv"):
        objects.rows()


def test_the_rest_of_a_line_is_waited_for(s3):
    objects = SyncedObjects(s3, table="t")
    objects.write("a.csv", csv(range(2)) + "2,te")
    assert numbers(objects.rows(after=timedelta(0))) == [0, 1]
    objects.append("a.csv", "xt2\n")
    assert objects.rows() == [{"n": 2, "text": "text2"}]


def test_a_deleted_object_is_forgotten_or_an_error(s3):
    objects = SyncedObjects(s3, table="t")
    objects.write("a.csv", csv(range(3)))
    objects.write("b.csv", csv(range(3, 5)))
    objects.rows()
    objects.remove("a.csv")
    with pytest.raises(TaskError, match=r"vanished: a\.csv"):
        objects.rows(on_vanish="fail")
    assert objects.rows() == []
    assert objects.cursors["t"]["gone"] == [1, 3]
    objects.write("a.csv", csv(range(3)))
    assert numbers(objects.rows()) == [0, 1, 2]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_object_under_a_new_key_is_not_read_again(s3, ending):
    objects = SyncedObjects(s3, table="t")
    objects.write(f"a.{ending}", csv(range(3)) if ending == "csv" else parquet([{"n": n} for n in range(3)]))
    assert numbers(objects.rows()) == [0, 1, 2]
    objects.rename(f"a.{ending}", f"b.{ending}")
    assert objects.rows() == []


# What changes while it is read ----------------------------------------------------------------------------------------
def disturbed(objects: SyncedObjects, disturb) -> list[int]:
    """The numbers of a sync in which something happens after the first rows."""
    found, waits = [], True
    for _, message in objects.read(rows_max=50, bytes_max=1_000):
        if isinstance(message, Insert):
            found += message.batch.column("n").to_pylist()
        if isinstance(message, Checkpoint) and found and waits:
            waits = False
            disturb()
    return found


def test_an_object_that_is_replaced_while_it_is_read_is_read_again(s3, small_requests, monkeypatch):
    monkeypatch.setattr(object_file, "_CHUNKS_MAX", 1)
    objects = SyncedObjects(s3, table="t")
    objects.write("a.csv", csv(range(3_000)))
    other = csv(range(10_000, 14_000))
    with pytest.raises(RetryableError, match=r"a\.csv: replaced while it was read"):
        disturbed(objects, lambda: objects.write("a.csv", other))
    assert numbers(objects.rows()) == list(range(10_000, 14_000))


def test_an_object_that_becomes_longer_while_it_is_read_is_read_on(s3, small_requests):
    objects = SyncedObjects(s3, table="t")
    objects.write("a.csv", csv(range(3_000)))
    assert disturbed(objects, lambda: objects.append("a.csv", "3000,x\n")) == list(range(3_000))
    assert numbers(objects.rows()) == [3_000]


def test_an_object_that_becomes_shorter_while_it_is_read_is_compared_again(s3, small_requests):
    objects = SyncedObjects(s3, table="t")
    objects.write("a.csv", csv(range(3_000)))
    with pytest.raises(RetryableError, match="replaced while it was read"):
        disturbed(objects, lambda: objects.write("a.csv", csv(range(2_000))))
    delivered = objects.cursors["t"]["files"]["a.csv"][8]
    assert delivered < 2_000
    assert numbers(objects.rows()) == list(range(delivered, 2_000))


def test_a_parquet_object_that_is_replaced_while_it_is_read_is_read_again(s3, small_requests):
    objects = SyncedObjects(s3, table="t")
    rows = [{"n": n} for n in range(3_000)]
    objects.write("a.parquet", parquet(rows, row_group_size=500))
    with pytest.raises(RetryableError, match=r"a\.parquet: replaced while it was read"):
        disturbed(objects, lambda: objects.write("a.parquet", parquet(rows[::-1], row_group_size=500)))
    assert numbers(objects.rows()) == list(range(2_999, -1, -1))


# Ranges ---------------------------------------------------------------------------------------------------------------
def test_of_parquet_the_footer_tells_the_columns_and_a_resumed_reading_fetches_the_rest(s3, small_requests, fetched):
    objects = SyncedObjects(s3, table="t")
    rows = [{"n": n, "text": f"{n * 7919 % 10_007}"} for n in range(40_000)]
    content = parquet(rows, row_group_size=10_000, compression="none", use_dictionary=False)
    objects.write("a.parquet", content)
    objects.table()
    assert {name for name, *_ in fetched} == {"a.parquet"}
    assert sum(end - start for _, start, end in fetched) < len(content) / 4
    reading = objects.read(rows_max=10_000)
    for _, message in reading:
        if isinstance(message, Checkpoint):
            break
    reading.close()
    fetched.clear()
    assert numbers(objects.rows(rows_max=10_000)) == list(range(10_000, 40_000))
    second_group = pq.ParquetFile(pa.BufferReader(content)).metadata.row_group(1).column(0).data_page_offset
    assert min(start for _, start, _ in fetched) >= second_group


def test_lines_are_fetched_in_pieces_of_which_a_few_are_ahead(s3, small_requests, fetched):
    objects = SyncedObjects(s3, table="t")
    objects.write("a.csv", csv(range(3_000)))
    source = objects.source()
    (task,) = source.tasks(source.tables())
    messages = source.read(task, objects.reading(None, rows_max=50, bytes_max=1_000))
    fetched.clear()
    assert next(messages).batch.num_rows == 50
    assert max(end for _, _, end in fetched) <= object_file._FIRST_BYTES + (object_file._CHUNKS_MAX + 1) * 1_000
    messages.close()


def test_the_beginnings_of_small_objects_are_fetched_at_once(s3, monkeypatch):
    objects = SyncedObjects(s3, table="t")
    for number in range(30):
        objects.write(f"{number}.csv", csv([number]))
    at_once, most = [], []
    real = files_objects.obstore.get

    def get(*arguments, **more):
        at_once.append(1)
        most.append(len(at_once))
        found = real(*arguments, **more)
        at_once.pop()
        return found

    monkeypatch.setattr(files_objects.obstore, "get", get)
    assert numbers(objects.rows()) == list(range(30))
    assert 1 < max(most) <= 8
    for number in range(30):
        objects.write(f"{number}.csv", csv([number, 100 + number]))
    most.clear()
    assert numbers(objects.rows()) == list(range(100, 130))  # each is compared with what was read of it
    assert 1 < max(most) <= 8


# Names ----------------------------------------------------------------------------------------------------------------
def test_keys_may_have_any_letters(s3):
    objects = SyncedObjects(s3, table="t", file_column="file")
    names = ["a b.csv", "p%20q.csv", "h#x.csv", "q?x.csv", "st*r.csv", "ü.csv", "pl+us.csv", "t~.csv", "b[1].csv"]
    for at, name in enumerate(names):
        objects.write(name, csv([at]))
    found = {row["n"]: row["file"].replace("%25", "%") for row in objects.rows()}
    assert found == dict(enumerate(names))


def test_tables_and_columns_stand_in_keys_and_hidden_ones_are_passed_over(s3):
    objects = SyncedObjects(s3)
    objects.write("orders/day=2026-01-01/a.csv", "n\n1\n")
    objects.write("orders/_tmp/b.csv", "n\n2\n")
    objects.write("_delta_log/0.json", "{}")
    objects.write("users.csv", "n\n3\n")
    requests.put(f"{s3.endpoint}/bucket/in/empty/", data=b"", timeout=10)  # as a console makes a directory
    found = objects.sync()
    assert found.keys() == {"orders", "users"}
    assert [(row["n"], str(row["day"])) for row in found["orders"]] == [(1, "2026-01-01")]


def test_one_object_may_be_named(s3):
    objects = SyncedObjects(s3, "/x/a.csv")
    objects.write("x/a.csv", csv([1]))
    objects.write("x/a.csv.bak/a.csv", csv([2]))
    assert {name: numbers(rows) for name, rows in objects.sync().items()} == {"a": [1]}
    objects.append("x/a.csv", "2,x\n")
    assert {name: numbers(rows) for name, rows in objects.sync().items()} == {"a": [2]}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("ftp://host/x.csv", "s3://bucket/prefix"),
        ("s3:///x.csv", "s3://bucket/prefix"),
        ("s3://key:word@bucket/x.csv", "no user and no password"),
        ("https://host/x.csv?sig=word", "has no query"),
    ],
)
def test_a_url_that_is_none_or_may_have_a_secret_in_it_is_refused(path, said):
    with pytest.raises(ValidationError, match=said):
        PLUGIN.Spec(path=path)


def test_what_is_written_below_the_prefix_is_noticed(s3):
    source = SyncedObjects(s3, "/*/*.parquet").source()
    lake = load_plugin("destination", "delta")

    def places(url: str, options: dict[str, str]) -> list[str]:
        return list(lake(lake.Spec(path=url, options=options)).places())

    assert source.reaches(places("s3://bucket/in", s3.options))
    assert not source.reaches(places("s3://bucket/other", s3.options))
    assert not source.reaches(places("s3://bucket/in", s3.options | {"endpoint": "http://127.0.0.1:1"}))


# What goes wrong ------------------------------------------------------------------------------------------------------
def answering(status: int, code: str, **headers):
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return Server(lambda _: (status, {"Content-Type": "application/xml"} | headers, body))


def opened(url: str, **more):
    words = {"access_key_id": "someone", "secret_access_key": "s3cret-word", "region": "us-east-1"}
    return PLUGIN(PLUGIN.Spec(path="s3://bucket/in/", options={"endpoint": url} | words | more))


@pytest.mark.parametrize(
    ("status", "code", "headers", "hint"),
    [
        (403, "AccessDenied", {}, "s3:ListBucket"),
        (403, "InvalidAccessKeyId", {}, "access key is not known"),
        (400, "ExpiredToken", {}, "have expired"),
        (404, "NoSuchBucket", {}, "no such bucket"),
        (301, "PermanentRedirect", {}, "region"),
        (400, "AuthorizationHeaderMalformed", {}, "region"),
    ],
)
def test_a_refusal_says_what_to_do_and_no_secret(status, code, headers, hint):
    with answering(status, code, **headers) as server, pytest.raises(UsageError) as error:
        opened(server.url, token="t0ken-word").tables()
    assert "s3://bucket/in" in error.value.message
    assert hint in error.value.hint
    assert not {"s3cret-word", "t0ken-word"} & set(
        f"{error.value.message} {error.value.hint}".replace("'", " ").split()
    )


def test_a_signature_in_a_url_is_not_shown():
    options = {"account_name": "acc", "sas_token": "sv=2021&sig=s3cret-word"}
    with Server(lambda _: (403, {}, b"no")) as server:
        source = PLUGIN(PLUGIN.Spec(path="az://box/in/", options=options | {"endpoint": f"{server.url}/acc"}))
        with pytest.raises(UsageError) as error:
            source.tables()
    assert server.asked
    assert "s3cret-word" not in f"{error.value.message} {error.value.hint}"


def test_an_object_that_may_not_be_read_fails_its_table(s3, monkeypatch):
    objects = SyncedObjects(s3, table="t")
    objects.write("a.csv", csv([1]))

    def get(store, path, **more):
        raise PermissionError("403 Forbidden: <Code>AccessDenied</Code>")

    monkeypatch.setattr(files_objects.obstore, "get", get)
    with pytest.raises(TaskError, match=r"a\.csv: 403") as error:
        objects.table()
    assert "s3:GetObject" in error.value.hint
    monkeypatch.undo()
    assert numbers(objects.rows()) == [1]


def test_an_object_that_vanishes_before_it_is_read_is_listed_again(s3):
    objects = SyncedObjects(s3, table="t")
    objects.write("a.csv", csv([1]))
    objects.write("b.csv", csv([2]))
    source = objects.source()
    (task,) = source.tasks(source.tables())
    listed, _ = source._survey("t", {}, time.time_ns())
    objects.remove("b.csv")
    with pytest.raises(RetryableError, match=r"b\.csv: vanished"):
        listed[0].place.open(listed[1])
    assert [
        message.batch.num_rows for message in source.read(task, objects.reading(None)) if isinstance(message, Insert)
    ] == [1]


def test_a_store_that_is_not_there_is_unreachable(monkeypatch):
    monkeypatch.setattr("strandline.connectors.files.objects._RETRIES", 0)
    with pytest.raises(UnreachableError, match="could not be listed"):
        opened("http://127.0.0.1:1").tables()


def test_a_key_that_the_driver_cannot_hold_is_named(s3):
    objects = SyncedObjects(s3)
    requests.put(f"{s3.endpoint}/bucket/in//x.csv", data=b"n\n1\n", timeout=10)
    with pytest.raises(UsageError, match=r"in//x\.csv") as error:
        objects.tables()
    assert "rename" in error.value.hint


def test_a_passing_failure_is_repeated():
    content = csv([1, 2]).encode()
    listed = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>1</KeyCount><Contents><Key>in/a.csv</Key>"
        f"<LastModified>2020-12-01T05:00:00.000Z</LastModified><ETag>&quot;1&quot;</ETag><Size>{len(content)}</Size></Contents>"
        "</ListBucketResult>"
    )
    fails = iter([503, 500, 200])
    read = served(content, {"ETag": '"1"'})

    def answer(asked: Asked):
        if "list-type" in asked.path:
            return 200, {}, listed.encode()
        status = next(fails, 200)
        return read(asked) if status == 200 else (status, {}, b"")

    with Server(answer) as server:
        (table,) = opened(server.url).tables()
    assert table.schema.names == ["n", "text"]
    assert table.unreadable is None


def test_credentials_that_expire_are_renewed():
    """As in a container: the machine hands out keys for some minutes, and the driver asks for the next in time."""
    given, used = [], []

    def answer(asked: Asked):
        if asked.path == "/credentials":
            given.append(f"key{len(given)}")
            soon = datetime.now(UTC) + timedelta(seconds=1)
            words = {
                "AccessKeyId": given[-1],
                "SecretAccessKey": "s",
                "Token": "t",
                "Expiration": f"{soon:%Y-%m-%dT%H:%M:%SZ}",
            }
            return 200, {}, json.dumps(words).encode()
        used.append(asked.headers["authorization"].partition("Credential=")[2].partition("/")[0])
        return 200, {}, b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"

    with Server(answer) as server:
        options = {
            "endpoint": server.url,
            "region": "us-east-1",
            "container_credentials_full_uri": f"{server.url}/credentials",
            "container_authorization_token_file": "/dev/null",
        }
        place = ObjectPlace("s3://bucket/in/", options)
        for _ in range(200):  # it asks again after a tenth of a second at the earliest
            if len(given) < 2:
                assert place.find() == []
    assert used[0] == "key0"
    assert used[-1] == "key1"


# https ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"ETag": 'W/"1"'}, {}])
def test_a_file_of_a_server_is_read_when_it_has_changed(headers):
    content = csv(range(3)).encode()
    answers = [served(content, headers)]
    with Server(lambda asked: answers[-1](asked)) as server:  # noqa: PLW0108 -- the last one then
        objects = SyncedObjects.__new__(SyncedObjects)
        objects.spec = {"path": f"{server.url}/data/a%20b.csv", "options": {"authorization": "Bearer word"}}
        objects.cursors, objects.messages = {}, []
        assert numbers(objects.rows()) == [0, 1, 2]
        assert {asked.headers.get("authorization") for asked in server.asked} == {"Bearer word"}
        assert {asked.path for asked in server.asked} == {"/data/a%20b.csv"}
        assert objects.rows() == []
        newer = {"ETag": headers["ETag"].replace("1", "2")} if headers else {}
        answers.append(served(csv(range(5)).encode(), newer))
        assert numbers(objects.rows()) == [3, 4]


@pytest.mark.parametrize(
    ("written", "plugin"),
    [
        ("https://host/data/orders.csv", "files"),
        ("http://host/data/orders.jsonl.gz", "files"),
        ("s3://bucket/data/", "files"),
        ("https://host/v1/orders", "rest"),
        ("https://host/openapi.json", "rest"),
        ("https://host/v1/orders?page=1", "rest"),
    ],
)
def test_a_url_is_a_file_by_its_name_and_else_an_api(written, plugin):
    assert meant(written, "source").plugin == plugin


def test_a_server_is_not_asked_for_lists():
    with Server(lambda _: (404, {}, b"")) as server:
        source = PLUGIN(PLUGIN.Spec(path=f"{server.url}/data/*.csv"))
        with pytest.raises(UsageError, match="there is no file") as error:
            source.tables()
    assert "name one file" in error.value.hint


def test_a_server_has_to_serve_ranges_of_a_large_file():
    content = csv(range(200_000)).encode()
    answer = 200, {"Last-Modified": "Tue, 01 Dec 2020 05:00:00 GMT"}, content
    with Server(lambda _: answer) as server:
        source = PLUGIN(PLUGIN.Spec(path=f"{server.url}/a.csv"))
        (task,) = source.tasks(source.tables())
        with pytest.raises(TaskError, match="does not serve ranges"):
            list(source.read(task, Reading(None, datetime.now(UTC))))
