import json
import logging
from typing import Any

import click

__all__ = ["command"]

_log = logging.getLogger(__name__)

_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}"}
"""What may stand in place of a number: a variable."""


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of specs, for editors.

    Each document is checked against it, with the settings of every installed plugin. An editor finds it by a first
    line such as: # yaml-language-server: $schema=strandline.schema.json
    """
    click.echo(json.dumps(spec_schema(), indent=2))


def spec_schema() -> dict[str, Any]:
    """The JSON Schema of one document."""
    from pydantic.json_schema import models_json_schema

    from strandline.plugins import plugin_names
    from strandline.spec import Batch, DestinationBackend, DestinationSpec, SourceSpec
    from strandline.spec.tables import BLOCK, DEFAULTS, table_model

    documents = {"source": SourceSpec, "destination": DestinationSpec}
    plugins = {
        (kind, name): model
        for kind in ("source", "destination", "state_backend", "executor")
        for name in plugin_names(kind)
        if (model := _model(kind, name)) is not None
    }
    plugins["state_backend", "destination"] = DestinationBackend
    of_tables = {key: table_model(model) for key, model in plugins.items() if key[0] == "source"}
    every = list(dict.fromkeys([*documents.values(), *plugins.values(), *of_tables.values(), Batch]))
    refs, definitions = models_json_schema([(model, "validation") for model in every], ref_template="#/$defs/{model}")
    defs: dict[str, Any] = definitions["$defs"]

    def ref(model: Any) -> dict[str, Any]:
        return refs[model, "validation"]

    def definition(model: Any) -> dict[str, Any]:
        found: dict[str, Any] = defs[ref(model)["$ref"].removeprefix("#/$defs/")]
        return found

    blocks = {
        key: {
            BLOCK: {"type": ["object", "null"], "additionalProperties": {"anyOf": [ref(model), {"type": "null"}]}},
            DEFAULTS: ref(model),
        }
        for key, model in of_tables.items()
    }
    for (kind, _), model in plugins.items():
        if kind == "destination":
            definition(model)["properties"] = definition(Batch)["properties"] | definition(model).get("properties", {})
    for kind, model in documents.items():
        _foreign(kind, definition(model))
        definition(model)["allOf"] = [
            _when(kind, key, {"spec": ref(plugin)} | blocks.get(key, {}))
            for key, plugin in plugins.items()
            if key[0] in (kind, *_named_by(kind))
        ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Strandline spec",
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "spec": ref(model)},
                "required": ["kind", "spec"],
                "additionalProperties": False,
            }
            for kind, model in documents.items()
        ],
        "$defs": _with_variables(defs),
    }


def _model(kind: str, name: str) -> Any | None:
    from strandline.errors import UsageError
    from strandline.plugins import load_plugin

    try:
        return load_plugin(kind, name).Spec
    except UsageError as error:
        from strandline.warned import Code

        text = "the settings of %s %r are left out: %s"
        _log.warning(text, kind, name, error, extra=Code.PLUGIN_LEFT_OUT.extra)
        return None


def _named_by(kind: str) -> tuple[str, ...]:
    """Kinds of plugins that a document of this kind names beside its own."""
    return ("state_backend", "executor") if kind == "source" else ()


def _when(kind: str, plugin: tuple[str, str], fields: dict[str, Any]) -> dict[str, Any]:
    """If the document names this plugin, then its settings are these."""
    plugin_kind, name = plugin
    if plugin_kind == kind:
        return {
            "if": {"properties": {"path": {"enum": [name, f"cloudquery/{name}"]}}, "required": ["path"]},
            "then": {"properties": fields},
        }
    from strandline.plugins import DEFAULT_BACKEND, DEFAULT_EXECUTOR

    field = plugin_kind.removeprefix("state_")
    condition: dict[str, Any] = {"properties": {field: {"const": name}}}
    if name not in (DEFAULT_BACKEND, DEFAULT_EXECUTOR):
        condition["required"] = [field]
    return {"if": condition, "then": {"properties": {f"{field}_spec": fields["spec"]}}}


def _foreign(kind: str, definition: dict[str, Any]) -> None:
    """Fields of CloudQuery's that are accepted without effect."""
    from strandline.spec.models import CLOUDQUERY_FIELDS

    for name, foreign in CLOUDQUERY_FIELDS[kind].items():
        if foreign.action == "ignored":
            definition["properties"][name] = {"description": f"Ignored: {foreign.why}.", "deprecated": True}


def _with_variables(schema: Any) -> Any:
    """Where a number, a truth or a choice is wanted, a variable may stand."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        kept = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        return kept | {"anyOf": [{key: value for key, value in schema.items() if key not in kept}, _VARIABLE]}
    return {
        # The conditions of plugins and the names of fields are no values.
        key: value if key == "if" else _with_variables(value)
        for key, value in schema.items()
    }
