"""What every combination of plugins must survive, as a class to subclass: it is killed at every call, or a share of them, and goes on.

::

    class TestKilled(KillConformance):
        @pytest.fixture
        def plugins(self) -> Plugins:
            source, destination, backend = (load_plugin(kind, "ours") for kind in KINDS)
            return lambda directory, step: (
                source(source.Spec(url=api[step])),
                destination(destination.Spec(path=str(directory / "rows"))),
                backend(backend.Spec(path=str(directory / "states.json"))),
            )

        @pytest.fixture
        def rows(self) -> Rows:
            return lambda step: {"orders": ORDERS[: 50 * (step + 1)]}

        STEPS = 2

A process is what ``plugins`` makes. It dies inside this one, so that nothing of it runs on: neither a retry nor clean-up code.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest

from strandline.destination import Delivery, Destination, Readable, WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.run import sync
from strandline.engine.window import Bounds
from strandline.lazy import pa
from strandline.runs import RunReport
from strandline.source import Source
from strandline.state import StateBackend
from strandline.testing.crash import worth_striking
from strandline.testing.exact import Row, exact_rows
from strandline.testing.faults import FaultySource, FaultyStates, Killed, Killer, Outside, faulty_destination

__all__ = ["KillConformance", "Plugins", "Rows"]

Plugins: TypeAlias = Callable[[Path, int], tuple[Source, Destination, StateBackend]]
"""Makes the plugins of one process.

Whatever they keep, they keep below the directory, which is copied; the source is as it stands at a step, from 0.
"""
Rows: TypeAlias = Callable[[int], Mapping[str, Sequence[Mapping[str, Any]]]]
"""What has to be stored once a step is synced: the rows of each table, as often as they are there, by column."""


class KillConformance:
    """Subclass it, and give it the fixtures ``plugins`` and ``rows``. The destination has to be ``Readable``."""

    STEPS: ClassVar[int] = 1
    """How many states of the source there are: what was changed between them, the next sync fetches."""
    WRITE_MODE: ClassVar[WriteMode] = WriteMode.APPEND
    ROWS_MAX: ClassVar[int] = 20
    """Of a window. A sync should have several."""
    SHARE: ClassVar[float] = 1.0
    """Of the calls at which it can be killed, how many are tried; drawn by ``random``."""

    @pytest.fixture
    def plugins(self) -> Plugins:
        """See ``Plugins``."""
        raise NotImplementedError

    @pytest.fixture
    def rows(self) -> Rows:
        """See ``Rows``."""
        raise NotImplementedError

    def test_a_sync_that_is_killed_anywhere_leaves_neither_a_gap_nor_a_duplicate(
        self, plugins: Plugins, rows: Rows, tmp_path: Path
    ) -> None:
        """Of a ``plain`` destination, rows may be there twice after a kill."""
        kills = 0
        for step in range(self.STEPS):
            before, undisturbed, outside = tmp_path / f"before {step}", tmp_path / "undisturbed", Outside()
            undisturbed.mkdir(exist_ok=True)
            shutil.copytree(undisturbed, before)
            self._sync(plugins, undisturbed, step, outside)
            wanted = self._wanted(plugins, undisturbed, step, rows)
            assert self._stored(plugins, undisturbed, step) == wanted, f"step {step}, undisturbed"
            points = worth_striking(outside)
            assert any(point.call == "destination.write" for point in points), "nothing was written"
            for point in random.sample(points, max(1, round(self.SHARE * len(points)))):
                struck = shutil.copytree(before, tmp_path / f"{step} {point}")
                kills += self._killed(plugins, struck, step, Killer(point))
                for _ in range(2):  # the second one has nothing to do
                    self._sync(plugins, struck, step, Outside())
                    self._check(plugins, struck, step, wanted, f"step {step}, killed {point}")
                shutil.rmtree(struck)
        assert kills > self.STEPS

    def _killed(self, plugins: Plugins, directory: Path, step: int, killer: Killer) -> bool:
        with suppress(Killed):
            self._sync(plugins, directory, step, killer)
        return killer.dead

    def _sync(self, plugins: Plugins, directory: Path, step: int, outside: Outside) -> RunReport:
        with _opened(plugins, directory, step) as (source, destination, backend):
            into = Into(
                "store",
                faulty_destination(destination, outside),
                self.WRITE_MODE,
                bounds=Bounds(rows_max=self.ROWS_MAX),
            )
            job = Job(
                "shop",
                FaultySource(source, outside),
                [into],
                FaultyStates(backend, outside),
                concurrency=1,
                claim=Claim(takeover=True),
            )
            report = sync(job)
        errors = [task.error for task in report.tasks if task.error is not None]
        assert (report.exit_code, report.error, errors) == (0, None, [])
        return report

    def _check(self, plugins: Plugins, directory: Path, step: int, wanted: Counter[Row], when: str) -> None:
        found = self._stored(plugins, directory, step)
        assert wanted - found == Counter(), f"{when}: rows are missing"
        with _opened(plugins, directory, step) as (_, destination, _):
            may_repeat = destination.capabilities.delivery is Delivery.PLAIN
        assert may_repeat or found - wanted == Counter(), f"{when}: rows are there twice, or nobody sent them"

    @staticmethod
    def _wanted(plugins: Plugins, directory: Path, step: int, rows: Rows) -> Counter[Row]:
        found = Counter[Row]()
        with _opened(plugins, directory, step) as (source, _, _):
            for table in source.tables():
                batch = pa.RecordBatch.from_pylist(list(rows(step)[table.name]), schema=table.schema)
                found.update((table.name, *row) for row in exact_rows(batch))
        assert found, "without rows, none can be lost"
        return found

    @staticmethod
    def _stored(plugins: Plugins, directory: Path, step: int) -> Counter[Row]:
        """All rows of all tables, without the columns of lineage."""
        found = Counter[Row]()
        with _opened(plugins, directory, step) as (source, destination, _):
            assert isinstance(destination, Readable)
            for table in source.tables():
                for batch in destination.read(table, columns=table.schema.names):
                    found.update((table.name, *row) for row in exact_rows(batch))
        return found


class _opened(ExitStack):  # noqa: N801 -- used as ``closing`` is
    """The plugins of one process, closed at its end."""

    def __init__(self, plugins: Plugins, directory: Path, step: int) -> None:
        super().__init__()
        self._made = plugins(directory, step)

    def __enter__(self) -> tuple[Source, Destination, StateBackend]:  # type: ignore[override]
        super().__enter__()
        for one in self._made:
            self.enter_context(closing(one))
        return self._made
