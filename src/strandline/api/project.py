"""A sync and its plan, as functions."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from strandline.api.places import Destination, Plugin, Source, destination, source
from strandline.api.report import Plan, Report
from strandline.api.running import Running, Say
from strandline.cli._jobs import Choice, choose, open_job, selected
from strandline.cli._notify import notify
from strandline.cli._plan_words import Words
from strandline.cli._run import run_of
from strandline.cli.plan import remembered
from strandline.engine import preview
from strandline.engine.lease import Claim
from strandline.engine.window import Stop
from strandline.errors import StrandlineError, UsageError
from strandline.runs import RUNS, Observer, RunReport, RunStore
from strandline.settings import parse_duration
from strandline.shard import Shard
from strandline.spec import Config, DestinationSpec, SourceSpec
from strandline.spec import load as load_spec
from strandline.table import Table

__all__ = ["Project", "SelectedTable", "load", "plan", "sync"]

Document = TypeVar("Document", bound=BaseModel)


def sync(
    *what: Any,
    to: Plugin | Destination | Sequence[Plugin | Destination] = (),
    name: str = "",
    backend: Plugin | str | None = None,
    check: bool = True,
    **choice: Any,
) -> "Report":
    """Bring a destination up to date, as ``strandline sync`` does.

    Args:
        what: table functions, modules of them, a place, a ``Source``; or a ``Project``.
        to: where to, one or several; not with a project.
        name: of the source, which names its states.
        backend: where states are kept; by default in ``.cq/state``.
        check: raise unless everything was brought up to date.
        choice: ``select``, ``exclude`` and ``full_refresh`` (globs), ``migrate=False``, ``allow_mass_delete``, ``wait_lock`` (``"10m"``),
            ``takeover``, ``shard`` (``"3/16"``), ``executor``, ``sources`` (names), and ``say``, which is given what the command line
            logs, as ``logging.Logger.log`` takes it.

    Raises:
        UsageError: nothing was touched.
        SyncError: some tables failed. What the others have committed stays.
    """
    return _project(what, to, name, backend).sync(check=check, **choice)


def plan(
    *what: Any,
    to: Plugin | Destination | Sequence[Plugin | Destination] = (),
    name: str = "",
    backend: Plugin | str | None = None,
    **choice: Any,
) -> "Plan":
    """What a sync would do; touches nothing. Arguments as of ``sync``."""
    return _project(what, to, name, backend).plan(**choice)


def load(*specs: str | Path) -> "Project":
    """A spec, checked: files, or directories; ``strandline.yml`` by default. Relative paths in it mean what they mean here.

    Raises:
        UsageError: with all that is wrong in ``problems``.
    """
    return Project(load_spec(specs or ("strandline.yml",)))


def _project(what: Sequence[Any], to: Any, name: str, backend: Plugin | str | None) -> "Project":
    if len(what) == 1 and isinstance(what[0], Project):
        return what[0]
    places = [to] if isinstance(to, Plugin | Destination | str) else list(to)
    if not places:
        raise UsageError("sync where to?", hint="to=sl.duckdb('warehouse.duckdb')")
    into = [one if isinstance(one, Destination) else destination(one) for one in places]
    if len(what) == 1 and isinstance(what[0], Source):
        if backend is not None:
            raise UsageError("a source has its backend already", hint="sl.source(…, backend=…)")
        from_ = what[0]
    else:
        from_ = source(*what, name=name, backend=backend)
    document = {**from_.spec, "name": name or from_.name, "destinations": [one.name for one in into]}
    destinations = tuple(_checked(DestinationSpec, one.spec) for one in into)
    one = _checked(SourceSpec, document)
    assert one.settings is not None
    assert all(each.settings is not None for each in destinations)
    return Project(Config((one,), destinations))


def _checked(model: type[Document], values: Mapping[str, Any]) -> Document:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)]
        raise UsageError(f"{values.get('name')!r} cannot be: {'; '.join(wrong)}") from None


@dataclass(frozen=True, slots=True)
class SelectedTable:
    """A table that a sync brings up to date, known from its source alone."""

    source: str
    destinations: tuple[str, ...]
    stored: str
    """As the destinations call it."""
    table: Table = field(repr=False)

    @property
    def name(self) -> str:
        """As the source calls it; ``select`` takes it."""
        return self.table.name


@dataclass(frozen=True)
class Project:
    """A checked spec: sources, destinations, and what can be done with them."""

    config: Config = field(repr=False)

    @property
    def sources(self) -> tuple[SourceSpec, ...]:
        """As documents of the spec."""
        return self.config.sources

    @property
    def destinations(self) -> tuple[DestinationSpec, ...]:
        """As documents of the spec."""
        return self.config.destinations

    def sync(self, *, check: bool = True, say: Say | None = None, **choice: Any) -> "Report":
        """Bring the destinations up to date; see ``strandline.sync``."""
        with self.start(say=say, **choice) as running:
            return running.report(check=check)

    def start(self, *, say: Say | None = None, **choice: Any) -> Running:
        """A sync that goes on while this program does something else; see ``Running``. Arguments as of ``strandline.sync``."""
        wanted = _choice(**choice)

        def go(observer: Observer, stop: Stop, reports: list[RunReport]) -> None:
            sources, chosen = choose(self.config, wanted)
            try:
                for one in sources:
                    if not stop.requested:
                        reports.append(run_of(self.config, one, chosen, observer, stop))
                        with suppress(
                            OSError
                        ):  # what was done is told for people who look; a sync does not fail for it
                            RunStore(RUNS).add(reports[-1])
            finally:
                for one, report in zip(sources, reports, strict=False):
                    notify(one, report, report.exit_code, stop)

        return Running(self.config, go, say)

    def tables(self, **choice: Any) -> list[SelectedTable]:
        """The tables that a sync would bring up to date. Only the sources are connected to. Arguments as of ``strandline.sync``."""
        sources, chosen = choose(self.config, _choice(**choice))
        return [
            SelectedTable(one.name, tuple(one.destinations), stored, table)
            for one in sources
            for table, stored in selected(one, chosen)
        ]

    def plan(self, **choice: Any) -> "Plan":
        """What a sync would do; see ``strandline.plan``."""
        errors = list[StrandlineError]()
        sources, chosen = choose(self.config, _choice(**choice), errors.append)
        words = list[Words]()
        for one in sources:
            with open_job(self.config, one, chosen) as job:
                known = remembered(job)
                words += [Words(each, job.source, known, chosen.shard) for each in preview.plan(job)]
        return Plan(tuple(words), tuple(errors))

    def __str__(self) -> str:
        return "\n".join(f"{one.name} → {', '.join(one.destinations)}" for one in self.sources)


def _choice(
    *,
    select: Iterable[str] | str = (),
    exclude: Iterable[str] | str = (),
    full_refresh: Iterable[str] | str = (),
    migrate: bool = True,
    allow_mass_delete: bool = False,
    wait_lock: str = "0",
    takeover: bool = False,
    shard: str = "",
    executor: str = "",
    sources: Iterable[str] | str = (),
) -> Choice:
    texts = (select, exclude, full_refresh, sources)
    chosen, left, again, of = (tuple([one] if isinstance(one, str) else one) for one in texts)
    claim = Claim(wait_s=parse_duration(wait_lock).total_seconds(), takeover=takeover)
    try:
        part = Shard.of(shard) if shard else None
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Choice(
        chosen,
        left,
        again,
        may_migrate=migrate,
        allow_mass_delete=allow_mass_delete,
        claim=claim,
        shard=part,
        executor=executor,
        sources=of,
    )
