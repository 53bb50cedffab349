"""A source of pages, as a module beside a spec, that does at one of them what a file of the directory asks for."""

import os
import signal
import time
from pathlib import Path

import strandline as sl

PAGES, ROWS, AT = 8, 5, 4
POLL_S = 0.02


def trouble(table, page):
    """At the page ``AT``: die once, or wait until one may go on; each only if a file says so. Returns further rows."""
    if page != AT:
        return
    dies = Path(f"dies-{table}")
    if dies.exists():
        dies.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if Path(f"waits-{table}").exists():
        Path(f"came-{table}-{os.getpid()}").touch()
        while Path(f"waits-{table}").exists():
            time.sleep(POLL_S)
    return


def pages(table, cursor):
    for page in range(cursor["page"] if cursor else 0, PAGES):
        more = trouble(table, page) or []
        yield [{"id": page * ROWS + n} for n in range(ROWS)] + [{"id": one} for one in more]
        yield sl.checkpoint({"page": page + 1})


@sl.table(primary_key="id")
def a(cursor):
    yield from pages("a", cursor)


@sl.table(primary_key="id")
def b(cursor):
    yield from pages("b", cursor)


@sl.table(primary_key="id")
def c(cursor):
    yield from pages("c", cursor)
