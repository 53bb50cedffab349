"""The keys that a sweep sends, kept until it is known which of them the destination lacks."""

import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from strandline.lazy import pa

__all__ = ["KeySpool"]

_MEMORY_BYTES = 8 << 20
"""What is more lies in a temporary file."""


class KeySpool:
    """Keys of one table in the order of the stream. Written by one thread, then read by another."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115 -- closed with the pipeline
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, keys: "pa.RecordBatch") -> None:
        """More keys."""
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(self._file, keys.schema, options=options)
        self._writer.write_batch(keys)

    def take(self, places: Sequence[int]) -> "Iterator[pa.RecordBatch]":
        """The keys at these places, which ascend. Nothing can be added after that."""
        if self._writer is None:
            return
        self._writer.close()
        self._file.seek(0)
        first = 0
        with pa.ipc.open_stream(self._file) as batches:
            for batch in batches:
                begin, end = (bisect_left(places, place) for place in (first, first + batch.num_rows))
                if begin < end:
                    yield batch.take(pa.array([place - first for place in places[begin:end]], pa.int64()))
                first += batch.num_rows

    def close(self) -> None:
        """Release the file."""
        if self._writer is not None:
            self._writer.close()
        self._file.close()
