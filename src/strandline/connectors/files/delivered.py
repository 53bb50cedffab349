"""The delivered set of a lineage and table, kept in files: which versions of re-read rows are stored, and how often.

It is a list of Arrow files, each with every version once; what a later file says of a version replaces what an earlier one
said. A window adds one small file; files of similar size are merged, so that there are few of them, and each row is written
a few times only. Looking something up reads the files through, mapped into memory, so that no more than the versions of a
batch is kept there. Everything is columnar.

A bit that flips in such a file would lose a row, or store one twice. So its name ends in the SHA-256 of its content, and the
log has a checksum over the name. Files that older versions have written have no digest in their names.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from strandline.connectors.files.formats import DataFile
from strandline.errors import RetryableError, TaskError
from strandline.lazy import pa, pc

__all__ = ["DeliveredSet", "Taken", "write_set"]

_MERGED_ROWS_MAX = 1_000_000
"""A file of so many rows is not merged any more: it would have to be in memory."""
_COUNTS = ("seen", "delivered", "numbered")
_COLUMNS = ["version", "pass", *_COUNTS]
_DIGEST = re.compile(r"-([0-9a-f]{64})\.arrow$")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the rows of a batch."""

    fresh: "pa.Array"
    """Whether each is to be stored."""
    numbers: "pa.Array"
    """Of each row, among those of its version in the pass, from 0."""


class DeliveredSet:
    """Used by one thread, for one window.

    Args:
        root: to which the files are relative.
        files: as the log names them, the oldest first.
        sync_time_us: of the pass; what an older one has seen or numbered does not count.
        verified: files whose content this process has compared with their digests; added to.

    Raises:
        TaskError: a file is damaged.
        RetryableError: one is gone.
    """

    def __init__(self, root: Path, files: Sequence[str], sync_time_us: int, verified: set[str]) -> None:
        self.files = list(files)
        """Those that stay."""
        self.changed = False
        self._root, self._pass = root, sync_time_us
        self._verified = verified
        self._stored = [self._mapped(file) for file in files]
        self._fresh: list[pa.Table] = []
        """What this window adds, the oldest first."""

    def take(self, versions: "pa.Array", *, reread: bool, numbered: bool, once: bool) -> Taken:
        """Look rows up, and count them from here on.

        Args:
            versions: of each row.
            reread: whether rows that are known are not to be stored again.
            numbered: whether the rows are numbered.
            once: whether a version is stored once at most; else its n-th row is new if fewer than n are stored.
        """
        encoded = versions.cast(pa.binary(16)).dictionary_encode()
        nth, counts = _occurrences(encoded.indices, len(encoded.dictionary))
        seen, delivered, known_numbers = self._counts(encoded.dictionary)
        of_row = encoded.indices
        if not reread:
            fresh = pa.repeat(pa.scalar(True), len(versions))
        elif once:
            fresh = pc.and_(pc.equal(delivered.take(of_row), 0), pc.equal(nth, 1))
        else:
            fresh = pc.greater(pc.add(seen.take(of_row), nth), delivered.take(of_row))
        numbers = pc.subtract(pc.add(known_numbers.take(of_row), nth), 1)
        if reread:
            seen = pc.add(seen, counts)
            delivered = pc.max_element_wise(seen, delivered)
        if numbered:
            known_numbers = pc.add(known_numbers, counts)
        self._add(encoded.dictionary, seen, delivered, known_numbers)
        return Taken(fresh, numbers)

    def complete(self) -> None:
        """The end of a pass: keep what it has re-read."""
        tables = [*self._stored, *self._fresh]
        if not tables:
            return
        # counts of one pass only grow, so that the greatest is the last
        kept = pa.concat_tables([table.filter(self._reread(table)).select(["version", "seen"]) for table in tables])
        kept = kept.group_by("version").aggregate([("seen", "max")])
        self._drop()
        if kept.num_rows:
            seen = kept["seen_max"].combine_chunks()
            self._add(kept["version"].combine_chunks(), seen, seen, pa.repeat(pa.scalar(0, pa.int64()), len(seen)))

    def forget(self) -> None:
        """Nothing was delivered."""
        self._drop()

    def settle(self) -> "pa.Table | None":
        """What the window adds, as one table, merged with small files, which do not stay; ``None``: nothing."""
        if not self._fresh:
            return None
        table = _merged(self._fresh)
        while self.files and self._stored[-1].num_rows < 2 * table.num_rows:
            if self._stored[-1].num_rows + table.num_rows > _MERGED_ROWS_MAX:
                break
            table = _merged([self._stored.pop(), table])
            self._verified.discard(self.files.pop())
        return table

    def _mapped(self, file: str) -> "pa.Table":
        path, digest = self._root / file, _DIGEST.search(file)
        try:
            with pa.memory_map(str(path)) as source:
                content = source.read_buffer()
                if digest and file not in self._verified:
                    # what is mapped is what is compared
                    if hashlib.sha256(content).hexdigest() != digest[1]:
                        raise _damaged(path, "its content is not what its name says")
                    self._verified.add(file)
                return pa.ipc.open_file(content).read_all().select(_COLUMNS)
        except FileNotFoundError as error:
            # it went with a commit of another run, which the next look at the log shows; or by hand, and then it stays
            # away
            raise RetryableError(
                f"{path}: gone, so it is not known which rows were delivered",
                hint="let one run at a time sync this source; if a person removed it, restore the directory from a backup",
            ) from error
        except OSError as error:
            if error.errno:
                raise  # of the system, and not of what is in the file
            raise _damaged(path, error) from error
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise _damaged(path, error) from error

    def _reread(self, table: "pa.Table") -> "pa.ChunkedArray":
        return pc.and_(pc.equal(table["pass"], self._pass), pc.greater(table["seen"], 0))

    def _drop(self) -> None:
        self.changed = self.changed or bool(self.files or self._fresh)
        self._verified.difference_update(self.files)
        self.files, self._stored, self._fresh = [], [], []

    def _add(self, versions: "pa.Array", *counts: "pa.Array") -> None:
        self.changed = True
        passes = pa.repeat(pa.scalar(self._pass, pa.int64()), len(versions))
        self._fresh.append(pa.table([versions, passes, *counts], names=_COLUMNS))
        while len(self._fresh) > 1 and self._fresh[-2].num_rows < 2 * self._fresh[-1].num_rows:
            self._fresh[-2:] = [_merged(self._fresh[-2:])]

    def _counts(self, versions: "pa.Array") -> "tuple[pa.Array, pa.Array, pa.Array]":
        """Seen and numbered in this pass, and delivered, of each version: seen, delivered, numbered."""
        nothing = pa.repeat(pa.scalar(0, pa.int64()), len(versions))
        found = {"pass": nothing} | dict.fromkeys(_COUNTS, nothing)
        for table in [*self._stored, *self._fresh]:
            for batch in table.to_batches():
                hits = batch.filter(pc.is_in(batch["version"], value_set=versions))
                if hits.num_rows:
                    at = pc.index_in(versions, value_set=hits["version"])
                    found = {name: pc.coalesce(hits[name].take(at), values) for name, values in found.items()}
        current = pc.equal(found["pass"], self._pass)
        seen, numbered = (pc.if_else(current, found[name], 0) for name in ("seen", "numbered"))
        return seen, found["delivered"], numbered


def _occurrences(codes: "pa.Array", different: int) -> "tuple[pa.Array, pa.Array]":
    """Of each row, its number among those of its code, from 1; and how many rows each code has.

    Codes are numbered as they appear, from 0.
    """
    if different == len(codes):
        ones = pa.repeat(pa.scalar(1, pa.int64()), different)
        return ones, ones
    order = pc.sort_indices(codes)  # stable
    runs = pc.run_end_encode(codes.take(order), run_end_type=pa.int64())
    starts = pa.concat_arrays([pa.array([0], pa.int64()), runs.run_ends[:-1]])
    counts = pc.subtract(runs.run_ends, starts)
    nth = pc.subtract(pa.arange(1, len(codes) + 1), starts.take(codes.take(order)))
    return nth.take(pc.inverse_permutation(order.cast(pa.int64()))), counts


def _merged(tables: "Sequence[pa.Table]") -> "pa.Table":
    """One table with every version once, as the last table has it."""
    whole = tables[0]
    for table in tables[1:]:
        versions = table["version"].combine_chunks()
        older = whole.filter(pc.invert(pc.is_in(whole["version"], value_set=versions)))
        whole = pa.concat_tables([older, table])
    return whole.combine_chunks()


class _Hashing:
    """What is written into a file, and its digest."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.tell, self.flush = file.tell, file.flush

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._file.write(content)


def write_set(path: Path, table: "pa.Table") -> str:
    """Write a file of a set, durable but for its name; the digest of its content.

    Args:
        path: of a file that is not there; nor is it if this fails.
        table: what ``settle`` gave.
    """
    hashed: list[_Hashing] = []

    def writer(raw: IO[bytes], opened: ExitStack) -> "pa.RecordBatchFileWriter":
        hashed.append(_Hashing(raw))
        return opened.enter_context(pa.ipc.new_file(hashed[0], table.schema))

    file = DataFile(path, writer)
    try:
        file.write(table)
        file.close()
    except BaseException:
        file.abort()
        with suppress(OSError):
            path.unlink()
        raise
    return hashed[0].digest.hexdigest()


def _damaged(path: Path, why: object) -> TaskError:
    return TaskError(
        f"{path}: damaged, so it is not known which rows were delivered ({why})",
        hint="restore the directory from a backup; or move it away, reset the states, and sync again",
    )
