"""The component: a spec, as assets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias

import dagster as dg
from dagster.components.resolved.core_models import OpSpec
from dagster.components.utils.defs_state import DefsStateConfig, DefsStateConfigArgs, ResolvedDefsStateConfig
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver

from dagster_strandline.scaffolder import StrandlineSpecScaffolder
from dagster_strandline.specs import asset_spec, op_name
from dagster_strandline.syncing import sync
from dagster_strandline.tables import SpecTable, look, read, write

__all__ = ["StrandlineSpecComponent"]

Results: TypeAlias = Iterator[dg.MaterializeResult]


def _path(context: dg.ResolutionContext, path: str) -> str:
    return str(context.resolve_source_relative_path(path))


@dg.scaffold_with(StrandlineSpecScaffolder)
@dataclass
class StrandlineSpecComponent(dg.StateBackedComponent, dg.Resolvable):
    """A spec of Strandline: an asset for each table, and one sync for those of a source that are materialised together.

    Which tables there are is kept as the component's state, so that no source is asked when definitions are loaded.
    """

    spec: Annotated[
        str,
        dg.Resolver(
            _path,
            model_field_type=str,
            description="The spec file, relative to this one. Its own paths are relative to itself, and states lie beside it.",
            examples=["strandline.yml"],
        ),
    ]
    select: Annotated[
        Sequence[str], dg.Resolver.default(description="Globs; of the spec's tables only those.", examples=[["orders"]])
    ] = field(default_factory=list)
    exclude: Annotated[Sequence[str], dg.Resolver.default(description="Globs; these not.", examples=[["log_*"]])] = (
        field(default_factory=list)
    )
    executor: Annotated[
        str, dg.Resolver.default(description="In place of the spec's: `threads`, `processes`.", examples=["processes"])
    ] = ""
    wait_lock: Annotated[
        str,
        dg.Resolver.default(description="How long to wait for another run of the source.", examples=["10m"]),
    ] = "0"
    op: Annotated[
        OpSpec | None, dg.Resolver.default(description="Name, tags and pool of the op that syncs a source.")
    ] = None
    retries: Annotated[
        int,
        dg.Resolver.default(description="How often to try again after what may pass: a lock, a network.", examples=[2]),
    ] = 0
    retry_delay_s: Annotated[float, dg.Resolver.default(description="Before each of them.", examples=[300])] = 60.0
    translation: (
        Annotated[
            TranslationFn[SpecTable],
            TranslationFnResolver[SpecTable](template_vars_for_translation_fn=lambda table: {"table": table}),
        ]
        | None
    ) = None
    defs_state: ResolvedDefsStateConfig = field(default_factory=DefsStateConfigArgs.local_filesystem)

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where the list of tables is kept."""
        path = Path(self.spec)
        return DefsStateConfig.from_args(
            self.defs_state, default_key=f"{type(self).__name__}[{path.parent.name}/{path.name}]"
        )

    def write_state_to_path(self, state_path: Path) -> None:
        """Ask the sources which tables they have: ``dg utils refresh-defs-state``."""
        write(state_path, look(Path(self.spec).absolute(), select=self.select, exclude=self.exclude))

    def get_asset_spec(self, table: SpecTable) -> dg.AssetSpec:
        """How a table is described as an asset. A subclass may say it otherwise; ``translation`` comes after it."""
        return asset_spec(table)

    def execute(
        self, context: dg.AssetExecutionContext, source: str, tables: Mapping[dg.AssetKey, SpecTable]
    ) -> Results:
        """Sync those of ``tables`` that are selected. A subclass may do something before or after it."""
        choice = {
            "select": self.select,
            "exclude": self.exclude,
            "executor": self.executor,
            "wait_lock": self.wait_lock,
        }
        yield from sync(context, Path(self.spec).absolute(), source, tables, choice)

    def build_defs_from_state(
        self,
        context: dg.ComponentLoadContext,  # noqa: ARG002 -- the base class gives it
        state_path: Path | None,
    ) -> dg.Definitions:
        """An op for each source. Without a state there is nothing yet; ``dg`` says how to refresh it."""
        tables = read(state_path) if state_path is not None else []
        sources = dict.fromkeys(one.source for one in tables)
        return dg.Definitions([self._assets(name, [one for one in tables if one.source == name]) for name in sources])

    def _described(self, table: SpecTable) -> dg.AssetSpec:
        plain = self.get_asset_spec(table)
        return self.translation(plain, table) if self.translation is not None else plain

    def _assets(self, source: str, tables: Sequence[SpecTable]) -> dg.AssetsDefinition:
        specs = {one.name: self._described(one) for one in tables}
        parents = {one.name: one.parent for one in tables}
        below = {name: [specs[above]] for name, above in parents.items() if above in specs}
        known = {specs[one.name].key: one for one in tables}
        op = self.op or OpSpec()

        @dg.multi_asset(
            name=f"{op.name}_{op_name(source)}" if op.name else op_name(source),
            specs=[one.merge_attributes(deps=below.get(name, [])) for name, one in specs.items()],
            can_subset=True,
            description=op.description,
            op_tags=op.tags,
            pool=op.pool,
            backfill_policy=op.backfill_policy,
            retry_policy=dg.RetryPolicy(max_retries=self.retries, delay=self.retry_delay_s) if self.retries else None,
        )
        def synced(context: dg.AssetExecutionContext) -> Results:
            yield from self.execute(context, source, known)

        return synced
