"""JSON documents: arrays, objects over several lines, and records at a path, read as if they were JSON lines."""

import gzip
import json
import random
from datetime import timedelta

import pytest
from synced_files import SyncedFiles

from strandline.connectors.arrow.json_path import json_path
from strandline.connectors.files.json_documents import RECORD_BYTES_MAX, DocumentError, is_document, records
from strandline.errors import TaskError
from strandline.message import Insert

YOUNG = timedelta(seconds=1)
ROWS = [{"id": 1, "s": "a"}, {"id": 2, "s": "é\n[{"}, {"id": 3, "s": None}]


@pytest.fixture
def files(tmp_path):
    return SyncedFiles(tmp_path / "in")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps(ROWS, indent="\t").replace("\n", "\r\n"),
        "\ufeff" + json.dumps(ROWS, ensure_ascii=False),
        "\n\n  " + json.dumps(ROWS) + "\n\n",
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        " ".join(json.dumps(row, indent=1) for row in ROWS),
        "\n".join(json.dumps([row]) for row in ROWS),
    ],
    ids=["in a line", "indented", "windows", "bom", "space around", "objects", "objects in a line", "arrays"],
)
def test_every_object_and_every_element_is_a_record(files, text):
    files.write("t.json", text)
    assert files.rows() == ROWS
    assert files.rows() == []


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("items", {"next": 1, "items": ROWS}),
        ("data.items", {"data": {"total": 3, "items": ROWS, "more": [[1]]}, "items": [{"id": 9}]}),
        ("*", [ROWS[:1], ROWS[1:]]),
        ("*.items", [{"items": ROWS[:2]}, {"items": None}, {"items": ROWS[2:]}]),
        ("*.data.items", [{"data": {"items": ROWS}}, {"data": None}]),
        ("*", {"a": ROWS[0], "b": ROWS[1:]}),
        ('"a.b"."*"', {"a.b": {"*": ROWS, "c": 1}}),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_records_may_lie_at_a_path(files, path, document, indent):
    files.write("t.json", json.dumps(document, indent=indent))
    assert files.rows(records=path) == ROWS


def test_a_table_may_have_a_path_of_its_own(files):
    files.write("a.json", json.dumps({"x": ROWS}))
    files.write("b.json", json.dumps({"y": ROWS}))
    assert files.sync(records="x", tables={"b": {"records": "y"}}) == {"a": ROWS, "b": ROWS}


@pytest.mark.parametrize(
    ("text", "records_", "line", "what"),
    [
        ('[\n{"id": 1},\n{"id": 2}', None, 1, "the array that begins here does not end"),
        ('[\n{"id": 1},\n{"id": ', None, 3, "does not end"),
        ('[\n{"id": 1},\n{"id": "x', None, 3, "does not end"),
        ('[\n{"id": 1},\n{"id": 2},\n]', None, 4, "Expecting value"),
        ('[\n{"id": 1}\n{"id": 2}]', None, 3, "']' is missing"),
        ('[\n{"id": 1},\n7]', None, 3, "not an object: 7"),
        ('[\n{"id": 1},\n{"id": NaN}]', None, 3, "NaN is no number"),
        ('[\n{"id": 1}]\nrest', None, 3, "Expecting value"),
        ('{\n"id": 1,\n"b" 2}', None, 3, "Expecting ':'"),
        (
            '{\n"items": [{"id": 1}]}',
            "data.items",
            1,
            "`records` names 'data', which is no key of the object here: 'items'",
        ),
        ('{\n"items": 7}', "items.x", 2, "no object lies where `records` names 'x'"),
        ('{\n"items": [{"id": 1}],\n"items": [{"id": 2}]}', "items", 3, "the key 'items' comes twice"),
        ('{"items": [\n{"id": 1}]', "items", 1, "the object that begins here does not end"),
    ],
)
def test_what_is_no_document_fails_with_its_line(files, text, records_, line, what):
    files.write("t.json", text)
    with pytest.raises(TaskError) as raised:
        files.rows(records=records_)
    assert f"t.json:{line}: " in raised.value.message
    assert what in raised.value.message
    assert raised.value.hint


def test_bytes_that_are_no_text_fail_with_their_line(files):
    files.write("t.json", b'[\n{"id": "a"},\n{"id": "caf\xe9"}]')
    with pytest.raises(TaskError, match=r"t\.json:3: .*UTF-8"):
        files.rows()


def test_what_comes_before_a_fault_is_delivered(files):
    files.write("t.json", '[{"id": 1},\n{"id": 2},\n{"id": x}]')
    rows = []
    with pytest.raises(TaskError, match=r"t\.json:3: "):
        rows.extend(row for _, one in files.read() if isinstance(one, Insert) for row in one.batch.to_pylist())
    assert rows == [{"id": 1}, {"id": 2}]


def test_a_document_that_is_still_being_written_is_read_as_far_as_it_goes(files):
    files.write("t.json", '[{"id": 1},\n{"id": 2},\n{"i')
    assert files.rows(after=YOUNG) == [{"id": 1}, {"id": 2}]
    files.write("t.json", '[{"id": 1},\n{"id": 2},\n{"id": 3}]')
    assert files.rows() == [{"id": 3}]
    assert files.rows() == []


@pytest.mark.parametrize(
    "end", ['{"id":tru', '{"id":3.', '{"id":-', '{"id":1e', '{"id":3', '{"id":"x', '{"id"', '{"id":3}', "", "{"]
)
def test_wherever_a_document_is_cut_it_waits(files, end):
    files.write("t.json", '[{"id": 1},\n{"id": 2},\n' + end)
    rows = files.rows(after=YOUNG)
    assert rows == [{"id": 1}, {"id": 2}] + ([{"id": 3}] if end.endswith("}") else [])


def test_while_a_document_is_written_another_file_may_be_renamed(files):
    files.write("t/1.json", '[{"id": 1}]')
    assert files.rows() == [{"id": 1}]
    (files.path / "t/1.json").rename(files.path / "t/3.json")
    files.write("t/4.json", '[{"id": 4},\n{"id": ')
    assert files.rows(after=YOUNG) == [{"id": 4}]
    assert files.rows(after=YOUNG) == []


def test_with_unfinished_fail_a_document_that_does_not_end_fails_at_once(files):
    files.write("t.json", '[{"id": 1},\n')
    with pytest.raises(TaskError, match="does not end"):
        files.rows(after=YOUNG, on_unfinished="fail")


def test_an_array_that_has_more_elements_has_grown(files):
    files.write("t.json", json.dumps(ROWS[:2], indent=2))
    assert files.rows() == ROWS[:2]
    files.write("t.json", json.dumps(ROWS, indent=2))
    assert files.rows() == ROWS[2:]


def test_a_document_that_was_compressed_and_renamed_is_not_read_again(files):
    path = files.write("t/1.json", json.dumps(ROWS, indent=2))
    assert files.rows() == ROWS
    files.write("t/2.json.gz", gzip.compress(path.read_bytes()))
    path.unlink()
    assert files.rows() == []


def test_arrays_and_lines_may_lie_side_by_side(files):
    files.write("t/1.json", json.dumps(ROWS[:1]))
    files.write("t/2.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS[1:]))
    assert files.rows() == ROWS


def test_an_empty_array_has_no_rows(files):
    files.write("t/1.json", "[]")
    files.write("t/2.json", json.dumps(ROWS))
    assert files.rows() == ROWS


def test_numbers_and_texts_stay_as_they_are_written():
    text = '[{"a": 1.10, "b": 9007199254740993, "c": 1E+2, "d": "\\u00e9\\ud800\\/"},\n {"e": %s}]' % ("9" * 5000)
    found = [line for line, _ in records(iter([text.encode()]))]
    assert found == [
        b'{"a": 1.10, "b": 9007199254740993, "c": 1E+2, "d": "\\u00e9\\ud800\\/"}\n',
        b'{"e": %s}\n' % (b"9" * 5000),
    ]


def test_where_the_blocks_end_does_not_matter():
    document = {"x": {"deep": [[1, [2]], {"k": "}"}]}, "data": {"n": -1.5e7, "items": ROWS * 3}, "z": [True, None]}
    chance = random.Random(1)
    for indent in (None, 1):
        data = json.dumps(document, indent=indent, ensure_ascii=False).encode()
        for most in (1, 2, 7, 50):
            blocks, at = [], 0
            while at < len(data):
                size = chance.randint(1, most)
                blocks.append(data[at : at + size])
                at += size
            found = [json.loads(line) for line, _ in records(iter(blocks), json_path("data.items"))]
            assert found == ROWS * 3


def test_what_stands_beside_the_records_may_be_larger_than_memory():
    def blocks():
        yield b'{"big": ["'
        yield from (b'xxxxxxxxxx", "' * 100_000 for _ in range(60))
        yield b'"], "items": [{"id": 1}]}'

    assert list(records(blocks(), ("items",))) == [(b'{"id": 1}\n', 1)]


def test_a_record_has_a_largest_size():
    half = b"x" * (RECORD_BYTES_MAX // 2 + 1)
    with pytest.raises(DocumentError, match="more than 64 MiB"):
        list(records(iter([b'[{"a": "', half, half, b'"}]'])))


@pytest.mark.parametrize("depth", [100, 100_000])
def test_depth_ends_no_process(depth):
    with pytest.raises(DocumentError):
        list(records(iter([b"[" + b'{"a":' * depth])))


@pytest.mark.parametrize(
    ("head", "yes"),
    [
        (b'{"a": 1}\n{"a": 2}\n', False),
        (b'{"a": "{["}\n', False),
        (b'{"a": "\\"{"}\n', False),
        (b'{"a": [1', False),
        (b'{\n"a": 1}', True),
        (b'\n \t{"a": [\n1]}', True),
        (b"\xef\xbb\xbf[", True),
        (b"7\n", False),
        (b"", False),
    ],
)
def test_documents_are_told_from_lines_by_their_first_line(head, yes):
    assert is_document(head) == yes


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", 'a"b', '"a'])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ValueError, match="is no path"):
        json_path(path)


def test_a_path_is_keys_with_dots_between_them():
    assert json_path('data."a.b \\" c".*."*".$odd key') == ("data", 'a.b " c', None, "*", "$odd key")


# Lines first, and then objects that go over several


MIXED = '{"id": 1, "s": "{"}\n{"id": 2}\n{\n  "id": 3,\n  "s": "x"\n}\n{"id": 4}\n'


def test_objects_over_several_lines_may_follow_others_in_a_line(files):
    files.write("t.jsonl", MIXED)
    assert [row["id"] for row in files.rows()] == [1, 2, 3, 4]
    files.append("t.jsonl", '{"id": 5}\n')
    assert [row["id"] for row in files.rows()] == [5]


@pytest.mark.parametrize("cuts", [[4], [20], [20, 22], [20, 31, 33], [32, 40, 58], range(1, len(MIXED), 3)], ids=str)
def test_a_file_that_was_read_as_lines_goes_on_as_a_document(files, cuts):
    files.write("u.jsonl", '{"id": 0, "s": ""}\n')
    delivered, now = [], timedelta(0)
    for at, end in zip([0, *cuts], [*cuts, len(MIXED)], strict=True):
        path = files.path / "t.jsonl"
        before = path.read_text() if path.exists() else ""
        path.write_text(before + MIXED[at:end])
        delivered += [row["id"] for row in files.sync(after=now).get("t", [])] if end > 18 else []
    delivered += [row["id"] for row in files.sync().get("t", [])]
    assert delivered == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "first", ['\ufeff{"id": 1}\n', '{"id": 1}\r\n', '{"id": 1} \n', '{"id": 1}\n\n', ' {"id": 1}\n']
)
def test_where_the_lines_before_would_be_others_in_a_document_the_line_fails_and_says_why(files, first):
    files.write("t.jsonl", first + '{\n"id": 2\n}\n')
    with pytest.raises(TaskError) as error:
        files.rows()
    assert error.value.hint.endswith("that have a line each and no blanks around them")
    files.write("t.jsonl", first + '{"id": 2}\n')
    assert files.rows()[-1:] == [{"id": 2}]


def test_the_same_content_is_the_same_document_when_it_is_packed(files):
    files.write("t.jsonl", MIXED)
    assert len(files.rows()) == 4
    (files.path / "t.jsonl").rename(files.path / "t.jsonl.1")
    packed = gzip.compress((files.path / "t.jsonl.1").read_bytes())
    (files.path / "t.jsonl.1").unlink()
    files.write("t.jsonl.1.gz", packed)
    files.write("t.jsonl", '{"id": 9}\n')
    assert [row["id"] for row in files.rows(path=str(files.path), table="t")] == [9]
