"""`optimize`: join the small files that syncs have left in a lake, and remove what nobody reads any more."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import click

from strandline.cli._errors import gravest, show
from strandline.cli._options import Settings, duration, load_config, spec_argument
from strandline.cli._output import telling
from strandline.errors import StrandlineError, UsageError, did_you_mean
from strandline.logs import said
from strandline.optimize import Optimizable, Optimized
from strandline.selection import matches
from strandline.spec import Config

__all__ = ["command"]

_KEEP_MIN = timedelta(hours=1)
"""A window that is being written is in files that nothing names yet."""


@click.command("optimize")
@spec_argument
@click.option("--select", metavar="GLOB", multiple=True, help="Only these stored tables.")
@click.option(
    "--keep",
    metavar="DURATION",
    default="7d",
    show_default=True,
    callback=duration,
    help="How long the files of earlier versions stay, for readers that are at it and for time travel; at least 1h.",
)
@click.pass_obj
def command(settings: Settings, specs: Sequence[Path], select: tuple[str, ...], keep: timedelta) -> int:
    """Join the small files of lakes, and remove those that no table names any more.

    Rows and cursors stay as they are. Syncs may run meanwhile, and readers go on. A table that fails is named, and the others
    are done.
    """
    if keep < _KEEP_MIN:
        raise UsageError("--keep is less than an hour", hint="what a sync is writing now would be removed")
    config, codes, names = load_config(specs), list[int](), set[str]()
    with ExitStack() as opened, telling(settings) as tell:
        for name, lake in _lakes(config, opened).items():
            stored = lake.optimizable()
            names.update(stored)
            chosen = [table for table in stored if any(matches(pattern, table) for pattern in select or ("*",))]
            for table in chosen:
                try:
                    done = lake.optimize(table, keep=keep)
                except StrandlineError as failed:
                    codes.append(show(failed, settings))
                    continue
                tell(said(f"{name}: {table}: {_what(done)}"))
            if not stored:
                tell(said(f"{name}: no tables yet"))
    if strange := [one for one in select if not any(matches(one, table) for table in names)]:
        hint = did_you_mean(strange[0], names) or "it matches the names of stored tables"
        raise UsageError(f"--select {strange[0]}: no such table is stored", hint=hint)
    return gravest(codes)


def _lakes(config: Config, opened: ExitStack) -> dict[str, Optimizable]:
    """The destinations of the spec that have something to optimize.

    Raises:
        UsageError: none has.
    """
    lakes: dict[str, Optimizable] = {}
    used = dict.fromkeys(name for source in config.sources for name in source.destinations)
    for name in used:
        destination = config.destination(name).open()
        opened.callback(destination.close)
        if isinstance(destination, Optimizable):
            lakes[name] = destination
    if not lakes:
        kinds = ", ".join(f"{name} ({config.destination(name).path})" for name in used)
        raise UsageError(f"nothing to optimize in {kinds}", hint="only lakes are made of small files")
    return lakes


def _what(done: Optimized) -> str:
    files = f"{done.before} file{'s' * (done.before != 1)}"
    joined = files if done.after == done.before else f"{files} → {done.after}"
    return joined + (f", {done.removed} removed that no table names" if done.removed else "")
