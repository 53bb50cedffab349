"""Ways in which rows of a cell are refused, for the kind `reject`."""

import json

from campaign.origins import APIS
from strandline.testing.campaign.chains import Spoiled

_BAD_ID = 9_999


def of_source(world):
    """A value that cannot be read, and a primary key without a value."""
    origin = world.origin
    if world.cell.source in {"sqlite", "postgresql"}:
        values = "NULL, CAST(x'ff' AS TEXT)" if world.cell.source == "sqlite" else "'infinity', 'bad'"
        remove = [(f"DELETE FROM t WHERE id = {_BAD_ID}", ())]
        insert = [(f"INSERT INTO t (id, at, v) VALUES ({_BAD_ID}, {values})", ())]
        yield Spoiled("unreadable", lambda: origin.execute(insert), lambda: origin.execute(remove))
    if world.cell.source in APIS:
        yield from origin.spoils()
    if world.cell.source == "files":
        path = origin.folder / "z.jsonl"
        null = json.dumps({"id": None, "v": "no key"})
        for what, text in (("unreadable", '{"id": 1, "v": }'), ("null in the primary key", null)):
            yield Spoiled(
                what,
                lambda text=text: path.write_text(text + "\n"),
                lambda: path.unlink(missing_ok=True),
            )


def of_destination(world):
    """A constraint or a trigger of the stored table that refuses one of the rows to come."""
    if world.cell.source == "test" or world.cell.destination not in {"postgresql", "sqlite"}:
        return
    store = world.store
    refused = world.origin.refused()
    if world.cell.destination == "postgresql":
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
