"""``strandline`` as a process that a fault befalls: the command line itself, with its outside calls watched."""

import os

from fault import Fault

from strandline.cli import main
from strandline.connectors.duckdb.destination import DuckDBDestination
from strandline.connectors.local.state import LocalState
from strandline.connectors.sqlite.source import SQLiteSource


def watch(fault):
    read, write, save = SQLiteSource.read, DuckDBDestination.write, LocalState.save
    written = []

    def reading(self, task, reading):
        for message in read(self, task, reading):
            if hasattr(message, "batch"):
                fault.read(message.batch.num_rows)
            yield message
        fault.reach("extracted")

    def writing(self, window, **more):
        fault.reach("load")
        receipt = write(self, window, **more)
        written.append(receipt)
        fault.progress(sum(receipt.rows.values()))
        return receipt

    def saving(self, key, state, *, expected):
        if written:
            fault.reach("stored")
        return save(self, key, state, expected=expected)

    SQLiteSource.read, DuckDBDestination.write, LocalState.save = reading, writing, saving


if __name__ == "__main__":
    told = Fault(os.environ.get("HOLES_FAULT"))
    watch(told)
    try:
        main()
    except SystemExit as end:
        if not end.code:
            told.reach("end")
        raise
    told.reach("end")
