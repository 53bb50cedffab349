"""The blocks ``table_settings`` and ``defaults`` of a source: what a plugin takes of one table, and what is wrong where it stands.

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
    "DEFAULTS",
    "check_table_settings",
    "engine_settings",
    "own_model",
    "places",
    "table_model",
    "tables_of",
    "takes_globs",
    "unsaid",
]

BLOCK, DEFAULTS = "table_settings", "defaults"
_OWN = ("spec", "spec", "tables")
_THEIRS = {"types", "columns"}
"""What a plugin does itself if it takes it, since it knows its values before they are Arrow's, and need not read all of them; for
any other the engine does."""
_OF_ONE = {"name": "give every table one by `names` of the source"}
"""What cannot hold for every table, with what to do instead."""


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
    """All that stands in the blocks but for the names of tables, which every report shows."""
    block, defaults = document.below("spec", BLOCK), document.below("spec", DEFAULTS)
    if defaults is not None:
        yield defaults
    tables = [block] if block is not None else []
    if block is not None and isinstance(block.value, dict):
        tables = [entry.node for entry in block.value.values()]
    for table in tables:
        if isinstance(table.value, dict):
            yield from (entry.node for name, entry in table.value.items() if name != "name")
        else:
            yield table


def tables_of(document: Node) -> Iterator[Node]:
    """What the spec says of tables: of all of them, and of each key."""
    block, defaults = document.below("spec", BLOCK), document.below("spec", DEFAULTS)
    yield from (defaults,) if defaults is not None else ()
    if block is not None and isinstance(block.value, dict):
        yield from (entry.node for entry in block.value.values())


def places(document: Node) -> dict[tuple[str, str], Problem]:
    """Where each key stands, by the name of its block: ``table_settings``, or ``tables`` of the plugin's own ``spec``.

    What holds for every table has the key ``*``.
    """
    blocks = {BLOCK: document.below("spec", BLOCK), "tables": document.below(*_OWN)}
    spec = document.below("spec")
    every = {
        (name, "*"): spec.problem("", key=name)
        for name in (DEFAULTS, "names")
        if spec is not None and spec.get(name) is not None
    }
    return every | {
        (block, key): node.problem("", key=key)
        for block, node in blocks.items()
        if node is not None and isinstance(node.value, dict)
        for key in node.value
    }


def check_table_settings(document: Node, spec: type[BaseModel], problems: list[Problem]) -> None:
    """Add to ``problems`` what is wrong with both blocks of a source whose plugin has this ``Spec``."""
    _check_defaults(document, spec, problems)
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
            other = document.below(*_OWN, key)
            refused = set(_refused(entry.node, document, BLOCK, key, other, spec, problems))
            values[key] = {name: value for name, value in written.items() if name not in refused}
    _check_block(BLOCK, dict[str, table_model(spec)], values, document, problems)  # type: ignore[misc]  # made at run time


def _check_defaults(document: Node, spec: type[BaseModel], problems: list[Problem]) -> None:
    node = document.below("spec", DEFAULTS)
    if node is None or not isinstance(node.value, dict):
        return
    refused = set(_refused(node, document, DEFAULTS, "*", None, spec, problems))
    problems += (
        node.problem(f"`{name}` cannot be the same for every table", _OF_ONE[name], key=name)
        for name in _OF_ONE.keys() & node.value.keys()
    )
    values = {name: value for name, value in node.plain().items() if name not in refused}
    _check_block(DEFAULTS, table_model(spec), values, document, problems)


def _check_block(block: str, kind: Any, values: Any, document: Node, problems: list[Problem]) -> None:
    model: type[BaseModel] = create_model("Block", __config__=ConfigDict(extra="ignore"), **{block: (kind, {})})  # type: ignore[call-overload]  # a model made at run time
    check(model, document, problems, below=("spec",), value={block: values})


def _refused(
    node: Node,
    document: Node,
    block: str,
    key: str,
    other: Node | None,
    spec: type[BaseModel],
    problems: list[Problem],
) -> Iterator[str]:
    """Names of settings that cannot be given so, with the reasons in ``problems``. ``other``: the plugin's own of that key."""
    own = own_model(spec)
    plugin, known = _plugin(document), engine_settings(own)
    settings = node.value if isinstance(node.value, dict) else {}
    for name in settings:
        if own is None and name not in known:
            hint = did_you_mean(name, known, f"it takes {', '.join(known)}")
            problems.append(node.problem(f"source {plugin} takes no `{name}` in {block}", hint, key=name))
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
