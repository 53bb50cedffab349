"""Ways to keep states that are broken on purpose: what keeps them rightly passes the same check."""

import errno
import hashlib
import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import test_state
import test_state_files
from checks import Broken, Check

from strandline import state_format as format_module
from strandline.connectors.local import state as local_state
from strandline.connectors.local.state import LocalState
from strandline.connectors.memory import commits
from strandline.connectors.memory.state import MemoryState
from strandline.errors import StateError
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state

SUITE = StateBackendConformance
FILES = test_state_files
broken = Broken()


def given(function, fixtures):
    """Call a test, or a case of the suite, with what it asks for."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    function(**{name: fixtures[name] for name in names})


def in_files(function, **more):
    """A case of the suite for backends, or a test of local_state files, on files."""

    def run():
        with TemporaryDirectory() as directory:
            root = Path(directory) / "state"

            def reopen():
                return LocalState(LocalState.Spec(path=str(root)))

            def damage(key):
                path = root / key.source / f"{key.task}@{key.destination}.json"
                path.write_bytes(path.read_bytes()[:-9])

            backend = reopen()
            fixtures = {
                "self": SUITE(),
                "root": root,
                "tmp_path": Path(directory),
                "backend": backend,
                "reopen": reopen,
                "damage": damage,
            }
            if "saved" in function.__code__.co_varnames:
                first, second = example_state(1, note="\u00e9"), example_state(2)
                token = backend.save(KEY, second, expected=backend.save(KEY, first, expected=None))
                fixtures["saved"] = [second, first], token
            given(function, fixtures | more)

    return Check(function.__name__, run)


def in_memory(case, **more):
    """A case of the suite for backends, in memory_state."""

    def run():
        backend = MemoryState(MemoryState.Spec())

        def damage(key):
            (token, text), *older = backend._commits[key]
            backend._commits[key] = [(token, text.replace('"sequence": 3', '"sequence": 4')), *older]

        given(case, {"self": SUITE(), "backend": backend, "reopen": lambda: backend, "damage": damage} | more)

    return Check(case.__name__, run)


# compare and set -------------------------------------------------------------------------------------------------------


def whatever_is_stored(patch, backend):
    sound = backend.save

    def save(self, key, state, *, expected):
        stored = self.load(key.source).get(key)
        return sound(self, key, state, expected=stored.token if stored else None)

    patch.setattr(backend, "save", save)


@broken(
    "P17", "a backend saves over whatever is stored", in_memory(SUITE.test_a_stale_token_conflicts_and_changes_nothing)
)
def saves_over_anything(patch):
    whatever_is_stored(patch, MemoryState)


@broken(
    "P18", "a lock is trusted, and what it guards not compared", in_files(SUITE.test_a_save_fences_out_the_other_handle)
)
def trusts_its_lock(patch):
    whatever_is_stored(patch, LocalState)


@broken(
    "P17",
    "the token is a hash of the content, so that it comes again",
    in_memory(SUITE.test_equal_states_have_tokens_of_their_own),
)
def hashes_content(patch):
    sound = MemoryState.save

    def save(self, key, state, *, expected):
        token = hashlib.sha256(repr((state.cursor, state.sequence)).encode()).hexdigest()
        patch.setattr(commits, "secrets", SimpleNamespace(token_hex=lambda _: token))
        return sound(self, key, state, expected=expected)

    patch.setattr(MemoryState, "save", save)


@broken(
    "P12", "destinations share one state", in_files(SUITE.test_names_are_never_taken_for_each_other, part="destination")
)
def forgets_the_destination(patch):
    sound = LocalState._path
    patch.setattr(LocalState, "_path", lambda self, key: sound(self, replace(key, destination="any")))


@broken(
    "P37",
    "a name becomes a path by replacing what is strange",
    in_files(SUITE.test_names_are_never_taken_for_each_other, part="task"),
)
def replaces_characters(patch):
    patch.setattr(local_state, "encode_part", lambda name: re.sub(r"[^\w.-]", "_", name)[:97])


@broken("P24", "only the newest commit is kept", in_memory(SUITE.test_history_keeps_the_last_commits))
def keeps_one(patch):
    patch.setattr(format_module, "HISTORY_MAX", 1)


@broken(
    "P24",
    "signs of life fill the history of runs",
    in_memory(SUITE.test_the_history_of_runs_has_one_state_of_each),
)
def keeps_every_beat(patch):
    patch.setattr(format_module, "renews", lambda *_: False)


# what cannot be trusted ------------------------------------------------------------------------------------------------


@broken("P21", "a state that cannot be read is none", in_files(FILES.test_every_truncation_is_noticed))
def reads_damage_as_nothing(patch):
    sound = LocalState.load

    def load(self, source):
        return {key: state for key, state in sound(self, source).items() if state.untrusted is None}

    patch.setattr(LocalState, "load", load)


@broken(
    "P21",
    "the checksum is not compared",
    in_memory(SUITE.test_a_state_that_cannot_be_trusted_says_so_beside_those_that_can),
)
def ignores_the_checksum(patch):
    patch.setattr(format_module, "_intact", lambda *_: True)


@broken(
    "P21",
    "a state of another lineage is used",
    in_files(FILES.test_a_state_of_another_lineage_is_refused, key=replace(KEY, task="items")),
)
def takes_any_lineage(patch):
    patch.setattr(LocalState, "_checked", lambda _self, *asked: local_state._decode(*asked))


@broken(
    "P23",
    "a newer format is read as if it were ours",
    Check(
        "test_a_state_that_is_not_ours_is_refused_whatever_its_checksum_says",
        lambda: test_state.test_a_state_that_is_not_ours_is_refused_whatever_its_checksum_says(
            {"format_version": 3}, "written by a newer Strandline"
        ),
    ),
)
def reads_any_format(patch):
    patch.setattr(format_module, "FORMAT_VERSION", 99)


@broken(
    "P4",
    "a cursor that JSON changes is kept",
    Check(
        "test_a_cursor_that_json_would_change_is_refused_before_it_is_kept",
        lambda: test_state.test_a_cursor_that_json_would_change_is_refused_before_it_is_kept({"at": (1, 2)}),
    ),
)
def keeps_what_json_changes(patch):
    patch.setattr(format_module, "check_cursor", lambda *_: None)


@broken(
    "P21",
    "a damaged state is saved over by whoever comes",
    in_files(SUITE.test_a_state_that_cannot_be_trusted_is_saved_over_only_by_who_has_its_token),
)
def gives_up_everything(patch):
    sound = LocalState._find

    def find(self, directory, where, expected):
        try:
            return sound(self, directory, where, expected)
        except StateError:
            return None, expected

    patch.setattr(LocalState, "_find", find)


# on disk ---------------------------------------------------------------------------------------------------------------


def write(name, content, directory, flags):
    with local_state.opened(name, flags | local_state.PLAIN, directory=directory) as fd:
        os.write(fd, content)
        os.fsync(fd)


@broken(
    "P20",
    "a state is written in its place",
    in_files(
        FILES.test_whatever_call_fails_the_old_or_the_new_state_is_there, number=errno.ENOSPC, after=False, first=False
    ),
)
def writes_in_place(patch):
    patch.setattr(
        local_state,
        "replace_file",
        lambda directory, name, content: write(name, content, directory, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    )


def without_fsync(patch, is_left_out):
    sound = local_state.replace_file

    def replaces(directory, name, content):
        with pytest.MonkeyPatch.context() as within:
            fsync = os.fsync
            within.setattr(os, "fsync", lambda fd: None if is_left_out(fd == directory) else fsync(fd))
            sound(directory, name, content)

    patch.setattr(local_state, "replace_file", replaces)


@broken(
    "P20",
    "a state gets its name before its content is on disk",
    in_files(FILES.test_the_order_of_calls_makes_a_save_durable),
)
def renames_first(patch):
    without_fsync(patch, lambda is_directory: not is_directory)


@broken(
    "P20", "the new name of a state is not made durable", in_files(FILES.test_the_order_of_calls_makes_a_save_durable)
)
def forgets_the_directory(patch):
    without_fsync(patch, lambda is_directory: is_directory)


def failed_fsync(tmp_path):
    """A second fsync may succeed though the data is lost."""
    for count, faults in enumerate(FILES.fault_points(errno.EIO, after=False)):
        backend = LocalState(LocalState.Spec(path=str(tmp_path / str(count))))
        with faults.injected():
            error = FILES.error_of(backend.save, KEY, example_state(), expected=None)
        failed = faults.calls[faults.fail_at - 1] if faults.fail_at <= len(faults.calls) else ""
        assert error or not failed.startswith("fsync")


@broken("P20", "an fsync that failed is tried again", in_files(failed_fsync))
def tries_again(patch):
    sound = local_state.replace_file

    def replaces(directory, name, content):
        with pytest.MonkeyPatch.context() as within:
            fsync = os.fsync

            def twice(fd):
                with suppress(OSError):
                    return fsync(fd)
                return fsync(fd)

            within.setattr(os, "fsync", twice)
            sound(directory, name, content)

    patch.setattr(local_state, "replace_file", replaces)


@broken("P29", "what a killed writer left is never removed", in_files(FILES.test_what_a_killed_writer_left_is_removed))
def never_sweeps(patch):
    patch.setattr(local_state, "_sweep", lambda _: None)


@pytest.mark.parametrize(("check", "breaks"), broken)
def test_a_broken_way_to_keep_states_is_noticed(check, breaks, monkeypatch):
    assert check.passes()
    breaks(monkeypatch)
    assert check.findings()
