"""Bad input: a clear error, exit code 2 or 3, and nothing written."""

import json
import os

import pytest


@pytest.fixture
def table(bench):
    bench.origin.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (1, '2026-01-01 00:00:00', 'a')")
    bench.tables = {"t": {"incremental_key": "at"}}
    return bench


def refused(bench, capfd, code, *says, arguments=("sync",), write=True):
    """The command fails with a code and words, and touches neither destination nor state."""
    if write:
        bench.write_spec()
    before = sorted(path for path in bench.directory.rglob("*") if path.is_file())
    contents = {path: path.read_bytes() for path in before}
    bench.write_spec_ = bench.write_spec
    bench.write_spec = lambda: None
    found = bench.run(*arguments)
    said = "".join(capfd.readouterr())
    assert found == code, said
    for text in says:
        assert text in said, said
    assert "Traceback" not in said
    after = {path for path in bench.directory.rglob("*") if path.is_file() and "runs" not in path.parts}
    assert after == {path for path in before if "runs" not in path.parts}
    assert all(path.read_bytes() == contents[path] for path in after)
    bench.write_spec = bench.write_spec_


def edit(bench, old, new):
    bench.write_spec()
    path = bench.directory / "strandline.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"kind": "source"', '"kind": "sauce"', ("strandline.yml:", "sauce", "source")),
        ('"path": "sqlite"', '"path": "sqlight"', ("strandline.yml:", "sqlight", "did you mean", "sqlite")),
        ('"incremental_key": "at"', '"incremental_kee": "at"', ("strandline.yml:", "incremental_kee")),
        ('"warehouse"\n  ]', '"warehose"\n  ]', ("strandline.yml:", "warehose", "warehouse")),
        ('"backend": "local"', '"backend": "lokal"', ("strandline.yml:", "lokal")),
        ('"shop"', '"${NO_SUCH_VARIABLE_HERE}"', ("strandline.yml:", "NO_SUCH_VARIABLE_HERE", "not set")),
        ('"destinations"', '"tables": ["nothing_*"], "destinations"', ("nothing_*", "t")),
        ('"incremental_key": "at"', '"incremental_key": "nowhere"', ("nowhere", "'t'")),
    ],
    ids=["kind", "plugin", "field", "destination", "backend", "variable", "glob", "incremental key"],
)
def test_a_spec_that_cannot_be_is_refused(table, capfd, old, new, says):
    edit(table, old, new)
    refused(table, capfd, 2, *says, write=False)


def test_a_missing_table_in_the_source_is_refused(table, capfd):
    table.tables = {"tt": {"incremental_key": "at"}}
    refused(table, capfd, 2, "tt", "did you mean 't'")


def test_overwriting_with_an_incremental_key_but_no_primary_key_is_refused(table, capfd):
    table.origin.execute("CREATE TABLE keyless (at TEXT, v TEXT)")
    table.tables["keyless"] = {"incremental_key": "at"}
    if table.mode == "append":
        assert table.run("sync") == 0
    else:
        refused(table, capfd, 2, "keyless", "primary_key")


def test_a_yaml_alias_bomb_is_refused_fast(table, capfd):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (table.directory / "strandline.yml").write_text("\n".join(lines) + "\n")
    refused(table, capfd, 2, "strandline.yml:", write=False)


def state_file(bench):
    return bench.directory / ".cq" / "state" / "shop" / "t@warehouse.json"


def damage(bench, how):
    path = state_file(bench)
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "bit flipped":
        place = data.index(b"sequence")
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
    elif how == "foreign":
        path.write_text(json.dumps({"t": "2026-01-01"}))
    else:
        path.write_bytes(
            data.replace(b'"format_version": 1', b'"format_version": 99').replace(
                b'"format_version":1', b'"format_version":99'
            )
        )


@pytest.mark.parametrize("how", ["truncated", "emptied", "bit flipped", "foreign", "newer"])
def test_a_state_that_cannot_be_trusted_stops_its_table(table, capfd, how):
    assert table.run("sync") == 0
    damage(table, how)
    table.origin.execute("INSERT INTO t VALUES (2, '2026-01-02 00:00:00', 'b')")
    refused(table, capfd, 3, str(state_file(table).parent.relative_to(table.directory)), "hint:")
    for path in state_file(table).parent.glob("*.json"):
        path.unlink()  # the fix that the hint names: the destination keeps a copy of its own
    assert table.run("sync") == 0
    assert table.store.rows() == [(1, "a"), (2, "b")]


def test_a_state_that_is_of_another_table_is_named_and_the_others_go_on(table, capfd):
    assert table.run("sync") == 0
    state_file(table).rename(state_file(table).with_name("u@warehouse.json"))
    table.origin.execute("INSERT INTO t VALUES (2, '2026-01-02 00:00:00', 'b')")
    assert table.run("sync") == 3
    said = "".join(capfd.readouterr())
    assert "u@warehouse.json" in said
    assert "hint:" in said
    assert table.store.rows("id") == [(1,), (2,)]


def test_a_source_may_have_any_name(table, capfd):
    name = "../../etc/" + "slashes/and.dots " + "😀" * 30
    edit(table, '"shop"', json.dumps(name, ensure_ascii=False))
    text = (table.directory / "strandline.yml").read_text()
    table.write_spec = lambda: (table.directory / "strandline.yml").write_text(text)
    assert table.run("sync") == 0
    table.origin.execute("INSERT INTO t VALUES (2, '2026-01-02 00:00:00', 'b')")
    assert table.run("sync") == 0
    assert table.store.rows() == [(1, "a"), (2, "b")]
    outside = [path for path in table.directory.parent.iterdir() if path != table.directory]
    assert not any(path.name.startswith("etc") for path in outside)
    inside = {path.relative_to(table.directory).parts[0] for path in table.directory.rglob("*")}
    assert inside == {".cq", "shop.db", "strandline.yml", "warehouse.duckdb"}
    longest = max(
        len(os.fsencode(part))
        for path in table.directory.rglob("*")
        for part in path.relative_to(table.directory).parts
    )
    assert longest <= 200
