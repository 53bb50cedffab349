"""The destination files: what was delivered is never taken for anything else."""

import hashlib
import json
import random
from contextlib import closing, suppress
from pathlib import Path

import pytest
from lakes import EVENTS, SALES, lake, lineage, seen

from strandline.connectors.files import delivered as files_delivered
from strandline.connectors.files.delivered import mapped
from strandline.errors import RetryableError, TaskError


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_what_was_delivered_is_never_taken_for_nothing(root, damage):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(one.insert(SALES, reread=True, id=[1], country=["DE"], day=[0]))
        damage(next((root / ".strandline" / "delivered").iterdir()))
        with pytest.raises((RetryableError, TaskError), match="delivered") as raised:
            one.write(one.insert(SALES, reread=True, id=[1], country=["DE"], day=[0]))
        assert raised.value.hint
        assert seen(root) == [1]


def a_set(root, *, keep_digest=True):
    """A lake with one row that may be read again, and the file that says so."""
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(one.insert(SALES, reread=True, id=[1], country=["DE"], day=[0]))
    (path,) = (root / ".strandline" / "delivered").iterdir()
    if keep_digest:
        assert path.stem.split("-")[1] == hashlib.sha256(path.read_bytes()).hexdigest()
        return path, one
    (entry,) = (one for one in (root / ".strandline" / "log").glob("*.commit") if path.name in one.read_text())
    old = path.rename(path.with_name(f"{path.stem.split('-')[0]}.arrow"))
    head, *states = entry.read_text().replace(path.name, old.name).split("\n")
    head = json.loads(head)
    del head["checksum"]
    head["checksum"] = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    entry.write_text("\n".join([json.dumps(head), *states]))
    return old, one


def test_every_bit_that_flips_in_what_was_delivered_is_noticed(root):
    path, _ = a_set(root)
    content = path.read_bytes()
    name = str(path.relative_to(root))
    for at in random.sample(range(8 * len(content)), 500):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(TaskError, match="damaged") as raised:
            mapped(root, set(), name)
        assert raised.value.hint
    path.write_bytes(content)
    mapped(root, set(), name)


def test_a_bit_that_flipped_in_what_was_delivered_loses_and_repeats_nothing(root):
    path, one = a_set(root)
    content = bytearray(path.read_bytes())
    content[content.index((1).to_bytes(8, "little"))] ^= 1  # a count
    path.write_bytes(content)
    with closing(lake(root)) as destination:
        one.destination = destination
        with pytest.raises(TaskError, match="damaged"):
            one.write(one.insert(SALES, reread=True, id=[1, 2], country=["DE"] * 2, day=[0] * 2))
        assert seen(root) == [1]


def test_what_an_older_version_delivered_is_read_without_a_digest_and_damage_is_no_passing_fault(root):
    path, one = a_set(root, keep_digest=False)
    content = path.read_bytes()
    with closing(lake(root)) as destination:
        one.destination = destination
        receipt = one.write(one.insert(SALES, reread=True, id=[1, 2], country=["DE"] * 2, day=[0] * 2))
        assert receipt.known == {"sales": 1}
        assert seen(root) == [1, 2]
    path.write_bytes(content)
    for at in random.sample(range(8 * len(content)), 500):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        with suppress(TaskError):
            mapped(root, set(), str(path.relative_to(root)))


def test_a_set_is_compared_with_its_digest_once_in_a_process(root, monkeypatch):
    hashed, sound = [], hashlib.sha256
    with closing(lake(root)) as destination:
        one = lineage(destination, EVENTS)
        one.write(one.insert(EVENTS, id=list(range(1000))))
        monkeypatch.setattr(
            files_delivered.hashlib, "sha256", lambda *content: hashed.append(content) or sound(*content)
        )
        for number in range(4):
            one.write(one.insert(EVENTS, id=[number]))
    assert len([content for content in hashed if content and len(content[0]) > 48_000]) == 1
