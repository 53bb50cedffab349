"""A sync as a task: of a spec, of some of its tables, or of one of several shards."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.sdk import Asset, AssetAlias, BaseHook, BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

import strandline as sl
from strandline.logs import said

__all__ = ["ALIAS", "StrandlineSyncOperator", "shards"]

ALIAS = "strandline"
"""The asset alias by which a sync tells of assets, unless it has another one among its ``outlets``."""
_FOR_PEOPLE = (2, 3)
"""Exit codes after which another try fails as well: the spec is wrong, or a state cannot be trusted."""
_LOCKED = 4
_process = threading.Lock()


def shards(count: int) -> list[str]:
    """All shards of so many, for ``expand``: ``["0/2", "1/2"]``."""
    return [f"{index}/{count}" for index in range(count)]


class StrandlineSyncOperator(BaseOperator):
    """Bring the tables of a spec up to date, as ``strandline sync`` does.

    The task fails with the summary where a table failed. It is tried again (``retries``) unless the spec is wrong, or a state cannot be
    trusted. Once it succeeds, each table is an event of the asset ``strandline://<destination>/<source>/<table>``, with rows, cursor and
    delivery. Its XCom is a list of the tables and their rows.

    Args:
        spec: a file or several; relative to ``cwd``.
        select: globs; only these tables.
        exclude: globs; these not.
        full_refresh: globs; these are read again from nothing.
        sources: names, where the spec has several; all by default.
        shard: ``3/16``: a share of the tables; see ``shards``.
        strandline_executor: who does the tasks of the sync, in place of the spec's: ``processes``. ``executor`` is Airflow's own.
        wait_lock: how long to wait for another run of the source: ``10m``.
        cwd: where relative paths of the spec and local states lie; by default beside the spec.
        env: variables for ``${…}`` of the spec and for drivers, beside those that there are.
        connections: the same, of the URI of a connection: ``{"SHOP_URL": "shop_db"}``.
        asset_uri: of the asset of a table; has ``{source}``, ``{destination}`` and ``{table}``, its name at the destination. An asset
            of this URI among ``outlets`` is told by its own name. Empty: none is told.
        skip_if_locked: whether the task is skipped, and does not fail, where another run syncs the source.
    """

    template_fields: Sequence[str] = (
        "spec",
        "select",
        "exclude",
        "full_refresh",
        "sources",
        "shard",
        "strandline_executor",
        "wait_lock",
        "cwd",
        "env",
        "connections",
        "asset_uri",
    )
    template_fields_renderers = {"env": "json", "connections": "json"}  # noqa: RUF012 -- as the base class has it
    ui_color = "#d7ecf2"

    def __init__(
        self,
        *,
        spec: str | Sequence[str],
        select: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        full_refresh: str | Sequence[str] = (),
        sources: str | Sequence[str] = (),
        shard: str = "",
        strandline_executor: str = "",
        wait_lock: str = "0",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        connections: Mapping[str, str] | None = None,
        asset_uri: str = "strandline://{destination}/{source}/{table}",
        skip_if_locked: bool = False,
        **kwargs: Any,
    ) -> None:
        outlets = kwargs.get("outlets") or []
        outlets = outlets if isinstance(outlets, list) else [outlets]
        if asset_uri and not any(isinstance(one, AssetAlias) for one in outlets):
            outlets = [*outlets, AssetAlias(ALIAS)]
        super().__init__(**kwargs | {"outlets": outlets})
        self.spec = spec
        self.select = select
        self.exclude = exclude
        self.full_refresh = full_refresh
        self.sources = sources
        self.shard = shard
        self.strandline_executor = strandline_executor
        self.wait_lock = wait_lock
        self.cwd = cwd
        self.env = env
        self.connections = connections
        self.asset_uri = asset_uri
        self.skip_if_locked = skip_if_locked
        self._running: sl.Running | None = None
        self._killed = False

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """See the class.

        Raises:
            AirflowFailException: another try would fail as well.
            AirflowSkipException: another run syncs the source, and that is to be skipped.
            AirflowException: whatever else is not up to date.
        """
        try:
            report = self._synced()
            self.log.info("%s", report)
            report.check()
        except sl.StrandlineError as error:
            raise self._exception(error) from None  # its cause may hold a secret
        self._tell(context, report.tables)
        return [
            {
                name: getattr(one, name)
                for name in ("source", "name", "destination", "rows_read", "rows_written", "rows_deleted")
            }
            for one in report.tables
        ]

    def on_kill(self) -> None:
        """End after the current commit, as on SIGTERM; the next run goes on from there. From the handler of a signal."""
        self._killed = True
        if self._running is not None:
            self._running.stop()

    def _synced(self) -> sl.Report:
        specs = [Path(one) for one in ([self.spec] if isinstance(self.spec, str) else self.spec)]
        place = Path(self.cwd) if self.cwd else specs[0].absolute().parent
        chosen = {
            "select": self.select,
            "exclude": self.exclude,
            "full_refresh": self.full_refresh,
            "sources": self.sources,
            "shard": self.shard,
            "executor": self.strandline_executor,
            "wait_lock": self.wait_lock,
        }
        named = [one if self.cwd else one.absolute() for one in specs]
        if not place.is_dir():
            raise sl.UsageError(f"there is no directory {place}", hint="correct `cwd`, or `spec`")
        with _process, self._environment(), _inside(place), self._started(sl.load(*named), chosen) as running:
            return running.report(check=False)

    @contextmanager
    def _started(self, project: sl.Project, chosen: Mapping[str, Any]) -> Iterator[sl.Running]:
        with project.start(say=self.log.log, **chosen) as running:
            self._running = running
            if self._killed:
                running.stop()
            yield running

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """A task has a process of its own; but `dags test` does several in one."""
        urls = {name: BaseHook.get_connection(one).get_uri() for name, one in (self.connections or {}).items()}
        more = {**(self.env or {}), **urls}
        before = {name: os.environ.get(name) for name in more}
        os.environ.update(more)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def _exception(self, error: sl.StrandlineError) -> AirflowException:
        each = error.each() if isinstance(error, sl.UsageError) else (error,)
        lines = [line for one in each for line in (getattr(one, "where", ""), one.message, one.hint) if line]
        text = "\n".join(map(said, lines))
        if error.exit_code == _LOCKED and self.skip_if_locked:
            return AirflowSkipException(text)
        return AirflowFailException(text) if error.exit_code in _FOR_PEOPLE else AirflowException(text)

    def _tell(self, context: Context, reports: Sequence[sl.TableReport]) -> None:
        """Airflow sends these once the task has succeeded, and never of one that failed."""
        if not self.asset_uri:
            return
        own = {one.uri: one for one in self.outlets if isinstance(one, Asset)}
        (alias, *_) = (one for one in self.outlets if isinstance(one, AssetAlias))
        events = context["outlet_events"]
        for one in reports:
            names = {"source": one.source, "destination": one.destination, "table": one.stored or one.name}
            asset = Asset(uri=self.asset_uri.format_map({name: quote(value, safe="") for name, value in names.items()}))
            if asset.uri in own:
                events[own[asset.uri]].extra.update(self._extra(one))
            else:
                events[alias].add(asset, extra=self._extra(one))

    def _extra(self, one: sl.TableReport) -> dict[str, Any]:
        told = (
            "rows_read",
            "rows_written",
            "rows_deleted",
            "cursor_from",
            "cursor_to",
            "delivery",
            "guarantee",
            "seconds",
        )
        return {name: getattr(one, name) for name in told} | ({"shard": self.shard} if self.shard else {})


@contextmanager
def _inside(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)
