"""The spec that `init` writes: by hand, with comments, every value quoted by the YAML library where it needs it."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from strandline.logs import said
from strandline.proposal import Proposal, Proposals, Setting

__all__ = ["Document", "spec_text"]

_COMMENT_COLUMN = 42


@dataclass(frozen=True, slots=True)
class Document:
    """One side of the sync, as it is written."""

    name: str
    plugin: str
    settings: Mapping[str, Any]
    shown: str
    """The place, for a comment; empty where the settings say it."""


def spec_text(
    source: Document, destination: Document, proposals: Proposals, *, mode: str, mode_why: str, schema: str
) -> str:
    """The whole file."""
    lines = [
        f"# yaml-language-server: $schema={schema}",
        "# Written by `strandline init`. Next: `strandline plan` shows what a sync would do, `strandline sync` does it.",
        *_head("source", source),
        "  tables: ['*']",
        "  destinations:",
        f"    - {_scalar(destination.name)}",
        *_settings(source, proposals.settings),
        *_inside(proposals, _tables(proposals)),
        "---",
        *_head("destination", destination),
        _with(f"  write_mode: {mode}", mode_why),
        *_settings(destination, {}),
    ]
    return "\n".join(lines) + "\n"


def _head(kind: str, document: Document) -> list[str]:
    return [f"kind: {kind}", "spec:", f"  name: {_scalar(document.name)}", f"  path: {_scalar(document.plugin)}"]


def _settings(document: Document, more: Mapping[str, Any]) -> Iterator[str]:
    settings = {**document.settings, **more}
    if not settings:
        return
    yield "  spec:"
    for at, (name, value) in enumerate(settings.items()):
        yield _with(f"    {name}: {_scalar(value)}", document.shown if at == 0 else "")


def _tables(proposals: Proposals) -> Iterator[str]:
    """A block of settings; what is a comment in it becomes one of them without its ``# ``."""
    for note in proposals.notes:
        yield _comment(2, note)
    if any(one.options for one in proposals.tables):
        yield _comment(2, "Below, a line without its first `# ` is a setting.")
    yield "  table_settings:"
    chosen = [one for one in proposals.tables if one.settings]
    rest = [one for one in proposals.tables if not one.settings]
    for one in chosen:
        yield _with(f"    {_scalar(one.name)}:", "; ".join(part for part in (_rows(one), *one.notes) if part))
        yield from (_with(f"      {_setting(setting)}", setting.why) for setting in one.settings)
        yield from (_with(f"      # {_setting(setting)}", setting.why) for setting in one.options)
    for one in rest:
        about = ", ".join(part for part in (_rows(one), one.guarantee) if part)
        yield _with(f"    # {_scalar(one.name)}:", "; ".join([about, *one.notes]))
        yield from (_with(f"    #   {_setting(setting)}", setting.why) for setting in one.options)


def _inside(proposals: Proposals, lines: Iterator[str]) -> Iterator[str]:
    """The block where it belongs: tables that are there because the spec says so are settings of the source."""
    for line in lines:
        inner = "  tables:" if line == "  table_settings:" else line
        yield f"  {inner}" if proposals.only_these else line


def _setting(one: Setting) -> str:
    return f"{one.name}: {_scalar(one.value)}"


def _rows(one: Proposal) -> str:
    return f"{one.rows} row{'s' * (one.rows != '1')}" if one.rows else ""


def _comment(indent: int, text: str) -> str:
    return f"{' ' * indent}# {said(text)}"


def _with(line: str, comment: str) -> str:
    return f"{line:<{_COMMENT_COLUMN}}  # {said(comment)}" if comment else line


def _scalar(value: Any) -> str:
    """A value, or a list of some, as YAML has it on one line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.width = 1 << 30
    # what is not printable is escaped, so that the file says what a reader sees
    yaml.allow_unicode = all(str(one).isprintable() for one in (value if isinstance(value, list | tuple) else [value]))
    yaml.default_flow_style = True
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue().removesuffix("\n").removesuffix("\n...")
