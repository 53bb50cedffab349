"""What the file of a database in a file has to be able to do."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strandline.connectors.sql.session import FileSession
from strandline.disk import file_system_probe, probe_folder, room_probes
from strandline.errors import UsageError
from strandline.probe import Probe, Verdict

__all__ = ["beside", "check_writable", "probe_file", "try_writing"]


def probe_file(path: Path, kind: str) -> Iterator[Probe]:
    """The file, or the directory in which it will be made.

    Raises:
        UsageError: there is none, or it is of another kind.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"there is no directory {folder}", hint=f"mkdir -p {folder}")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file", hint="fix `path`")
    check_writable(path)
    size = (
        f"{path}, {path.stat().st_size:,} bytes"
        if path.exists()
        else f"{path} is not there yet; the first sync makes it"
    )
    yield Probe("file", Verdict.OK, size)
    yield file_system_probe(
        path, network=Verdict.WARNING, fix=f"keep {kind} files on a local disk, or use a server", what="the file"
    )
    yield from room_probes(path)


def check_writable(path: Path) -> None:
    """Before a file is opened, or where a driver could not, since drivers tell only that they could not.

    Raises:
        UsageError: the file, or the directory in which it is or will be made, is not writable.
    """
    for one in (path, path.absolute().parent):
        if one.exists() and not os.access(one, os.W_OK):
            raise UsageError(f"{one} is not writable", hint=f"chmod u+w {one}, or run as its owner")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """``path``, if it is there; else a file in a directory of its own beside it, which is removed."""
    if path.exists():
        yield path
        return
    folder = probe_folder(path.absolute().parent)
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_writing(session: FileSession, begin: str, *first: str, prefix: str = "") -> None:
    """Make, write, change and empty a table in a transaction that is rolled back; ``first`` are statements before that."""
    table = session.relation(f"{prefix}_cq_probe_{secrets.token_hex(4)}")
    session.execute(begin)
    try:
        for statement in (
            *first,
            f"CREATE TABLE {table} (id BIGINT)",
            f"INSERT INTO {table} VALUES (1)",
            f"ALTER TABLE {table} ADD COLUMN more TEXT",
            f"DELETE FROM {table}",
        ):
            session.execute(statement)
    finally:
        session.execute("ROLLBACK")
