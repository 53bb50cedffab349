"""`state diff`: what moved between two versions of a cursor, or what two backends have of a source."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from strandline.cli._layout import table, terminal_width
from strandline.cli._options import load_config, spec_argument
from strandline.cli._states import backends_of, histories_of, source_named, task_named
from strandline.errors import UsageError
from strandline.logs import as_json, said
from strandline.runs import describe_cursor
from strandline.spec import Config
from strandline.state import State, StateKey, is_newer, is_run

__all__ = ["diff"]

_NONE = "–"
_TEXT_MAX = 60
_HEAD = ("what", "from", "to")
_HEAD_BOTH = ("table", "here", "there", "")


@click.command("diff", short_help="What moved between two versions, or differs between two backends.")
@click.argument("source")
@click.argument("task", required=False)
@spec_argument
@click.option("--from", "first", metavar="VERSION", help="As `state history` shows it; default: the one before `--to`.")
@click.option("--to", "last", metavar="VERSION", help="Default: the newest.")
@click.option("--with", "other", type=click.Path(path_type=Path), metavar="SPEC", help="The spec of another backend.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def diff(
    source: str,
    task: str | None,
    specs: Sequence[Path],
    first: str | None,
    last: str | None,
    other: Path | None,
    form: str,
) -> None:
    """What moved between two versions of the history of TASK; or, --with another SPEC, what its backend has of SOURCE.

    Between backends, each cursor of which one has none, or an earlier one, is named.
    """
    config = load_config(specs)
    if other is not None:
        if first or last:
            raise click.UsageError("--with compares what is stored now, and no versions")
        _show_both(_both(config, load_config([other]), source, task and task_named(config, source, task)), form)
        return
    if task is None:
        raise click.UsageError("name a TASK, or another SPEC with --with")
    task = task_named(config, source, task)
    found = list(_versions(config, source, task, first, last))
    if form == "json":
        click.echo(as_json([_record(*one) for one in found], indent=2))
        return
    for key, before, after in found:
        click.echo(said(f"{key}: {_version(before)} → {_version(after)}"))
        rows = [(name, _cut(was), _cut(now)) for name, was, now in _changes(before, after)]
        for line in table([_HEAD, *rows], width=terminal_width(), right=()):
            click.echo(f"  {line}")


def _versions(
    config: Config, source: str, task: str, first: str | None, last: str | None
) -> Iterator[tuple[StateKey, State | None, State]]:
    """Of each destination; of the first version of all there is none before."""
    for key, history in histories_of(config, source, task):
        place = 0 if last is None else _place(history, last)
        before = place + 1 if first is None else _place(history, first)
        yield key, _trusted(history[before]) if before < len(history) else None, _trusted(history[place])


def _trusted(state: State) -> State:
    if state.untrusted is not None:
        raise state.untrusted
    return state


def _place(history: Sequence[State], version: str) -> int:
    for number, state in enumerate(history):
        if _version(state) == version:
            return number
    raise UsageError(f"the history has no version {version}", hint=f"it has {', '.join(map(_version, history))}")


def _version(state: State | None) -> str:
    return _NONE if state is None else f"{state.epoch}.{state.sequence}"


def _changes(before: State | None, after: State) -> Iterator[tuple[str, Any, Any]]:
    """What is not the same, by name."""
    was, now = ({} if one is None else dict(_flat("", _told(one))) for one in (before, after))
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            yield name, was.get(name), now.get(name)


def _told(state: State) -> Mapping[str, Any]:
    current = state.current
    return {
        "cursor": state.cursor,
        "pass": current and {"phase": current.phase.value, "full": current.full, "sync_time_us": current.sync_time_us},
        "tables": {name: {"rows": one.rows, "mark": one.mark} for name, one in state.tables.items()},
        "run": state.run_id,
        "note": state.note,
        "saved": state.saved_at,
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for below, one in value.items():
            yield from _flat(f"{name}.{below}" if name else str(below), one)
    else:
        yield name, value


def _cut(value: Any) -> str:
    text = _NONE if value in (None, "") else value if isinstance(value, str) else as_json(value)
    return said(text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…")


def _record(key: StateKey, before: State | None, after: State) -> dict[str, Any]:
    changes = {name: [was, now] for name, was, now in _changes(before, after)}
    versions = [None if before is None else _version(before), _version(after)]
    return {"task": key.task, "destination": key.destination, "versions": versions, "changes": changes}


def _both(
    config: Config, other: Config, source: str, task: str | None
) -> list[tuple[StateKey, State | None, State | None, str]]:
    """Each lineage that either backend has, and how the two are."""
    here, there = (_stored(one, source, task) for one in (config, other))
    if not here and not there:
        raise UsageError(f"neither backend has a state of source {source!r}" + (f" and {task!r}" if task else ""))
    keys = sorted({*here, *there})
    return [(key, here.get(key), there.get(key), _verdict(here.get(key), there.get(key))) for key in keys]


def _stored(config: Config, source: str, task: str | None) -> dict[StateKey, State]:
    found: dict[StateKey, State] = {}
    with backends_of(config, source_named(config, source)) as backends:
        for backend in backends:
            loaded = backend.load(source).items()
            found |= {key: state for key, state in loaded if not is_run(key.task) and task in {None, key.task}}
    return found


def _verdict(here: State | None, there: State | None) -> str:
    if here is None or there is None:
        return "only there" if here is None else "only here"
    if here.untrusted is not None or there.untrusted is not None:
        return "untrusted"
    if here.nonce == there.nonce:
        return "the same"
    if here.version == there.version:
        return "of two histories"
    return "here is newer" if is_newer(here, there) else "there is newer"


def _show_both(found: Sequence[tuple[StateKey, State | None, State | None, str]], form: str) -> None:
    if form == "json":
        records = [
            {
                "task": key.task,
                "destination": key.destination,
                "verdict": verdict,
                "here": here and {"version": _version(here), "cursor": here.cursor},
                "there": there and {"version": _version(there), "cursor": there.cursor},
            }
            for key, here, there, verdict in found
        ]
        click.echo(as_json(records, indent=2))
        return
    rows = [(said(str(key)), _standing(here), _standing(there), verdict) for key, here, there, verdict in found]
    for line in table([_HEAD_BOTH, *rows], width=terminal_width(), right=()):
        click.echo(line)


def _standing(state: State | None) -> str:
    return _NONE if state is None else said(f"{_version(state)}: {describe_cursor(state.cursor)}")
