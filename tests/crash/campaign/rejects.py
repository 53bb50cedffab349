"""The kind `reject`: a row that the destination does not take, or that the source cannot read; then it is fixed."""

import json
from dataclasses import dataclass
from typing import Any

from campaign.chains import Chain

_BAD_ID = 9_999


@dataclass(frozen=True)
class Spoiled:
    """What was done to provoke a failure, and how it is fixed."""

    what: str
    spoil: Any
    fix: Any


def strike(bench, cell):
    """After the first step, each way to fail: exit 1, and the state's cursor covers nothing that is not stored."""
    number, ways = 0, 1
    while number < ways:
        chain = Chain(bench, cell, "reject", number)
        possible = [*_by_source(chain), *_by_destination(chain)]
        ways = len(possible)
        if possible:
            chain.change()
            assert chain.run().code == 0
            yield _reject(chain, possible[number])
        chain.close()
        number += 1


def _reject(chain, way):
    way.spoil()
    chain.change()
    case = chain.case(f"step {chain.step} {way.what}")
    for _ in range(2):
        ended = chain.run()
        case.exits.append(ended.code)
        if ended.code != 1 or "Traceback" in ended.text:
            case.problems.append(f"a sync ended with {ended.code}: {ended.text[-600:]}")
    way.fix()
    if chain.cell.source in {"sqlite", "postgresql"}:
        chain.look(case)
    chain.recover(case)
    return case


def _by_source(chain):
    """A value that cannot be read, and a primary key without a value."""
    origin = chain.world.origin
    if chain.cell.source in {"sqlite", "postgresql"}:
        values = "NULL, CAST(x'ff' AS TEXT)" if chain.cell.source == "sqlite" else "'infinity', 'bad'"
        remove = [(f"DELETE FROM t WHERE id = {_BAD_ID}", ())]
        insert = [(f"INSERT INTO t (id, at, v) VALUES ({_BAD_ID}, {values})", ())]
        yield Spoiled("unreadable", lambda: origin.execute(insert), lambda: origin.execute(remove))
    if chain.cell.source == "files":
        path = origin.folder / "z.jsonl"
        null = json.dumps({"id": None, "v": "no key"})
        for what, text in (("unreadable", '{"id": 1, "v": }'), ("null in the primary key", null)):
            yield Spoiled(
                what,
                lambda text=text: path.write_text(text + "\n"),
                lambda: path.unlink(missing_ok=True),
            )


def _by_destination(chain):
    """A constraint or a trigger of the stored table that refuses one of the rows to come."""
    if chain.cell.source == "test" or chain.cell.destination not in {"postgresql", "sqlite"}:
        return
    store = chain.world.store
    refused = chain.world.origin.refused()
    if chain.cell.destination == "postgresql":
        spoil = [f"ALTER TABLE t ADD CONSTRAINT refuses CHECK (v <> '{refused}')"]
        fix = ["ALTER TABLE t DROP CONSTRAINT IF EXISTS refuses"]
    else:
        when = f"WHEN NEW.v = '{refused}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        spoil = [f"CREATE TRIGGER refuses_{event} BEFORE {event} ON t {when}" for event in ("INSERT", "UPDATE")]
        fix = [f"DROP TRIGGER IF EXISTS refuses_{event}" for event in ("INSERT", "UPDATE")]
    yield Spoiled(
        "refused by the stored table",
        lambda: [store.execute(one) for one in spoil],
        lambda: [store.execute(one) for one in fix],
    )
