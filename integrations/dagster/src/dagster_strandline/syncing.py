"""One sync of a source's selected tables, and what Dagster is told of it while it goes on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

import strandline as sl
from dagster_strandline.specs import metadata
from dagster_strandline.tables import SpecTable, inside, loaded
from strandline.logs import said

__all__ = ["sync"]

_FOR_PEOPLE = (2, 3)
"""Exit codes after which another try fails as well: the spec is wrong, or a state cannot be trusted."""


def sync(
    context: dg.AssetExecutionContext,
    spec: Path,
    source: str,
    tables: Mapping[dg.AssetKey, SpecTable],
    choice: Mapping[str, Any],
) -> Iterator[dg.MaterializeResult]:
    """Sync what is selected of ``tables``; a table is materialised as soon as it is complete in all of its destinations.

    However the step ends, the sync ends after its current commit, and before the step.

    Raises:
        Failure: a table failed, or all did. What is complete is materialised all the same.
    """
    try:
        with inside(spec):
            yield from _Sync(context, source, tables).go(loaded(spec), choice)
    except sl.StrandlineError as error:
        raise _failure(error) from None  # its cause may hold a secret


class _Sync:
    def __init__(self, context: dg.AssetExecutionContext, source: str, tables: Mapping[dg.AssetKey, SpecTable]) -> None:
        self._context, self._source = context, source
        self._keys = {one.name: key for key, one in tables.items()}
        self._left = {name for name, key in self._keys.items() if key in context.selected_asset_keys}
        self._told = set[str]()

    def go(self, project: sl.Project, choice: Mapping[str, Any]) -> Iterator[dg.MaterializeResult]:
        chosen = {**choice, "sources": self._source}
        if self._left != self._keys.keys():
            offered = {one.name for one in project.tables(**chosen)}
            chosen["select"] = sorted(self._left & offered) or sorted(self._left)  # of none it says what is wrong
        with project.start(say=self._context.log.log, **chosen) as running:
            for event in running:
                yield from self._tell(running.ended(event))
            report = running.report(check=False)
        yield from self._tell(report.tables)
        self._context.log.info(str(report))
        report.check()
        if self._left:
            raise sl.UsageError(
                f"source {self._source!r} has no table {', '.join(sorted(self._left))} any more",
                hint="dg utils refresh-defs-state",
            )

    def _tell(self, reports: list[sl.TableReport]) -> Iterator[dg.MaterializeResult]:
        by_name: dict[str, list[sl.TableReport]] = {}
        for one in reports:
            by_name.setdefault(one.name, []).append(one)
        for name, all_of_it in by_name.items():
            if name in self._told or not all(one.ok for one in all_of_it):
                continue
            self._told.add(name)
            if name in self._left:
                self._left.remove(name)
                yield dg.MaterializeResult(asset_key=self._keys[name], metadata=metadata(all_of_it))
            elif name in self._keys:  # a parent, which comes with its children
                self._context.log_event(dg.AssetMaterialization(self._keys[name], metadata=metadata(all_of_it)))
            else:
                self._context.log.warning("%s is new, and no asset yet: dg utils refresh-defs-state", name)


def _failure(error: sl.StrandlineError) -> dg.Failure:
    each = error.each() if isinstance(error, sl.UsageError) else (error,)
    lines = [line for one in each for line in (getattr(one, "where", ""), one.message, one.hint) if line]
    return dg.Failure("\n".join(map(said, lines)), allow_retries=error.exit_code not in _FOR_PEOPLE)
