"""What a child process does to itself, in either tool: dies at a point, waits for another run, counts what it read.

No import of either tool: this file is used in the environments of both.
"""

import json
import os
import signal
import time
from pathlib import Path

MEET_S = 8
"""How long a run waits for the other one. It may have been refused."""


class Fault:
    """As the JSON that the bench gives says: ``at`` (a point), ``rows`` or ``number``, ``meet`` (a folder), ``count``
    (a file)."""

    def __init__(self, text):
        told = json.loads(text) if text else {}
        self.at, self.rows, self.number = told.get("at"), told.get("rows", 0), told.get("number", 1)
        self.folder, self.count = told.get("meet"), told.get("count")
        self.seen, self.done, self.calls, self.met = 0, 0, 0, False

    def read(self, rows):
        """So many rows were taken from the source, and are not passed on yet."""
        self.seen += rows
        if self.count:
            with Path(self.count).open("a") as file:
                file.write(f"{rows}\n")
        if self.folder and not self.met:
            self.met = True
            self.meet()
        if self.at == "extract" and self.seen >= self.rows:
            self.die()

    def progress(self, rows):
        """So many rows more are done, as far as this tool gets with them at a time."""
        self.done += rows
        if self.at == "progress" and self.done >= self.rows:
            self.die()

    def reach(self, point):
        """Die here, if this is the point, at the call of that number."""
        if self.at == point:
            self.calls += 1
            if self.calls == self.number:
                self.die()

    def meet(self):
        folder = Path(self.folder)
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + MEET_S
        while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)

    @staticmethod
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
