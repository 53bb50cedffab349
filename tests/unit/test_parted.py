"""Large mappings of cursors: what their parts add up to, how many there are, and what a commit writes of them."""

import hashlib
import itertools
import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline import parted
from strandline.connectors.local.parts import LocalParts
from strandline.connectors.local.state import LocalState
from strandline.errors import StateError, TaskError
from strandline.parted import Part, Parted, plain
from strandline.state import HISTORY_MAX
from strandline.state_format import FORMAT_VERSION, decode_state, encode_parted, encode_state, parts_of
from strandline.testing.state_backend import KEY, example_state

KEYS = st.sampled_from("abcdefgh\u00e9")
CHANGES = st.lists(st.tuples(st.dictionaries(KEYS, st.integers(0, 3) | st.none()), st.sets(KEYS)), max_size=12)


def sequence_of(changes) -> list[tuple[Parted, dict]]:
    """Each version, with what it holds."""
    files, model, versions = Parted(), {}, []
    for values, gone in changes:
        files = files.changed(values, gone)
        model = {key: value for key, value in model.items() if key not in gone} | values
        versions.append((files, model))
    return versions


@given(CHANGES)
def test_parts_add_up_to_what_was_changed(changes):
    for files, model in sequence_of(changes):
        assert files == model
        assert model == files
        assert files.whole() == model
        assert (len(files), set(files)) == (len(model), set(model))
        assert {key: files.get(key, "none") for key in "abcdefgh"} == {
            key: model.get(key, "none") for key in "abcdefgh"
        }
        assert pickle.loads(pickle.dumps(files)) == files
        sizes = [len(part) for part in files.parts]
        assert all(before >= 2 * after for before, after in itertools.pairwise(sizes))


@given(CHANGES, st.sampled_from([0, 60, 1 << 20]))
def test_what_is_encoded_in_parts_is_decoded(changes, tail_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parted, "TAIL_BYTES", tail_bytes)
        for number, (files, model) in enumerate(sequence_of(changes)):
            state = example_state(cursor={"files": files, "n": number})
            body, parts = encode_parted(KEY, state)
            kept = {name: Part.read(name, part.text()) for name, part in parts.items()}
            assert parts_of(json.dumps(body)) == {name: len(part.text()) for name, part in kept.items()}
            found = decode_state(KEY, json.loads(json.dumps(body)), where="x", part=kept.get)
            assert found == state
            assert found.cursor["files"].whole() == model if parts else found.cursor["files"] == model
            assert decode_state(KEY, encode_state(KEY, state), where="x") == state


def test_a_small_mapping_is_kept_as_it_always_was_and_a_large_one_is_of_a_newer_format():
    small = example_state(cursor={"files": Parted.of({"a": [1]}).changed({"b": [2]}, gone=["a"])})
    assert encode_parted(KEY, small).body == encode_state(KEY, replace(small, cursor={"files": {"b": [2]}}))
    large = example_state(cursor={"files": Parted.of({"a": "x" * parted.TAIL_BYTES})})
    body, parts = encode_parted(KEY, large)
    assert body["format_version"] == FORMAT_VERSION == 2
    assert body["cursor"] == {"files": {}}
    assert list(body["parts"]["files"]["names"]) == [[name, part.size_bytes] for name, part in parts.items()]
    with pytest.raises(StateError, match="a part of the state is gone"):
        decode_state(KEY, body, where="here")


def test_a_file_with_parts_is_read_and_the_parts_are_beside_it(tmp_path):
    """Written down as it is, so that a change of the format is noticed."""
    text = '{"gone":[],"values":{"a":"' + "x" * 16_384 + '","c":2}}'
    local = LocalState(LocalState.Spec(path=str(tmp_path)))
    files = Parted([Part({"a": "x" * 16_384, "c": 2}), Part({"b": [1]}, ["never there"])])
    local.save(KEY, example_state(cursor={"files": files}), expected=None)
    (part,) = (tmp_path / "shop" / ".parts" / "orders@warehouse").iterdir()
    assert (part.name, part.read_text()) == (hashlib.sha256(text.encode()).hexdigest(), text)
    body = json.loads((tmp_path / "shop" / "orders@warehouse.json").read_text())["states"][0]
    assert body["format_version"] == 2
    assert body["cursor"] == {"files": {"b": [1]}}
    assert body["parts"] == {"files": {"names": [[part.name, len(text)]], "gone": ["never there"]}}


def test_a_hundred_thousand_keys_are_written_a_few_times_each_however_small_the_commits_are():
    files, known, written, most = Parted(), set[int](), 0, 0
    for number in range(2000):
        files = files.changed({f"{number} {one}": one for one in range(50)})
        new = [part for part in files.parts if id(part) not in known]
        written += sum(len(part) for part in new)
        known = {id(part) for part in files.parts}
        most = max(most, len(files.parts))
    assert len(files) == 100_000
    assert written <= 100_000 * 12
    assert most <= 12


@pytest.mark.parametrize("value", [float("nan"), (1, 2), {1: "a"}, {1}, b"x"])
@pytest.mark.parametrize("size", [1, parted.TAIL_BYTES])
def test_values_that_json_would_change_are_refused_before_anything_is_kept(value, size):
    files = Parted.of({"a": "x" * size}).changed({"b": value})
    for encode in (encode_parted, encode_state):
        with pytest.raises(TaskError, match="JSON"):
            encode(KEY, example_state(cursor={"files": files}))
    nested = example_state(cursor={"below": {"files": Parted.of({"a": 1})}})
    with pytest.raises(TaskError, match="JSON"):
        encode_parted(KEY, nested)


def test_a_value_that_a_source_changes_after_it_was_sent_is_not_kept_under_its_former_name():
    values = {"a": ["x" * parted.TAIL_BYTES]}
    part = Parted.of(values).parts[0]
    assert part.name
    values["a"][0] = "y"
    with pytest.raises(ValueError, match="changed after it was sent"):
        part.text()


def test_an_equal_part_is_one_object_in_all_versions():
    """Twenty versions of a history, and those of a mirror, share what they have in common."""
    part = Part({"a": 1})
    assert Part.read(part.name, part.text()) is part
    with pytest.raises(ValueError, match="checksum"):
        Part.read(part.name, part.text() + " ")


def test_a_cursor_in_one_piece():
    assert plain(None) is None
    assert type(plain({"files": Parted.of({"a": 1}), "n": 1})["files"]) is dict


def test_a_reader_whose_parts_were_removed_meanwhile_reads_the_newer_state(tmp_path, monkeypatch):
    local = LocalState(LocalState.Spec(path=str(tmp_path)))
    large = [Parted.of({f"{number}": "x" * parted.TAIL_BYTES}) for number in range(HISTORY_MAX + 2)]
    tokens = [local.save(KEY, example_state(1, cursor={"files": large[0]}), expected=None)]
    real = LocalParts.get

    def get(self, name):
        monkeypatch.setattr(LocalParts, "get", real)
        for sequence, files in enumerate(large[1:], 2):
            state = example_state(sequence, cursor={"files": files})
            tokens.append(local.save(KEY, state, expected=tokens[-1]))
        return real(self, name)

    monkeypatch.setattr(LocalParts, "get", get)
    assert LocalState(LocalState.Spec(path=str(tmp_path))).load("shop")[KEY].cursor == {"files": large[-1]}
    assert len(tokens) == len(large)


def test_what_a_killed_writer_left_is_removed_with_the_next_commit(tmp_path):
    local = LocalState(LocalState.Spec(path=str(tmp_path)))
    files = Parted.of({"a": "x" * parted.TAIL_BYTES, "c": 2})
    token = local.save(KEY, example_state(1, cursor={"files": files}), expected=None)
    folder = tmp_path / "shop" / ".parts" / "orders@warehouse"
    kept = {path.name for path in folder.iterdir()}
    (folder / ".torn.tmp").write_text("{")
    (folder / ("0" * 64)).write_text("nobody names it")
    local.save(KEY, example_state(2, cursor={"files": files.changed({"b": 1})}), expected=token)
    assert {path.name for path in folder.iterdir()} == kept
