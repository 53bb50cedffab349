"""The block ``table_settings`` of a source: what a plugin takes of one table, and what is wrong with it where it stands.

A plugin tells by its ``Spec`` what it takes: a field ``tables`` that maps names to a pydantic model. A ``PerTable`` of that
model takes globs, too, and is told where everything stands; a ``dict`` takes names only.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, create_model

from strandline.errors import Problem, did_you_mean
from strandline.rules import TableRules
from strandline.spec.check import check
from strandline.spec.document import Node
from strandline.table_settings import PerTable

__all__ = [
    "BLOCK",
    "check_table_settings",
    "engine_settings",
    "own_model",
    "places",
    "table_model",
    "takes_globs",
    "unsaid",
]

BLOCK = "table_settings"
_OWN = ("spec", "spec", "tables")
_THEIRS = {"types"}
"""What a plugin does itself if it takes it, since it knows its values before they are Arrow's; for any other the engine does."""


def own_model(spec: type[BaseModel]) -> type[BaseModel] | None:
    """What a plugin takes of one table, by its ``Spec``; ``None`` if it takes nothing."""
    field = spec.model_fields.get("tables")
    return next((model for _, model in _per_table(field.annotation)), None) if field else None


def takes_globs(spec: type[BaseModel]) -> bool:
    """Whether a plugin that takes settings of tables takes them by globs."""
    return any(kind is PerTable for kind, _ in _per_table(spec.model_fields["tables"].annotation))


def _per_table(annotation: Any) -> Iterator[tuple[Any, type[BaseModel]]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, UnionType}:
        for one in arguments:
            yield from _per_table(one)
    elif origin is PerTable or (isinstance(origin, type) and issubclass(origin, Mapping)):
        model = arguments[-1]
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield origin, model


@cache
def table_model(spec: type[BaseModel]) -> type[BaseModel]:
    """What ``table_settings`` takes of one table of a plugin: the engine's settings, and the plugin's own."""
    own = own_model(spec)
    if own is None:
        return TableRules
    theirs: Any = {
        name: (own.model_fields[name].annotation, own.model_fields[name]) for name in _THEIRS & own.model_fields.keys()
    }
    return create_model(f"{own.__name__}Settings", __base__=(TableRules, own), **theirs)


def engine_settings(own: type[BaseModel] | None) -> list[str]:
    """What the engine takes of one table, where its plugin takes ``own``."""
    taken = set() if own is None else _THEIRS & own.model_fields.keys()
    return [name for name in TableRules.model_fields if name not in taken]


def unsaid(document: Node) -> Iterator[Node]:
    """All that stands in the block but for the names of tables, which every report shows."""
    block = document.below("spec", BLOCK)
    tables = [block] if block is not None else []
    if block is not None and isinstance(block.value, dict):
        tables = [entry.node for entry in block.value.values()]
    for table in tables:
        if isinstance(table.value, dict):
            yield from (entry.node for name, entry in table.value.items() if name != "name")
        else:
            yield table


def places(document: Node) -> dict[tuple[str, str], Problem]:
    """Where each key stands, by the name of its block: ``table_settings``, or ``tables`` of the plugin's own ``spec``."""
    blocks = {BLOCK: document.below("spec", BLOCK), "tables": document.below(*_OWN)}
    return {
        (block, key): node.problem("", key=key)
        for block, node in blocks.items()
        if node is not None and isinstance(node.value, dict)
        for key in node.value
    }


def check_table_settings(document: Node, spec: type[BaseModel], problems: list[Problem]) -> None:
    """Add to ``problems`` what is wrong with the ``table_settings`` of a source whose plugin has this ``Spec``."""
    node = document.below("spec", BLOCK)
    if node is None or not isinstance(node.value, dict):
        return
    values: dict[str, Any] = {}
    for key, entry in node.value.items():
        if not key:
            problems.append(node.problem(f"`{BLOCK}`: the name of a table, or a glob, is missing", key=key))
        written = entry.node.plain()
        values[key] = {} if written is None else written
        if isinstance(written, dict):
            refused = set(_refused(entry.node, document, key, spec, problems))
            values[key] = {name: value for name, value in written.items() if name not in refused}
    block = create_model("Block", __config__=ConfigDict(extra="ignore"), **{BLOCK: (dict[str, table_model(spec)], {})})  # type: ignore[call-overload, misc]  # a model made at run time
    check(block, document, problems, below=("spec",), value={BLOCK: values})


def _refused(node: Node, document: Node, key: str, spec: type[BaseModel], problems: list[Problem]) -> Iterator[str]:
    """Names of settings that cannot be given so, with the reasons in ``problems``."""
    own, other = own_model(spec), document.below(*_OWN, key)
    plugin, known = _plugin(document), engine_settings(own)
    settings = node.value if isinstance(node.value, dict) else {}
    for name in settings:
        if own is None and name not in known:
            hint = did_you_mean(name, known, f"it takes {', '.join(known)}")
            problems.append(node.problem(f"source {plugin} takes no `{name}` in {BLOCK}", hint, key=name))
        elif (
            own is not None and name in own.model_fields and name not in known and "*" in key and not takes_globs(spec)
        ):
            message = f"source {plugin} takes `{name}` by the name of a table, not by a glob"
            problems.append(node.problem(message, "write it under the name of each table", key=name))
        elif name not in known and other is not None and other.get(name) is not None:
            message = f"`{name}` of {key!r} stands in `spec.tables`, too: {other.problem('', key=name).where}"
            problems.append(node.problem(message, "remove one of the two", key=name))
        else:
            continue
        yield name


def _plugin(document: Node) -> str:
    path = document.text_at("spec", "path")
    return str(path.value).removeprefix("cloudquery/") if path else "?"
