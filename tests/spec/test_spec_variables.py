"""``${…}``: what is replaced, by what, and what is an error."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from strandline.spec.document import File, parse
from strandline.spec.variables import Variables, time_text

NOW = datetime(2026, 3, 31, 15, 4, 5, 123456, tzinfo=UTC)


def replaced(text, **environment):
    problems = []
    nodes = parse(File("s.yml", text), problems)
    variables = Variables(environment, NOW)
    for node in nodes:
        variables.replace(node, problems)
    assert problems == []
    return nodes[0].plain()


def problems_of(text, **environment):
    problems = []
    for node in parse(File("s.yml", text), problems):
        Variables(environment, NOW).replace(node, problems)
    return [(problem.where, problem.message) for problem in problems]


def test_a_variable_is_replaced_inside_texts_of_every_style():
    text = "a: x-${N}-y${N}\nb: '${N}'\nc: \"${N}\"\nd: |\n  ${N}\ne: ['${N}']"
    assert replaced(text, N="1") == {"a": "x-1-y1", "b": "1", "c": "1", "d": "1\n", "e": ["1"]}


def test_a_value_never_becomes_structure():
    value = "x\nname: y\nother: [1]\n---\n&a *a !!tag # {"
    assert replaced("a: ${V}\nb: 1", V=value) == {"a": value, "b": 1}


def test_a_value_that_looks_like_a_number_stays_a_text():
    assert replaced("a: ${V}", V="5432") == {"a": "5432"}


def test_keys_are_left_alone():
    assert replaced("${V}: ${V}", V="x") == {"${V}": "x"}


def test_results_are_not_searched_again():
    assert replaced("a: ${V}", V="${W}", W="no") == {"a": "${W}"}


def test_the_default_counts_when_a_variable_is_unset_or_empty():
    text = "a: ${V:-x}\nb: ${E:-y}\nc: ${S:-z}\nd: ${V:-}\ne: ${V:-a:b-c}"
    assert replaced(text, E="", S="set") == {"a": "x", "b": "y", "c": "set", "d": "", "e": "a:b-c"}


def test_an_empty_variable_is_set():
    assert replaced("a: ${E}", E="") == {"a": ""}


def test_what_is_no_variable_stays():
    assert replaced("a: $X $ {Y} 5$ ${") == {"a": "$X $ {Y} 5$ ${"}


def test_variables_of_every_file_of_a_spec_are_replaced():
    variables, texts = Variables({"V": "x"}, NOW), []
    for number in range(50):
        (node,) = parse(File(f"{number}.yml", "a: ${V}"), [])
        variables.replace(node, [])
        texts.append(node.plain()["a"])
        del node
    assert texts == ["x"] * 50


def test_an_aliased_text_is_replaced_once():
    assert replaced("a: &x ${V}\nb: *x", V="${V}") == {"a": "${V}", "b": "${V}"}


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("a:\n  b: ${GONE}", "s.yml:2:6", "the environment variable GONE is not set"),
        ("a: ${}", "s.yml:1:4", "`${}` is not a variable"),
        ("a: ${X:?must}", "s.yml:1:4", "`${X:?must}` is not a variable"),
        ("a: ${env:X}", "s.yml:1:4", "`${env:X}` is not a variable"),
        ("a: ${file:/nowhere/at/all}", "s.yml:1:4", "'/nowhere/at/all' cannot be read: No such file or directory"),
        ("a: ${file:/}", "s.yml:1:4", "'/' cannot be read: Is a directory"),
        ("a: ${file:/dev/zero}", "s.yml:1:4", "'/dev/zero' is larger than 256 KiB"),
        ("a: ${time:soon}", "s.yml:1:4", "'soon' is not a time"),
        ("a: ${time:2024-02-30}", "s.yml:1:4", "out of range"),
        ("a: ${time:99999999 years ago}", "s.yml:1:4", "out of range"),
    ],
)
def test_an_error_is_at_the_value(text, where, said):
    ((found_where, message),) = problems_of(text)
    assert found_where == where
    assert said in message


def test_every_unset_variable_is_reported():
    assert len(problems_of("a: ${A} ${B}\nb: ${A}")) == 3


def test_a_file_is_read_as_it_is(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text('-----BEGIN-----\n"é": x\n')
    assert replaced(f"a: ${{file:{path}}}") == {"a": '-----BEGIN-----\n"é": x\n'}


def test_a_file_that_is_no_text_is_an_error(tmp_path):
    path = tmp_path / "key.bin"
    path.write_bytes(b"\xff\xfe\x00")
    ((_, message),) = problems_of(f"a: ${{file:{path}}}")
    assert "is not UTF-8" in message


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ("now", "2026-03-31T15:04:05Z"),
        ("7 days ago", "2026-03-24T15:04:05Z"),
        ("1 day from now", "2026-04-01T15:04:05Z"),
        ("2 weeks ago", "2026-03-17T15:04:05Z"),
        ("90 seconds ago", "2026-03-31T15:02:35Z"),
        ("1 month ago", "2026-03-03T15:04:05Z"),  # February has 28 days: the 31st of it is March 3rd, as in Go
        ("2 months ago", "2026-01-31T15:04:05Z"),
        ("1 year 1 day ago", "2025-03-30T15:04:05Z"),
        ("4 months ago", "2025-12-01T15:04:05Z"),
        ("-24h", "2026-03-30T15:04:05Z"),
        ("1h30m", "2026-03-31T16:34:05Z"),
        ("2024-01-31", "2024-01-31T00:00:00Z"),
        ("2024-01-31T12:00:00+02:00", "2024-01-31T12:00:00+02:00"),
        ("2025-01-01|2006-01-02", "2025-01-01"),
        ("now|02.01.06 3:04PM", "31.03.26 3:04PM"),
        ("now|Monday, January _2 2006", "Tuesday, March 31 2026"),
        ("now|Mon Jan 2 15:04:05 MST 2006", "Tue Mar 31 15:04:05 UTC 2026"),
        ("now|2006-01-02T15:04:05.000000-0700", "2026-03-31T15:04:05.123456+0000"),
        ("now|05.999", "05.123"),
        ("2024-01-01T00:00:00Z|05.999", "00"),
        ("now|002", "090"),
        ("now|20060102", "20260331"),
    ],
)
def test_a_time(inside, text):
    assert time_text(inside, NOW) == text


def test_times_are_utc_whatever_zone_now_has():
    assert time_text("now", NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-03-31T15:04:05Z"


@pytest.mark.parametrize("text", ["${A" * 300_000, "}" + "${A" * 300_000, "${A" * 300_000 + "}"])
def test_a_text_full_of_beginnings_is_read_in_no_time(text):
    began = time.process_time()
    problems_of(f'a: "{text}"')
    assert time.process_time() - began < 5  # 0.5 s for reading the YAML
