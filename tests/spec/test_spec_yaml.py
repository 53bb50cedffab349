"""YAML as it is read: which values, where they stand, and what is refused."""

import math
import time
from pathlib import Path

import pytest

from strandline.spec.document import File, parse, read


def documents(text):
    problems = []
    found = parse(File("s.yml", text), problems)
    assert problems == []
    return [node.plain() for node in found]


def problem(text):
    problems = []
    parse(File("s.yml", text), problems)
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("", None),
        ("~", None),
        ("null", None),
        ("7", 7),
        ("-7", -7),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ('"7"', "7"),
        ("'true'", "true"),
        ("!important", None),
    ],
)
def test_a_scalar_follows_the_core_schema_of_yaml_1_2(written, value):
    if written.startswith("!"):
        assert "tag" in problem(f"a: {written}").message
    else:
        found = documents(f"a: {written}")[0]["a"]
        assert (type(found), found) == (type(value), value)


def test_not_a_number_is_one():
    assert math.isnan(documents("a: .nan")[0]["a"])


def test_keys_are_texts_as_they_were_written():
    assert documents("{1: a, true: b, ~: c, 'x y': d}") == [{"1": "a", "true": "b", "~": "c", "x y": "d"}]


def test_yaml_itself_splits_documents():
    text = "a: |\n  ---\n  x\n--- # comment\nb: 1\n...\n---\n\n---\nc: 2\n"
    assert documents(text) == [{"a": "---\nx\n"}, {"b": 1}, {"c": 2}]


def test_aliases_and_merge_keys_are_written_out():
    text = "base: &b {x: 1, y: 2}\nsame: *b\nmore: {<<: *b, y: 3}\ntwo: {<<: [{x: 8}, {x: 9, z: 0}]}"
    assert documents(text) == [
        {"base": {"x": 1, "y": 2}, "same": {"x": 1, "y": 2}, "more": {"x": 1, "y": 3}, "two": {"x": 8, "z": 0}}
    ]


def test_every_value_knows_its_line_and_column():
    node = parse(File("s.yml", 'a:\n  - x\n  - "é": [1,\n     2]\n'), [])[0]
    assert node.at(["a", 1, "é", 1])[0].problem("here").where == "s.yml:4:6"
    assert node.at(["a", 1])[0].problem("here", key="é").where == "s.yml:3:5"
    assert node.at(["a", 0])[0].problem("here").line == "  - x"


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("a: !!str 1", "s.yml:1:4", "tag 'str'"),
        ("a: !!python/object:os.system x", "s.yml:1:4", "tag"),
        ("!<tag:x> a: 1", "s.yml:1:1", "tag"),
        ("a: 1\nb: 2\na: 3", "s.yml:3:1", "'a' stands here twice"),
        ('a: {x: 1, "x": 2}', "s.yml:1:11", "'x' stands here twice"),
        ("? [a]\n: 1", "s.yml:1:3", "a key must be a text"),
        ("a: &x 1\n*x : 2", "s.yml:2:1", "a key must be a text"),
        ("a: *x", "s.yml:1:4", "no anchor &x"),
        ("a: &x 1\n---\na: *x", "s.yml:3:4", "no anchor &x"),
        ("a: &x [*x]", "s.yml:1:8", "inside what it repeats"),
        ("a: {<<: 1}", "s.yml:1:9", "merges mappings only"),
        ("%YAML 1.1\n---\na: no", "s.yml:2:1", "only YAML 1.2"),
        ("a: 1\n\tb: 2", "s.yml:2:1", "not YAML"),
        ("a: x\x00y", "s.yml:1:5", "U+0000 is not allowed"),
        ("a: b: c", "s.yml:1:5", "not YAML"),
        ('a: "\\ud800"', "s.yml:1:4", "surrogate"),
        (f"a: {'9' * 5000}", "s.yml:1:4", "digits"),
        ("a: 1\nb: [1, 2\n", "s.yml:2:4", "not YAML"),
    ],
)
def test_what_is_refused_is_named_where_it_stands(text, where, said):
    found = problem(text)
    assert found.where == where
    assert said in found.message


def test_a_tab_has_a_hint():
    assert problem("a:\n\tb: 1").hint == "indent with spaces, not with tabs"


def test_a_variable_in_a_flow_mapping_has_a_hint():
    assert problem("a: {b: ${X}}").hint == 'put the value with ${…} in quotes: "${NAME}"'


def test_a_secret_on_a_line_that_is_not_yaml_is_not_shown():
    assert problem('spec:\n  password: "hunter2\n').line == "  password: ***"


def test_an_alias_bomb_is_refused_at_once():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    began = time.process_time()
    assert "more than 50000 values" in problem("\n".join(levels)).message
    assert time.process_time() - began < 2


def test_merge_keys_cannot_be_a_bomb_either():
    levels = ["a0: &a0 {x0: [1, 2, 3, 4, 5, 6, 7, 8, 9]}"]
    for n in range(1, 30):
        merged = "{" + ", ".join(f"k{i}: *a{n - 1}" for i in range(10)) + "}"
        levels.append(f"a{n}: &a{n} {merged}")
    assert "more than 50000 values" in problem("\n".join(levels)).message


def test_too_many_values_are_refused_before_all_are_read():
    began = time.process_time()
    assert "more than 50000 values" in problem("- x\n" * 250_000).message
    assert time.process_time() - began < 20


def test_aliases_are_counted():
    assert "more than 1000 aliases" in problem("a: &a 1\nb: [" + "*a, " * 1001 + "]").message


@pytest.mark.parametrize("text", ["[" * 65 + "]" * 65, "\n".join(" " * n + "- " for n in range(70)), "{a: " * 65])
def test_depth_is_bounded(text):
    assert "nested deeper than 64 levels" in problem(text).message


def test_depth_counts_what_an_alias_repeats():
    deep = "[" * 40 + "]" * 40
    assert "nested deeper" in problem(f"a: &a {deep}\nb: {'[' * 40}*a{']' * 40}").message


def test_sixty_levels_are_fine():
    assert documents("[" * 60 + "]" * 60)


class TestReading:
    def read(self, path: Path, data: bytes):
        path.write_bytes(data)
        problems = []
        return read(path, "s.yml", problems), problems

    def test_line_breaks_and_byte_order_mark_are_taken_away(self, tmp_path):
        file, _ = self.read(tmp_path / "s.yml", b"\xef\xbb\xbfa: 1\r\nb: |\r\n  x\r\n  y\r\n")
        problems = []
        assert [node.plain() for node in parse(file, problems)] == [{"a": 1, "b": "x\ny\n"}]

    def test_a_problem_after_crlf_has_the_right_line(self, tmp_path):
        file, _ = self.read(tmp_path / "s.yml", b"a: 1\r\nb: 2\r\na: 3\r\n")
        problems = []
        parse(file, problems)
        assert [found.where for found in problems] == ["s.yml:3:1"]

    def test_other_encodings_are_refused(self, tmp_path):
        file, problems = self.read(tmp_path / "s.yml", "a: 1\nb: ü".encode("latin-1"))
        assert file is None
        assert [(found.message, found.where) for found in problems] == [("not UTF-8", "s.yml:2:1")]

    def test_utf_16_is_refused(self, tmp_path):
        assert self.read(tmp_path / "s.yml", "a: 1".encode("utf-16"))[0] is None

    def test_size_is_bounded(self, tmp_path):
        file, problems = self.read(tmp_path / "s.yml", b"#" * ((1 << 20) + 1))
        assert file is None
        assert "larger than 1 MiB" in problems[0].message

    def test_an_endless_file_ends(self):
        problems = []
        assert read(Path("/dev/zero"), "zero", problems) is None
        assert "larger than 1 MiB" in problems[0].message

    def test_a_missing_file_is_a_problem(self, tmp_path):
        problems = []
        assert read(tmp_path / "none.yml", "none.yml", problems) is None
        assert (problems[0].where, problems[0].message) == ("none.yml", "cannot be read: No such file or directory")
