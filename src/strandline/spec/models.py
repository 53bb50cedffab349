"""What the documents of a spec hold, as pydantic models: the reference of their fields, and of CloudQuery's."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from strandline.describe import check_drivers
from strandline.destination import Capabilities, Destination, MigrateMode, WriteMode
from strandline.errors import Problem, StrandlineError, UsageError
from strandline.executor import Executor
from strandline.own_tables import STATES
from strandline.plugins import DEFAULT_BACKEND, DEFAULT_EXECUTOR, EXECUTOR, load_plugin
from strandline.rules import NameTemplate, TableRules
from strandline.selection import select_tables
from strandline.settings import Seconds, Size
from strandline.source import Source
from strandline.spec.notification import Notification
from strandline.spec.tables import BLOCK, DEFAULTS, engine_settings, own_model, takes_globs
from strandline.state import StateBackend
from strandline.table import Table
from strandline.table_settings import Entry, PerTable

__all__ = [
    "CLOUDQUERY_FIELDS",
    "REGISTRIES_ELSEWHERE",
    "BackendOptions",
    "Batch",
    "DestinationBackend",
    "DestinationSpec",
    "Foreign",
    "SourceSpec",
    "connected",
    "without_batch",
]

NAME_LENGTH_MAX = 200
REGISTRIES_ELSEWHERE = ("local", "grpc", "docker")
"""Registries whose plugins do not run inside this process; each needs a plugin of that name."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A field of CloudQuery's that has no meaning here."""

    action: Literal["ignored", "refused"]
    why: str


CLOUDQUERY_FIELDS: Mapping[str, Mapping[str, Foreign]] = {
    "source": {
        "scheduler": Foreign("ignored", "`concurrency` is all there is to choose"),
        "table_concurrency": Foreign("ignored", "`concurrency` counts tasks"),
        "resource_concurrency": Foreign("ignored", "`concurrency` counts tasks"),
        "deterministic_cq_id": Foreign("ignored", "_cq_id is always deterministic"),
        "otel_endpoint": Foreign("ignored", "no traces are sent"),
        "otel_endpoint_insecure": Foreign("ignored", "no traces are sent"),
        "docker_registry_auth_token": Foreign("ignored", "nothing is pulled from a registry"),
    },
    "destination": {
        "send_sync_summary": Foreign("ignored", "`sync` prints its summary, and stores none"),
        "docker_registry_auth_token": Foreign("ignored", "nothing is pulled from a registry"),
        "sync_group_id": Foreign("refused", "rows are not grouped by sync"),
        "transformers": Foreign("refused", "without them the rows would be stored unchanged"),
    },
}
"""What happens to fields that CloudQuery has and we do not need. What would change the stored rows is refused."""

Registry: TypeAlias = Literal["builtin", "cloudquery", "github", "python", "local", "grpc", "docker"]
_Mapping: TypeAlias = Annotated[
    dict[str, Any],
    BeforeValidator(lambda value: {} if value is None else value),
    WithJsonSchema({"type": ["object", "null"], "additionalProperties": True}),
]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=NAME_LENGTH_MAX, description="Unique; it names the states.")
    path: str = Field(min_length=1, description="The plugin. `cloudquery/NAME` is `NAME`.")
    registry: Registry = Field("builtin", description="Where the plugin comes from.")
    version: str = Field("", description="CloudQuery's; not used, for plugins are Python packages here.")
    spec: _Mapping = Field({}, description="The plugin's own settings.", repr=False)

    @property
    def plugin(self) -> str:
        """The name of the plugin; of a module of table functions, that of its registry."""
        if self.registry == "python":
            return self.registry
        return self.path.removeprefix("cloudquery/")


class BackendOptions(BaseModel):
    """CloudQuery's spelling of ``backend: destination``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table_name: str = Field(
        min_length=1,
        description=f"CloudQuery keeps one table for each source. Here `{STATES}` keeps those of all sources, whatever this says.",
    )
    connection: str = Field(description="`@@plugins.NAME.connection`: the destination that keeps the states.")

    @field_validator("connection")
    @classmethod
    def _names_a_destination(cls, connection: str) -> str:
        if connected(connection) is None:
            raise ValueError("should be @@plugins.NAME.connection, with the name of a destination")
        return connection


def connected(connection: str) -> str | None:
    """The destination that ``@@plugins.NAME.connection`` names; ``None`` if it is anything else."""
    match = re.fullmatch(r"@@plugins\.(.+)\.connection", connection, re.DOTALL)
    return match[1] if match else None


class DestinationBackend(BaseModel):
    """Settings of ``backend: destination``: the states live beside the rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    destination: str = Field("", description="The destination's name; by default each of the source's own.")
    table: Literal["cq_state"] = Field("cq_state", description="The table that keeps the states of all sources.")


class SourceSpec(_Document):
    """A document of kind ``source``."""

    tables: list[str] = Field(["*"], min_length=1, description="Globs. One that matches nothing is an error.")
    skip_tables: list[str] = Field([], description="Globs. What they match is left out, with its child tables.")
    names: NameTemplate | None = Field(
        None,
        description="How tables are called at the destination, as `{schema}_{table}` or `shop_{table}`; `{source}` is the name of the "
        "source. Default: their own name, with the schema before it unless that is the usual one.",
    )
    defaults: _Mapping = Field(
        {}, description="Settings of every table, as in `table_settings`, which come after them.", repr=False
    )
    table_settings: _Mapping = Field(
        {}, description="Settings of single tables, by name or glob: what the engine takes, and the plugin.", repr=False
    )
    skip_dependent_tables: bool = Field(True, description="Whether child tables are read only where a glob matches.")
    destinations: list[str] = Field(min_length=1, description="Names of destinations.")
    backend: str = Field(DEFAULT_BACKEND, description="The state backend's plugin, or `destination`.")
    backend_spec: _Mapping = Field({}, description="The state backend's own settings.", repr=False)
    backend_options: BackendOptions | None = Field(None, description="CloudQuery's spelling of `backend: destination`.")
    concurrency: int = Field(8, ge=1, description="How many tasks run at once.")
    executor: str = Field(DEFAULT_EXECUTOR, description="The executor's plugin: who does the tasks.")
    executor_spec: _Mapping = Field({}, description="The executor's own settings.", repr=False)
    on_failure: Notification | None = Field(
        None, description="Who is told of a run that ends with another exit code than 0.", repr=False
    )
    on_success: Notification | None = Field(
        None, description="Who is told of a run that ends with exit code 0.", repr=False
    )
    _places: Mapping[tuple[str, str], Problem] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, value: Any) -> Any:
        """``backend_options`` becomes ``backend: destination``."""
        options = value.get("backend_options") if isinstance(value, dict) else None
        if not isinstance(options, dict) or not isinstance(options.get("connection"), str):
            return value
        settings = {"destination": connected(options["connection"]) or ""}
        return value | {"backend": "destination", "backend_spec": settings}

    @cached_property
    def settings(self) -> BaseModel:
        """``spec`` as the plugin's own ``Spec``, with its part of ``table_settings``. Holds secrets."""
        plugin, values = load_plugin("source", self.plugin), self.spec
        model = plugin.Spec
        if self.registry == "python":
            values = plugin.module_settings(self.path) | values
        if self.own_settings.entries and isinstance(values.get("tables", {}), Mapping):
            tables = self.own_settings if takes_globs(model) else self.own_settings.by_key()
            values = {**values, "tables": tables}
        return _settings(model, values, f"source {self.name!r}")

    @cached_property
    def rules(self) -> PerTable[TableRules]:
        """What the spec tells the engine: an entry for every key of ``table_settings``, also for those that tell it nothing."""
        template = {"*": {"names": self.names}} if self.names is not None else {}
        entries = [
            *self._entries("names", template, of_engine=True),
            *self._entries(DEFAULTS, {"*": self.defaults} if self.defaults else {}, of_engine=True),
            *self._entries(BLOCK, self.table_settings, of_engine=True),
        ]
        return PerTable(TableRules, map(self._with_source, entries))

    @cached_property
    def own_settings(self) -> PerTable[BaseModel]:
        """What the plugin is told of tables: by ``defaults``, by ``tables`` of its ``spec``, then by ``table_settings``."""
        model = own_model(load_plugin("source", self.plugin).Spec)
        if model is None:
            return PerTable(BaseModel)
        defaults = self._entries(DEFAULTS, {"*": self.defaults})
        first, then = self.spec.get("tables"), self._entries(BLOCK, self.table_settings)
        of_plugin = self._entries("tables", first if isinstance(first, Mapping) else {})
        given = [entry for entry in (*defaults, *then) if entry.settings]
        return PerTable(model, sorted([*of_plugin, *given], key=lambda entry: not entry.is_default))

    def chosen(self, tables: Sequence[Table]) -> list[Table]:
        """Those of the source's ``tables`` that the spec chooses. Raises as ``select_tables``."""
        return select_tables(tables, self.tables, self.skip_tables, skip_dependent_tables=self.skip_dependent_tables)

    def locate(self, places: Mapping[tuple[str, str], Problem]) -> None:
        """Remember where the settings of tables stand, by block and key, for errors that come later."""
        self._places = places

    def _entries(self, block: str, settings: Mapping[str, Any], *, of_engine: bool = False) -> Iterator[Entry]:
        of_rules = (
            engine_settings(own_model(load_plugin("source", self.plugin).Spec))
            if settings and block != "tables"
            else []
        )
        for key, written in settings.items():
            kept = written or {} if block == BLOCK else written
            if block != "tables" and isinstance(kept, Mapping):
                kept = {name: value for name, value in kept.items() if (name in of_rules) == of_engine}
            is_default = block in (DEFAULTS, "names")
            yield Entry(key, kept, self._places.get((block, key), Problem("")), is_default=is_default)

    def _with_source(self, entry: Entry) -> Entry:
        template = entry.settings.get("names")
        if not isinstance(template, str):
            return entry
        return replace(entry, settings={**entry.settings, "names": template.replace("{source}", self.name)})

    @cached_property
    def backend_settings(self) -> BaseModel:
        """``backend_spec`` as a ``DestinationBackend`` or the backend plugin's own ``Spec``. Holds secrets."""
        model = DestinationBackend if self.backend == "destination" else load_plugin("state_backend", self.backend).Spec
        return _settings(model, self.backend_spec, f"backend of source {self.name!r}")

    def open_backend(self) -> StateBackend:
        """The state backend that is not a destination, constructed; touches nothing outside."""
        plugin = load_plugin("state_backend", self.backend)
        check_drivers(plugin, f"backend {self.backend!r}")
        backend: StateBackend = plugin(self.backend_settings)
        return backend

    def open_executor(self, name: str = "") -> Executor:
        """The executor, or another one with its usual settings, constructed; touches nothing outside."""
        chosen = name or self.executor
        plugin, values = load_plugin(EXECUTOR, chosen), self.executor_spec if chosen == self.executor else {}
        check_drivers(plugin, f"executor {chosen!r}")
        executor: Executor = plugin(_settings(plugin.Spec, values, f"executor {chosen!r} of source {self.name!r}"))
        return executor

    def open(self) -> Source:
        """The source, constructed; touches nothing outside."""
        plugin = load_plugin("source", self.plugin)
        check_drivers(plugin, f"source {self.name!r}")
        source: Source = plugin(self.settings)
        return source


class Batch(BaseModel):
    """The bounds of a window, which any destination's ``spec`` may set. ``None``: the engine's own."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    batch_size: int | None = Field(None, ge=1, description="Rows.")
    batch_size_bytes: Size | None = Field(None, description="Bytes of Arrow data, as 16MiB or a number.")
    batch_timeout: Seconds | None = Field(None, description="A duration, as 20s. In Python: seconds.")


def _write_mode(data: dict[str, Any]) -> WriteMode:
    """What a destination does unless told otherwise: the first of the modes it can."""
    try:
        can = _open(data["path"].removeprefix("cloudquery/"), data["name"], data["spec"]).capabilities.write_modes
    except (KeyError, StrandlineError):
        return WriteMode.OVERWRITE_DELETE_STALE
    for mode in (WriteMode.OVERWRITE_DELETE_STALE, WriteMode.OVERWRITE):
        if mode in can:
            return mode
    return WriteMode.APPEND


class DestinationSpec(_Document):
    """A document of kind ``destination``."""

    write_mode: WriteMode = Field(
        default_factory=_write_mode, description="overwrite-delete-stale, or the first mode that the destination can."
    )
    migrate_mode: MigrateMode = Field(MigrateMode.SAFE, description="`forced` may create a table again, empty.")
    pk_mode: Literal["default", "cq-id-only"] = Field("default", description="`cq-id-only`: _cq_id is the primary key.")

    @cached_property
    def settings(self) -> BaseModel:
        """``spec`` as the plugin's own ``Spec``. Holds secrets."""
        return _destination_settings(self.plugin, self.name, self.spec)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the plugin can do with these settings; its drivers need not be installed."""
        return _open(self.plugin, self.name, self.spec).capabilities

    @cached_property
    def batch(self) -> Batch:
        """The bounds of a window that ``spec`` sets."""
        return Batch.model_validate(self.spec)

    def open(self) -> Destination:
        """The destination, constructed; touches nothing outside."""
        check_drivers(load_plugin("destination", self.plugin), f"destination {self.name!r}")
        return _open(self.plugin, self.name, self.spec)


def without_batch(model: type[BaseModel], spec: Mapping[str, Any]) -> dict[str, Any]:
    """A destination's ``spec`` without the bounds of a window, unless its own ``model`` wants them."""
    return {name: value for name, value in spec.items() if name not in Batch.model_fields or name in model.model_fields}


def _destination_settings(plugin: str, name: str, spec: Mapping[str, Any]) -> BaseModel:
    model = load_plugin("destination", plugin).Spec
    return _settings(model, without_batch(model, spec), f"destination {name!r}")


def _open(plugin: str, name: str, spec: Mapping[str, Any]) -> Destination:
    destination: Destination = load_plugin("destination", plugin)(_destination_settings(plugin, name, spec))
    return destination


def _settings(model: type[BaseModel], values: Mapping[str, Any], what: str) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors(include_input=False)
        ]
        raise UsageError(f"the settings of {what} are wrong: {'; '.join(wrong)}") from None
