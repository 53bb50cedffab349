"""`sync`: bring the destinations up to date."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

import click

from strandline.cli._errors import show
from strandline.cli._jobs import Choice, choose
from strandline.cli._layout import terminal_width
from strandline.cli._notify import notify
from strandline.cli._options import Settings, load_config, spec_argument
from strandline.cli._output import telling
from strandline.cli._progress import progress
from strandline.cli._run import run_of
from strandline.cli._summary import exit_code, log_errors, summary
from strandline.cli._sync_options import choosing, claiming, executing, sharding
from strandline.cli.plan import show_plans
from strandline.engine.lease import Claim
from strandline.engine.window import Stop
from strandline.runs import RUNS, RunReport, RunStore, append_record
from strandline.shard import Shard
from strandline.spec import Config

__all__ = ["command"]

_log = logging.getLogger(__name__)


@click.command("sync")
@spec_argument
@choosing
@sharding
@executing
@claiming
@click.option("--no-migrate", is_flag=True, help="Fail where a table of the destination would have to change.")
@click.option("--dry-run", is_flag=True, help="Show the plan, and stop there.")
@click.option(
    "--allow-mass-delete",
    is_flag=True,
    help="Delete stale rows even if they are most of a table, and, at a full refresh, rows that cannot be read again.",
)
@click.option(
    "--summary-location",
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    help="Append the summary to this file, a line of JSON for each source.",
)
@click.pass_obj
def command(
    settings: Settings,
    specs: Sequence[Path],
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    refresh: tuple[str, ...],
    *,
    shard: Shard | None,
    executor: str,
    claim: Claim,
    no_migrate: bool,
    dry_run: bool,
    allow_mass_delete: bool,
    summary_location: Path | None,
) -> int:
    """Bring the destinations up to date, fetching only what changed.

    Exit codes: 0 everything completed, 1 some tables failed, 2 the spec is wrong, 3 a state cannot be trusted, 4 another
    run syncs this source, 5 out of reach, 130 and 143 stopped by a signal after a clean commit. Output that cannot be
    written changes none of them.
    """
    config = load_config(specs)
    choice = Choice(
        select,
        exclude,
        refresh,
        may_migrate=not no_migrate,
        allow_mass_delete=allow_mass_delete,
        claim=claim,
        shard=shard,
        executor=executor,
    )
    if dry_run:
        return show_plans(config, choice, settings)
    with telling(settings) as tell:
        reports = _run(config, choice, settings)
        if summary_location is not None:
            with _noting(settings, str(summary_location)):
                for report in reports:
                    append_record(summary_location, report)
        if settings.log_format == "text" and any(report.tasks or report.warnings or report.shard for report in reports):
            tell(summary(reports, width=terminal_width(), colored=True, verbose=settings.verbose))
    return exit_code(reports)


def _run(config: Config, choice: Choice, settings: Settings) -> list[RunReport]:
    settings.is_run = True
    store, reports, stop = RunStore(RUNS), [], Stop()
    sources, choice = choose(config, choice)
    with _Signals(stop) as signals:
        try:
            with progress(settings) as observer:
                signals.say = observer.say
                for source in sources:
                    reports.append(run_of(config, source, choice, observer, stop))
                    _keep(store, reports[-1], settings)
        finally:
            signals.say = _log.info
            for source, report in zip(sources, reports, strict=False):  # now that all rows are where they belong
                notify(source, report, report.exit_code, stop)
    for report in reports:
        if report.error is not None:
            show(report.error, settings)
        if settings.log_format == "text":
            log_errors(report, shown=not settings.quiet)
        for task in report.tasks:
            if task.bug and task.error is not None and settings.debug:
                show(task.error.__cause__ or task.error, settings)
    return reports


def _keep(store: RunStore, report: RunReport, settings: Settings) -> None:
    if report.run_id:  # it was begun
        with _noting(settings, str(RUNS)):
            store.add(report)


@contextmanager
def _noting(settings: Settings, file: str) -> Iterator[None]:
    """Reports are for people, and for programs that look on: a sync does not fail for a file that cannot be written."""
    try:
        yield
    except (OSError, ValueError) as error:
        settings.lost.setdefault(file, getattr(error, "strerror", None) or str(error))


class _Signals:
    """The first signal asks everyone to stop after a clean commit; the second ends the process at once."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}
        self.say: Callable[[str], None] = lambda _: None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        again = "Ctrl-C" if number == signal.SIGINT else "another signal"
        if self._stop.requested:
            if sys.stderr.isatty():
                # the live table has hidden the cursor, and stands where the shell would write its prompt
                os.write(2, b"\x1b[?25h\n")
            os._exit(128 + number)
        self._stop.set(number)
        said = f"stopping after the current commit; {again}{' again' * (number == signal.SIGINT)} stops at once"
        # in a thread, since what was interrupted may hold the lock of the stream
        threading.Thread(target=self.say, args=(said,), daemon=True).start()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
