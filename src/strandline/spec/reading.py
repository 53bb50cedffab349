"""Reads the documents of a spec, and says everything that is wrong with them at once."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from strandline.destination import WriteMode
from strandline.errors import Problem, UsageError, did_you_mean
from strandline.logs import redact
from strandline.plugins import DEFAULT_BACKEND, DEFAULT_EXECUTOR, EXECUTOR, load_plugin, plugin_names
from strandline.spec.check import check
from strandline.spec.document import File, Node, parse, read
from strandline.spec.environment import with_env_file
from strandline.spec.models import (
    CLOUDQUERY_FIELDS,
    REGISTRIES_ELSEWHERE,
    Batch,
    DestinationBackend,
    DestinationSpec,
    SourceSpec,
    connected,
    without_batch,
)
from strandline.spec.tables import check_table_settings, places, tables_of, unsaid
from strandline.spec.variables import Variables, register_secrets
from strandline.warned import Code

__all__ = ["FILE_NAME", "Config", "Written", "discover", "load"]

FILE_NAME = "strandline.yml"

_SAID = {*SourceSpec.model_fields, *DestinationSpec.model_fields} - {
    "spec",
    "backend_spec",
    "backend_options",
    "on_failure",
    "on_success",
}
"""Fields of a ``spec`` that every report names: a variable in them is a name, and no secret."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """A spec as it was written, for another process to read it.

    Variables are not filled in, so it holds no secret that a ``${…}`` stands for.
    """

    files: tuple[File, ...] = field(repr=False)
    now: datetime
    """For ``${time:…}``, so that it is the same everywhere."""
    env_files: bool = True
    """See ``load``."""

    def load(self, environment: Mapping[str, str] | None = None) -> "Config":
        """The spec, checked, with the variables of this process, or those of ``environment``. Raises as ``load``."""
        return self._read([], os.environ if environment is None else environment)

    def _read(self, problems: list[Problem], environment: Mapping[str, str]) -> "Config":
        reading = _Reading(Variables(environment, self.now), problems)
        for file in self.files:
            if self.env_files:
                reading.variables.environment = with_env_file(environment, Path(file.name), reading.problems)
            reading.add(file)
        config = replace(reading.config(), written=self)
        problems = _shown(reading.problems)
        if problems:
            count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise UsageError(f"the spec has {count}; nothing was touched", problems=problems)
        return config


@dataclass(frozen=True, slots=True)
class Config:
    """A spec, checked: every name is known, every plugin exists, every setting fits."""

    sources: tuple[SourceSpec, ...]
    destinations: tuple[DestinationSpec, ...]
    written: Written | None = None
    """As it was read."""

    def destination(self, name: str) -> DestinationSpec:
        """The destination called ``name``."""
        return next(destination for destination in self.destinations if destination.name == name)


def discover(directory: Path) -> Path:
    """``strandline.yml`` in ``directory`` or the nearest parent, up to the root of the git repository.

    Outside a repository only ``directory`` is looked at: what lies above may be somebody else's.

    Raises:
        UsageError: there is none.
    """
    above = [directory, *directory.parents]
    root = next((place for place, path in enumerate(above) if (path / ".git").exists()), 0)
    for path in above[: root + 1]:
        if (path / FILE_NAME).is_file():
            return path / FILE_NAME
    raise UsageError(
        f"there is no {FILE_NAME} here" + (" or above, up to the root of the repository" if root else ""),
        hint="`strandline init` writes one; or name a spec: a file, several, or a directory",
    )


def load(
    paths: Sequence[Path | str],
    *,
    environment: Mapping[str, str] | None = None,
    env_files: bool = True,
    now: datetime | None = None,
) -> Config:
    """Read and check the spec in ``paths``: files, and directories of ``*.yml`` and ``*.yaml`` (not below, not hidden).

    Args:
        paths: as the user named them; errors name them so.
        environment: for ``${NAME}``; the process's own by default.
        env_files: whether ``.env`` beside each file may have what the environment lacks.
        now: for ``${time:…}``, with a zone.

    Raises:
        UsageError: with everything that is wrong in ``problems``.
    """
    problems: list[Problem] = []
    files = [read(path, name, problems) for path, name in _files(paths, problems)]
    written = Written(tuple(file for file in files if file is not None), now or datetime.now(UTC), env_files)
    return written._read(problems, os.environ if environment is None else environment)  # noqa: SLF001 -- with what is wrong already


def _files(paths: Iterable[Path | str], problems: list[Problem]) -> Iterator[tuple[Path, str]]:
    seen: set[Path] = set()
    for named in paths:
        path = Path(named)
        found = [path]
        if path.is_dir():
            found = sorted(
                entry
                for entry in path.iterdir()
                if entry.suffix in (".yml", ".yaml") and not entry.name.startswith(".") and not entry.is_dir()
            )
            if not found:
                problems.append(Problem("no *.yml or *.yaml in this directory", str(named)))
        for file in found:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, str(file)


def _shown(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, from the top of each file to its end, without secrets; cut last, or a half of one would be left."""
    lengths = {"message": 500, "line": 200, "hint": 500}
    once = dict.fromkeys(
        replace(problem, **{name: redact(getattr(problem, name))[:length] for name, length in lengths.items()})
        for problem in problems
    )
    files = list(dict.fromkeys(_place(problem)[0] for problem in once))
    return sorted(once, key=lambda problem: (files.index(_place(problem)[0]), _place(problem)[1:]))


def _place(problem: Problem) -> tuple[str, int, int]:
    """File, line and column; zeros for a whole file, and no file for what concerns all of them."""
    name, _, numbers = problem.where.rpartition(":")
    name, _, row = name.rpartition(":")
    return (name, int(row), int(numbers)) if row.isdecimal() and numbers.isdecimal() else (problem.where, 0, 0)


@dataclass(slots=True)
class _Reading:
    """Documents as they are read, and what is wrong with them."""

    variables: Variables
    problems: list[Problem] = field(default_factory=list)
    sources: list[SourceSpec] = field(default_factory=list)
    destinations: list[DestinationSpec] = field(default_factory=list)
    documents: list[Node] = field(default_factory=list)
    """Of sources."""
    named: list[tuple[str, Node]] = field(default_factory=list)
    """Destinations that sources name, and where."""
    names: dict[str, dict[str, Node]] = field(default_factory=lambda: {"source": {}, "destination": {}})
    """Of every document, whether it is otherwise right or not."""

    def add(self, file: File) -> None:
        documents = parse(file, self.problems)
        for document in documents:
            self.variables.replace_document(document, self.problems, said=_SAID, unsaid=unsaid(document))
            register_secrets(document, unknown=self.variables.unknown)
        for document in documents:
            self._document(document)

    def _document(self, document: Node) -> None:
        if not isinstance(document.value, dict):
            self.problems.append(document.problem("a document is a mapping with `kind` and `spec`"))
            return
        for key in document.value.keys() - {"kind", "spec"}:
            hint = did_you_mean(key, ("kind", "spec"), "a document has `kind` and `spec`")
            self.problems.append(document.problem(f"unknown field {key!r}", hint, key=key))
        kind = document.get("kind")
        if kind is None:
            self.problems.append(document.problem("missing field 'kind'", "kind: source, or kind: destination"))
        elif kind.value == "transformer":
            self.problems.append(
                kind.problem("transformers are not supported", "transform the rows at the destination")
            )
        elif not isinstance(kind.value, str) or kind.value not in self.names:
            wrong = kind.value if isinstance(kind.value, str) else kind.raw
            hint = did_you_mean(wrong, self.names, "the kinds are source and destination")
            self.problems.append(kind.problem(f"unknown kind {wrong!r}", hint))
        elif document.get("spec") is None:
            self.problems.append(document.problem("missing field 'spec'"))
        else:
            self._spec(kind.value, document)

    def _spec(self, kind: str, document: Node) -> None:
        values = self._known_values(kind, document)
        if values is None:
            return
        name = document.text_at("spec", "name")
        if name is not None:
            first = self.names[kind].setdefault(str(name.value), name)
            if first is not name:
                hint = f"the first is at {first.problem('').where}"
                self.problems.append(name.problem(f"a second {kind} named {name.value!r}", hint))
        plugin = self._plugin(kind, document)
        if kind == "source":
            source = check(SourceSpec, document, self.problems, below=("spec",), value=values)
            self._destinations_named(document)
            self._backend(document)
            self._executor(document)
            self.documents.append(document)
            if plugin is not None:
                check(plugin.Spec, document, self.problems, below=("spec", "spec"))
                check_table_settings(document, plugin.Spec, self.problems)
            if source is not None:
                source.locate(places(document))
                self.sources.append(source)
        else:
            self._destination(document, values, plugin)

    def _known_values(self, kind: str, document: Node) -> dict[str, Any] | None:
        """The document's ``spec`` without the fields of CloudQuery's that are not needed."""
        spec = document.get("spec")
        assert spec is not None
        if not isinstance(spec.value, dict):
            self.problems.append(spec.problem("`spec`: should be a mapping"))
            return None
        values: dict[str, Any] = spec.plain()
        for name, foreign in CLOUDQUERY_FIELDS[kind].items():
            value = values.pop(name, None)
            if not value:
                continue
            problem = spec.problem(f"`{name}` is {foreign.action}: {foreign.why}", key=name)
            if foreign.action == "refused":
                self.problems.append(replace(problem, hint="remove it"))
            else:
                _log.warning("%s: %s", problem.where, problem.message, extra=Code.FIELD_IGNORED.extra)
        return values

    def _plugin(self, kind: str, document: Node) -> Any | None:
        """The class of the document's plugin; ``None`` where there is none, with the reason."""
        path, registry = document.text_at("spec", "path"), document.text_at("spec", "registry")
        if path is None:
            return None
        if registry is not None and registry.value in REGISTRIES_ELSEWHERE:
            hint = f"the built-in {kind} plugins are {', '.join(plugin_names(kind))}; they need no `registry`"
            self.problems.append(registry.problem(f"`registry: {registry.value}` is not supported yet", hint))
            return None
        if registry is not None and registry.value == "python":
            return self._module(kind, path, registry)
        return self._load(kind, path)

    def _module(self, kind: str, path: Node, registry: Node) -> Any | None:
        """The plugin that reads a module of table functions, which may lie beside the spec. The module is imported."""
        if kind != "source":
            self.problems.append(registry.problem("`registry: python` is for sources", "name a plugin in `path`"))
            return None
        beside = str(Path(path.file.name).absolute().parent)
        if beside not in sys.path:
            sys.path.append(beside)
        plugin = load_plugin(kind, "python")
        try:
            plugin.module_settings(str(path.value), beside)
        except UsageError as error:
            self.problems.append(path.problem(error.message, error.hint))
            return None
        return plugin

    def _load(self, kind: str, named: Node) -> Any | None:
        try:
            return load_plugin(kind, str(named.value))
        except UsageError as error:
            self.problems.append(named.problem(error.message, error.hint))
            return None

    def _executor(self, document: Node) -> None:
        """Check ``executor_spec`` against the executor's own model."""
        named = document.text_at("spec", "executor")
        plugin = load_plugin(EXECUTOR, DEFAULT_EXECUTOR) if named is None else self._load(EXECUTOR, named)
        if plugin is not None:
            check(plugin.Spec, document, self.problems, below=("spec", "executor_spec"))

    def _backend(self, document: Node) -> None:
        """Check ``backend_spec`` against the backend's own model."""
        spec = document.get("spec")
        assert spec is not None
        if spec.get("backend_options") is not None:
            for key in ("backend", "backend_spec"):
                if spec.get(key) is not None:
                    hint = "remove one; `backend_options` means `backend: destination`"
                    self.problems.append(spec.problem(f"both `{key}` and `backend_options`", hint, key=key))
            keeper = document.text_at("spec", "backend_options", "connection")
            name = connected(str(keeper.value)) if keeper is not None else None
            self.named += [(name, keeper)] if keeper and name else []
            return
        named = document.text_at("spec", "backend")
        model: Any = DestinationBackend
        if named is None:
            model = load_plugin("state_backend", DEFAULT_BACKEND).Spec
        elif named.value == "destination":
            keeper = document.text_at("spec", "backend_spec", "destination")
            self.named += [(str(keeper.value), keeper)] if keeper and keeper.value else []
        else:
            plugin = self._load("state_backend", named)
            model = plugin and plugin.Spec
        if model is not None:
            check(model, document, self.problems, below=("spec", "backend_spec"))

    def _destination(self, document: Node, values: dict[str, Any], plugin: Any | None) -> None:
        before = len(self.problems)
        destination = check(DestinationSpec, document, self.problems, below=("spec",), value=values)
        own = values.get("spec") or {}
        if isinstance(own, dict):
            check(Batch, document, self.problems, below=("spec", "spec"), value=own)
            if plugin is not None:
                settings = without_batch(plugin.Spec, own)
                check(plugin.Spec, document, self.problems, below=("spec", "spec"), value=settings)
        if destination is None or plugin is None or len(self.problems) > before:
            return
        can = destination.capabilities.write_modes
        if destination.write_mode not in can:
            spec, _ = document.at(("spec", "write_mode"))
            modes = ", ".join(sorted(can))
            self.problems.append(
                spec.problem(
                    f"{destination.plugin} cannot {destination.write_mode.value!r}", f"its write modes are {modes}"
                )
            )
        self.destinations.append(destination)

    def _destinations_named(self, document: Node) -> None:
        """Remember every destination that the source names, and find those that it names twice."""
        node = document.below("spec", "destinations")
        items = node.value if node is not None and isinstance(node.value, list) else []
        names: set[object] = set()
        for item in items:
            if isinstance(item.value, str) and item.value in names:
                self.problems.append(item.problem(f"{item.value!r} stands here twice", "remove one of the two"))
            elif isinstance(item.value, str):
                names.add(item.value)
                self.named.append((item.value, item))

    def _check_modes(self, document: Node) -> None:
        """Whether the source's destinations can write its tables as it says of them."""
        named = document.below("spec", "destinations")
        items = named.value if named is not None and isinstance(named.value, list) else []
        names = [item.value for item in items if isinstance(item.value, str)]
        for node in tables_of(document):
            mode = node.get("write_mode")
            for destination in self.destinations if mode is not None else ():
                can = destination.capabilities.write_modes
                if mode is not None and destination.name in names and str(mode.value) in set(WriteMode) - can:
                    message = f"destination {destination.name!r} ({destination.plugin}) cannot {mode.value!r}"
                    self.problems.append(mode.problem(message, f"its write modes are {', '.join(sorted(can))}"))

    def config(self) -> Config:
        """All documents, once every name they use was found."""
        known = self.names["destination"]
        for name, node in self.named:
            if name not in known:
                hint = did_you_mean(name, known, f"the destinations are {', '.join(known) or 'none'}")
                self.problems.append(node.problem(f"unknown destination {name!r}", hint))
        for document in self.documents:
            self._check_modes(document)
        if not self.problems:
            for kind, found in (("source", self.sources), ("destination", self.destinations)):
                if not found:
                    self.problems.append(Problem(f"there is no document of kind {kind}"))
        return Config(tuple(self.sources), tuple(self.destinations))
