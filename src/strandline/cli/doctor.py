"""`doctor`: what the promises need, looked at one by one, with what to do about the rest."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from strandline.cli._errors import color
from strandline.cli._layout import terminal_width, wrapped
from strandline.cli._options import load_config, spec_argument
from strandline.logs import as_json, said

if TYPE_CHECKING:
    from strandline.cli._examination import Finding

__all__ = ["command"]

_COLORS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@spec_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or a JSON object a line.",
)
def command(specs: Sequence[Path], form: str) -> int:
    """Probe whether everything can do what the promises need, and say how to fix what cannot.

    State directory, clock, destinations, sources, and whether the states agree. Changes nothing that lasts. Exit code
    0 means that nothing is a problem; there may be warnings.
    """
    from strandline.cli._examination import Examination

    counts: Counter[str] = Counter()
    place = ""
    for finding in Examination(load_config(specs)).findings():
        counts[finding.probe.verdict.value] += 1
        if form == "json":
            click.echo(_record(finding))
        else:
            if finding.place != place:
                click.echo(("\n" if place else "") + said(finding.place), color=color())
                place = finding.place
            click.echo("\n".join(_lines(finding, terminal_width())), color=color())
        sys.stdout.flush()
    if form == "text":
        click.echo("\n" + _totals(counts))
    return 1 if counts["problem"] else 0


def _record(finding: "Finding") -> str:
    probe = finding.probe
    texts = {"place": finding.place, "subject": probe.subject, "verdict": probe.verdict.value, "found": probe.found}
    if probe.fix:
        texts["fix"] = probe.fix
    return as_json(texts)


def _lines(finding: "Finding", width: int | None) -> list[str]:
    probe = finding.probe
    verdict = probe.verdict.value
    lines = wrapped(f"  {verdict:<7}  ", said(f"{probe.subject}: {probe.found}"), width=width)
    colored = click.style(f"{verdict:<7}", fg=_COLORS[verdict], bold=verdict != "ok")
    lines[0] = f"  {colored}{lines[0][9:]}"
    if probe.fix:
        first, *rest = wrapped(f"{'':11}fix: ", said(probe.fix), width=width)
        lines += [first.replace("fix:", click.style("fix:", bold=True), 1), *rest]
    return lines


def _totals(counts: Counter[str]) -> str:
    warnings, problems = counts["warning"], counts["problem"]
    parts = [f"{counts['ok']} ok", f"{warnings} warning{'s' * (warnings != 1)}"]
    return ", ".join([*parts, f"{problems} problem{'s' * (problems != 1)}"])
