"""The campaign over plugins of one's own, as a class to subclass.

::

    class TestCampaign(CampaignConformance):
        STEPS = 2

        @pytest.fixture
        def documents(self, api):
            return lambda directory, step: [
                ("source", {"path": "shop", "backend": "onefile", "backend_spec": {"path": str(directory / "states.json")}, "spec": {"url": api[step]}}),
                ("destination", {"path": "jsondir", "spec": {"path": str(directory / "rows")}}),
            ]

        @pytest.fixture
        def rows(self):
            return lambda step: {"orders": ORDERS[: 50 * (step + 1)]}

Each sync is a process of the command line's own, in a directory of its own, from which plugins are loaded by their names. It is
killed at calls, suspended while another one takes over, refused a row, and kept from writing; its workers are killed and lost. Then it is started again until it is
done, and what is stored is compared with ``rows``. ``strandline.testing.kills`` kills in one process, and so at every call.

It needs Linux. A run that is suspended may hold a lock of the plugin's: whoever waits for that has to give up within seconds, by a
``LockedError``, say.
"""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest

from strandline.destination import Capabilities, Delivery, Reach, Readable
from strandline.lazy import pa
from strandline.spec import load
from strandline.testing.campaign import calls, disks, pauses, rejects, tracing, workers
from strandline.testing.campaign.chains import Bench, Case, Spoiled, Wrong
from strandline.testing.exact import Row, exact_rows
from strandline.testing.kills import Rows

__all__ = ["CampaignConformance", "Documents", "Spoils"]

Documents: TypeAlias = Callable[[Path, int], Sequence[tuple[str, Mapping[str, Any]]]]
"""The spec in a directory at a step, from 0: a source and a destination, without their names. All that they keep, they keep below
the directory; the source is as it stands at the step. Small windows are set by the campaign."""
Spoils: TypeAlias = Callable[[Path], Iterable[Spoiled]]
"""Ways in which the source or the destination in a directory refuses a row."""

_WINDOW_ROWS = 5
_CELL = "plugins"


class _World:
    """See ``strandline.testing.campaign.chains.World``."""

    moves = False

    def __init__(self, directory: Path, steps: int, documents: Documents, rows: Rows, spoils: Spoils) -> None:
        self.directory, self.steps = directory, steps
        self._documents, self._rows, self._spoils = documents, rows, spoils
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.places: Sequence[str] = [f"{directory}/"]

    @property
    def _spec(self) -> Path:
        return self.directory / "strandline.yml"

    def change(self, step: int) -> None:
        """The spec of the step."""
        always: dict[str, dict[str, Any]] = {
            "source": {"name": "shop", "destinations": ["store"], "concurrency": 1, "tables": ["*"]},
            "destination": {"name": "store"},
        }
        texts = []
        for kind, spec in self._documents(self.directory, step):
            own = dict(spec.get("spec", {}))
            own |= {"batch_size": _WINDOW_ROWS} if kind == "destination" else {}
            texts.append(json.dumps({"kind": kind, "spec": {**always[kind], **spec, "spec": own}}))
        self._spec.write_text("\n---\n".join(texts), "utf-8")

    @property
    def capabilities(self) -> Capabilities:
        """Of the destination."""
        self.change(0)
        return load([self._spec]).destinations[0].capabilities

    def differences(self, step: int, *, ended: bool = True) -> Wrong:  # noqa: ARG002 -- nobody knows which files may be there
        """Of every table, rows that are missing or too many."""
        config, found, wanted, wrong = load([self._spec]), Counter[Row](), Counter[Row](), Wrong()
        model = self._rows(step)
        with closing(config.sources[0].open()) as source, closing(config.destinations[0].open()) as destination:
            assert isinstance(destination, Readable)
            for table in source.tables():
                batch = pa.RecordBatch.from_pylist(list(model[table.name]), schema=table.schema)
                wanted.update((table.name, *row) for row in exact_rows(batch))
                for batch in destination.read(table, columns=table.schema.names):
                    found.update((table.name, *row) for row in exact_rows(batch))
            repeats = destination.capabilities.delivery is Delivery.PLAIN
        missing = wanted - found
        extra = Counter({row: n for row, n in (found - wanted).items() if not (repeats and row in wanted)})
        if missing or extra:
            wrong.missing, wrong.duplicates = missing.total(), extra.total()
            wrong.problems.append(f"missing {missing.most_common(3)}, too many {extra.most_common(3)}")
        return wrong

    def uncovered(self) -> Mapping[str, tuple[Counter[Any], Counter[Any], Counter[Any]]]:
        """What a cursor covers, nobody knows but its source."""
        return {}

    def spoils(self) -> Iterable[Spoiled]:
        """As the author says."""
        return self._spoils(self.directory)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.directory)


class _Bench(Bench):
    make: Callable[[Path], _World]

    def world(self, cell: Any, **more: Any) -> _World:  # noqa: ARG002 -- there is one
        return self.make(more.get("directory") or self.root / "world")


class CampaignConformance:
    """Subclass it, and give it the fixtures ``documents`` and ``rows``. The destination has to be ``Readable``."""

    STEPS: ClassVar[int] = 1
    """How many states of the source there are."""
    CASES: ClassVar[int] = 12
    """About how many kills there are at calls; other calls each time, by the seed of the tests."""

    @pytest.fixture
    def documents(self) -> Documents:
        """See ``Documents``."""
        raise NotImplementedError

    @pytest.fixture
    def rows(self) -> Rows:
        """See ``strandline.testing.kills.Rows``."""
        raise NotImplementedError

    @pytest.fixture
    def spoils(self) -> Spoils:
        """See ``Spoils``."""
        return lambda _directory: ()

    @pytest.fixture
    def bench(self, documents: Documents, rows: Rows, spoils: Spoils) -> Iterator[_Bench]:
        """Where syncs are started, with another seed each time; undisturbed ones are right."""
        bench = _Bench(random.getrandbits(32))
        bench.make = lambda directory: _World(directory, self.STEPS, documents, rows, spoils)
        with closing(bench):
            learned, undisturbed = bench.learned(_CELL)
            _sound(bench, undisturbed)
            bench.share = min(1.0, self.CASES / sum(len(one.points) for one in learned))
            yield bench

    def test_a_sync_that_is_killed_leaves_neither_a_gap_nor_a_duplicate(self, bench: _Bench) -> None:
        """By a ``SIGKILL``, which no code of the plugin sees."""
        assert any(case.exits[0] < 0 for case in _sound(bench, calls.strike(bench, _CELL)))

    def test_a_run_that_is_suspended_and_overtaken_changes_nothing_when_it_goes_on(self, bench: _Bench) -> None:
        """Of a ``plain`` destination nobody but the state backend keeps it out: no state of it is saved any more."""
        _sound(bench, pauses.strike(bench, _CELL, loose=bench.world(_CELL).capabilities.delivery is Delivery.PLAIN))

    def test_workers_that_are_lost_leave_neither_a_gap_nor_a_duplicate(self, bench: _Bench) -> None:
        """By the executor ``processes``; nothing is tried where a destination is written by the process of the run."""
        if bench.world(_CELL).capabilities.reach in (Reach.FILE, Reach.PROCESS):
            return
        bench.again(bench.seed, share=0.1)
        assert any(case.reached for case in _sound(bench, workers.strike(bench, _CELL)))

    def test_a_row_that_is_refused_fails_the_sync_until_it_is_fixed(self, bench: _Bench) -> None:
        """As ``spoils`` says; without it, nothing is tried."""
        _sound(bench, rejects.strike(bench, _CELL))

    @pytest.mark.skipif(not tracing.AVAILABLE, reason="strace is not installed: no disk faults were tried")
    def test_a_write_that_fails_is_an_error_and_no_loss(self, bench: _Bench) -> None:
        """No space left, or an ``fsync`` that fails, at any file below the directory."""
        _sound(bench, disks.strike(bench, _CELL))


def _sound(bench: Bench, cases: Iterable[Case]) -> list[Case]:
    """All of them, none of which has found anything."""
    done = list(cases)
    if found := [case.record(bench.seed) for case in done if case.bad]:
        pytest.fail("\n".join(found))
    return done
