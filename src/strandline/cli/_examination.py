"""What `doctor` looks at: the clock, then every backend, destination and source of a spec, then the states of all."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from strandline.cli._grouping import bare, grouped, named
from strandline.cli._jobs import open_job
from strandline.destination import WriteMode
from strandline.engine.job import Job, ledger_of
from strandline.engine.lease import tells_of_run
from strandline.engine.preview import plan
from strandline.engine.task_plan import TaskPlan
from strandline.errors import NothingYetError, StrandlineError, UsageError
from strandline.probe import Probe, Probes, Verdict
from strandline.selection import among
from strandline.spec import Config, DestinationSpec, SourceSpec
from strandline.table import Table

__all__ = ["DEADLINE_S", "Examination", "Finding"]

DEADLINE_S = 60.0
"""How long a place may take for one probe."""
_RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock that is set right shows an earlier time."""
_NAMED_MAX = 5
_SLOW = "does it hang? Its network, its disk or another process may; look there, then run doctor again"


@dataclass(frozen=True, slots=True)
class Finding:
    """A probe, and of what."""

    place: str
    """``destination warehouse``, say."""
    probe: Probe


class _Closes(Protocol):
    def close(self) -> None:
        """Release what is held."""


@dataclass(slots=True)
class Examination:
    """One look at everything that a spec names. A place that is broken hides no other."""

    config: Config
    _broken: set[str] = field(default_factory=set)
    """Places that raised instead of answering."""

    def findings(self) -> Iterator[Finding]:
        """Everything, in the order in which it can be fixed."""
        yield Finding("this machine", _clock(datetime.now(UTC)))
        named = {name for source in self.config.sources for name in source.destinations}
        backends: set[str] = set()
        for source in self.config.sources:
            kept = f"{source.backend} {source.backend_settings!r}"
            if source.backend != "destination" and kept not in backends:
                backends.add(kept)
                yield from self._bounded(f"backend of {source.name}", partial(_backend, source))
        for destination in self.config.destinations:
            if destination.name in named:
                yield from self._bounded(f"destination {destination.name}", partial(_destination, destination))
        for source in self.config.sources:
            yield from self._bounded(f"source {source.name}", partial(self._source, source))
        for source in self.config.sources:
            yield from self._states(source)

    def _source(self, source: SourceSpec) -> Iterator[Probe]:
        with ExitStack() as stack:
            reader = source.open()
            stack.callback(reader.close)
            offered = list(reader.tables())
            chosen = source.chosen(offered)
            names = {table.name for table in chosen}
            yield _tables(offered, chosen)
            yield from _unread(source, chosen)
            modes = {self.config.destination(name).write_mode for name in source.destinations}
            yield from _keys(chosen, modes)
            for probe in reader.probes() if isinstance(reader, Probes) else ():
                if not probe.table or probe.table in names:
                    yield probe

    def _states(self, source: SourceSpec) -> Iterator[Finding]:
        place = f"states of {source.name}"
        needed = {
            f"source {source.name}",
            f"backend of {source.name}",
            *(f"destination {name}" for name in source.destinations),
        }
        silent = sorted(needed & self._broken)
        if silent:
            found = f"not compared with the destination, since this cannot be used: {', '.join(silent)}"
            fix = f"run doctor again when {' and '.join(silent)} can be"
            yield Finding(place, Probe("agreement", Verdict.WARNING, found, fix))
            return
        yield from self._bounded(place, lambda: _agreement(self.config, source))

    def _bounded(self, place: str, look: Callable[[], Iterator[Probe]]) -> Iterator[Finding]:
        """What ``look`` finds, in a thread of its own: one that hangs is left behind."""
        found: queue.SimpleQueue[Probe | BaseException | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                for one in look():
                    found.put(one)
                found.put(None)
            except BaseException as error:  # noqa: BLE001 -- a broken place must not hide the others
                found.put(error)

        threading.Thread(target=run, name=f"doctor: {place}", daemon=True).start()
        while True:
            try:
                one = found.get(timeout=DEADLINE_S)
            except queue.Empty:
                one = StrandlineError(f"no answer within {DEADLINE_S:.0f} s", hint=_SLOW)
            if one is None:
                return
            if isinstance(one, Probe):
                yield Finding(place, one)
                continue
            self._broken.add(place)
            yield Finding(place, _failed(one))
            return


def _failed(error: BaseException) -> Probe:
    if isinstance(error, StrandlineError):
        return Probe("use", Verdict.PROBLEM, error.message, error.hint or "see what it says, then run doctor again")
    text = f"{type(error).__name__}: {error}"
    return Probe("use", Verdict.PROBLEM, text, "a fault of the plugin, or of this machine: report it")


def _clock(now: datetime) -> Probe:
    found = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < _RELEASED:
        fix = "set it by NTP: timedatectl set-ntp true"
        return Probe("clock", Verdict.PROBLEM, f"{found}, which is before this version was made", fix)
    return Probe("clock", Verdict.OK, found)


def _backend(source: SourceSpec) -> Iterator[Probe]:
    yield from _probed(source.open_backend(), f"backend {source.backend!r}")


def _destination(spec: DestinationSpec) -> Iterator[Probe]:
    yield from _probed(spec.open(), f"plugin {spec.plugin!r}")


def _probed(opened: _Closes, what: str) -> Iterator[Probe]:
    try:
        if isinstance(opened, Probes):
            yield from opened.probes()
        else:
            yield Probe("probes", Verdict.OK, f"the {what} has none of its own")
    finally:
        opened.close()


def _tables(offered: Sequence[Table], chosen: Sequence[Table]) -> Probe:
    if not chosen:
        fix = "grant the role the right to read them, or fix `tables` and `skip_tables`"
        return Probe("tables", Verdict.PROBLEM, f"none is chosen, of {len(offered)}", fix)
    names = [table.name for table in chosen]
    shown = ", ".join(names[:_NAMED_MAX]) + (", …" if len(names) > _NAMED_MAX else "")
    of = f" of {len(offered)}" if len(offered) > len(chosen) else ""
    return Probe("tables", Verdict.OK, f"{len(chosen)}{of}: {shown}")


def _unread(source: SourceSpec, chosen: Sequence[Table]) -> Iterator[Probe]:
    """Tables that a sync would leave out with a warning, or fail: those that the spec calls by their names."""
    exact = [pattern for pattern in source.tables if "*" not in pattern]
    for table in chosen:
        if table.unreadable is not None:
            asked = table.never_left_out or isinstance(table.unreadable, UsageError) or among(exact, table)
            asked = asked and not isinstance(table.unreadable, NothingYetError)
            verdict = Verdict.PROBLEM if asked else Verdict.WARNING
            yield Probe("unread", verdict, table.unreadable.message, table.unreadable.hint)


def _keys(chosen: Sequence[Table], modes: set[WriteMode]) -> Iterator[Probe]:
    """Tables whose rows a destination cannot tell apart."""
    for table in chosen:
        if table.primary_key or table.unreadable or WriteMode.OVERWRITE not in modes or table.incremental:
            continue  # an incremental one without a key is refused by the plan, which says so
        found = f"{table.name}: no primary key, so with `overwrite` each changed row is added, and the old one stays"
        fix = "name its `primary_key` in the source's spec, or use `write_mode: overwrite-delete-stale`"
        yield Probe("primary key", Verdict.WARNING, found, fix)


def _agreement(config: Config, source: SourceSpec) -> Iterator[Probe]:
    """Every state loads, is not from the future, and is not contradicted by the destination."""
    with open_job(config, source) as job:
        plans = plan(job)
        newest_us = _newest_us(job)
    for wrong, problem, hint in dict.fromkeys((bool(one.exit_code), one.problem, one.hint) for one in plans):
        if problem:
            yield Probe("agreement", Verdict.PROBLEM if wrong else Verdict.WARNING, problem, hint)
    yield from _warnings(plans)
    ahead_s = newest_us / 1e6 - datetime.now(UTC).timestamp()
    if ahead_s > 0:
        newest = datetime.fromtimestamp(newest_us / 1e6, UTC)
        found = f"the newest sync time in the states is {newest:%Y-%m-%d %H:%M:%S} UTC, {ahead_s:,.0f} s from now"
        yield Probe("clock", Verdict.WARNING, found, "set this machine's clock by NTP: timedatectl set-ntp true")
    if not any(one.exit_code for one in plans):
        count = sum(not one.problem for one in plans)
        states = f"{count} cursor{'s' * (count != 1)}" if newest_us else "no sync yet; the first one"
        verb = ("load" if count != 1 else "loads") + " and can be gone on from" if newest_us else "can begin"
        yield Probe("agreement", Verdict.OK, f"{states} {verb}")


def _warnings(plans: Sequence[TaskPlan]) -> Iterator[Probe]:
    """Each once, however many tables it is about."""
    said = (
        (one.key.task, bare(text, (str(one.key), one.key.task, *one.tables))) for one in plans for text in one.warnings
    )
    for text, tasks in grouped(said).items():
        if tells_of_run(text):
            yield Probe("agreement", Verdict.WARNING, text, "wait until it ends")
        else:
            fix = f"strandline plan shows what a sync of {named(tasks)} would do"
            yield Probe("agreement", Verdict.WARNING, f"{named(tasks)}: {text}", fix)


def _newest_us(job: Job) -> int:
    newest_us = 0
    for into in job.into:
        ledger = ledger_of(job, into)
        ledger.load()
        for key in ledger.lineages():
            for state in (ledger.stored(key), ledger.mirrored(key)):
                if state is not None and state.current is not None:
                    newest_us = max(newest_us, state.current.sync_time_us)
    return newest_us
