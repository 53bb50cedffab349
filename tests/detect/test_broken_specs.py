"""Specs, secrets and names that are handled wrongly on purpose."""

import uuid
from contextlib import closing
from functools import partial
from tempfile import TemporaryDirectory

import pytest
import test_logs
import test_memory_source
import test_spec_variables
import test_spec_yaml
from checks import OVERWRITE, Broken, Check, the_test

from strandline import logs
from strandline.connectors.memory.source import MemorySource, MemoryStore
from strandline.connectors.sql.dialect import Dialect
from strandline.connectors.sqlite.destination import SQLiteDestination
from strandline.message import Checkpoint
from strandline.spec import document
from strandline.spec.variables import Variables
from strandline.testing.destination import DestinationConformance
from strandline.testing.windows import Lineage

broken = Broken()


def _masked(shape):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_known", logs._Known())
        test_logs.test_a_secret_is_masked_in_every_shape(shape)


@broken(
    "P34",
    "a secret is masked only as it was written",
    Check("test_a_secret_is_masked_in_every_shape", partial(_masked, "url")),
)
def masks_one_form(patch):
    patch.setattr(logs, "_forms", lambda value: {value})


@broken(
    "P35",
    "what comes out of a variable is parsed",
    the_test(test_spec_variables.test_a_value_that_looks_like_a_number_stays_a_text),
)
def parses_variables(patch):
    sound = Variables.replace

    def replace(self, node, problems, *, secret=True):
        sound(self, node, problems, secret=secret)
        if isinstance(node.value, dict):
            for entry in node.value.values():
                entry.node.value = document.parse(document.File("v", entry.node.value), problems)[0].value

    patch.setattr(Variables, "replace", replace)


@broken(
    "P36",
    "depth is not limited",
    Check("test_depth_is_bounded", lambda: test_spec_yaml.test_depth_is_bounded("[" * 65 + "]" * 65)),
)
def nests_as_deep_as_it_likes(patch):
    patch.setattr(document, "DEPTH_MAX", 10_000)


def _a_key_of_any_name():
    with TemporaryDirectory() as directory:
        destination = SQLiteDestination(SQLiteDestination.Spec(path=f"{directory}/warehouse.sqlite"))
        with closing(destination):
            suite = DestinationConformance()
            suite.test_a_key_of_any_name(lineage=Lineage(destination, OVERWRITE), name='x"; DROP TABLE y; --')


@broken("P38", "a quote in a name is not doubled", Check("test_a_key_of_any_name", _a_key_of_any_name))
def quotes_naively(patch):
    patch.setattr(Dialect, "quote", lambda _, name: f'"{name}"')


def _commits_meanwhile():
    name = uuid.uuid4().hex
    test_memory_source.test_a_transaction_that_commits_in_the_middle_of_a_pass_is_delivered(
        MemoryStore.named(name), lambda **settings: MemorySource(MemorySource.Spec(store=name, **settings))
    )


@broken(
    "P6",
    "the horizon is taken when the read ends, not before it begins",
    Check("test_a_transaction_that_commits_in_the_middle_of_a_pass_is_delivered", _commits_meanwhile),
)
def looks_at_the_clock_afterwards(patch):
    sound = MemorySource._table

    def table(self, wanted, place, horizon, reading):
        for message in sound(self, wanted, place, horizon, reading):
            if isinstance(message, Checkpoint) and message.cursor and "after" not in message.cursor:
                seen, horizon = message.cursor["seen"], self.store.horizon
                yield Checkpoint(message.cursor | {"key": min(seen, horizon)})
            else:
                yield message

    patch.setattr(MemorySource, "_table", table)


@pytest.mark.parametrize(("check", "breaks"), broken)
def test_what_is_handled_wrongly_is_noticed(check, breaks, monkeypatch):
    assert check.passes()
    breaks(monkeypatch)
    assert check.findings()
