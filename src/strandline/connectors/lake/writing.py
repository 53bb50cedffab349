"""A window is decided: what becomes of each table, one entry of the log, and then the tables' own logs."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from strandline.connectors.arrow.changes import Looks, changes_with, left_as_stored
from strandline.connectors.lake.lake import Lake, Opened, record_of
from strandline.connectors.lake.log import Commit, Entry, Log, Record
from strandline.connectors.lake.plan import Plan, Planner
from strandline.connectors.lake.refresh import Hidden
from strandline.connectors.lake.rows import Form
from strandline.connectors.lake.staged import Staged, StagedTable
from strandline.connectors.lake.states import adopted, check_fence, commit_of, token_of
from strandline.connectors.lake.store import explained
from strandline.destination import Fence, MigrateMode, Receipt, Window, check_token
from strandline.errors import RetryableError, StateError, StrandlineError, TaskError
from strandline.ownership import Owner, check_writer, followed
from strandline.state import StateKey, Token

__all__ = ["ChangedError", "Writing"]

_ATTEMPTS_MAX = 50


class ChangedError(Exception):
    """Another commit has changed a table since it was planned."""


class Writing:
    """Commits one window. Used once.

    Args:
        lake: where to.
        staged: its messages, all of them.
        window: exhausted.
        fence: under which it is written.
        looks: what has to be known of the rows of a stored table, for a full refresh.
    """

    def __init__(
        self, lake: Lake, staged: Staged, window: Window, fence: Fence, looks: "Callable[[Opened], Looks]"
    ) -> None:
        self.decided = False
        """Whether it may have been: then no file of it may go."""
        self._lake, self._staged, self._window, self._fence, self._looks = lake, staged, window, fence, looks
        self._plans: dict[str, tuple[Opened, Plan, Form]] = {}
        self._sets: dict[str, tuple[str, ...]] = {}
        self._former: set[str] = set()
        """The files of all delivered sets, as they were before."""
        self._adds: dict[str, Plan] = {}

    def commit(self) -> Receipt:
        """All of it or nothing.

        Raises:
            StateError: it is committed, and not in sight yet; or that is not known.
        """
        window, staged = self._window, self._staged
        hidden = [one.overlay.hidden for one in staged.tables.values() if one.overlay.hidden]
        with self._lake.alone([*staged.tables, *hidden]):
            try:
                token, log = self._committed()
            except BaseException:
                if not self.decided:
                    for opened, plan, _ in self._plans.values():
                        self._lake.discard(opened, plan)
                    with suppress(OSError, StrandlineError):
                        self._lake.store.delete(
                            {file for files in self._sets.values() for file in files} - self._former
                        )
                raise
            self._settle(log)
        plans = {staged.tables[name].name: plan for name, (_, plan, _) in self._plans.items()}
        return Receipt(
            replace(window.state, token=token),
            dict(staged.rows),
            dict(staged.known),
            sum(plan.removed for plan in plans.values()),
            {name: plan.lacking for name, plan in plans.items() if plan.lacking},
        )

    def _committed(self) -> tuple[Token, Log]:
        """The token of the state, and the log with the window."""
        window = self._window
        for _ in range(_ATTEMPTS_MAX):
            log = self._lake.journal.look()
            self._check(log)
            self._former = {file for files in log.delivered.values() for file in files}
            with explained(f"{self._lake.where}: cannot write"):
                self._plan(log)
                self._store_sets()
            plans = self._plans.items()
            names = {name: self._staged.tables[name].name for name in self._plans}
            window.emptied(
                [names[name] for name, (_, plan, _) in plans if plan.empty],
                [names[name] for name, (_, plan, _) in plans if plan.lacking],
            )
            commit = commit_of(window.key, window.state)
            entry = partial(self._entry, planned=log, commit=commit)
            self.decided = True
            try:
                return commit.token, self._lake.journal.commit(entry)
            except ChangedError:
                self.decided = False
            except StrandlineError as error:
                self.decided = isinstance(error, StateError)
                raise
        raise RetryableError(f"{self._lake.where}: other runs change the same tables all the time")

    def _check(self, log: Log) -> None:
        """Whether this run may write what it has."""
        check_fence(log, self._fence)
        check_token(self._window.key, token_of(log, self._window.key), self._window.expected)
        for name, staged in self._staged.tables.items():
            record = log.tables.get(name)
            if record is None or record.mark != staged.mark:
                raise TaskError(f"table {name!r} was dropped or created again while it was written")
            owners, writer = record.owners, Owner(self._fence.source, self._fence.destination)
            for former, table in self._staged.former:
                if table == name:
                    owners = followed(owners, Owner(former.source, former.destination), writer)
            check_writer(name, writer, owners)

    # what becomes of the tables --------------------------------------------------------------------------------------

    def _plan(self, log: Log) -> None:
        for name, staged in self._staged.tables.items():
            opened = self._lake.opened(name, log.tables[name])
            opened.check_writable()
            before = self._plans.get(name)
            if (
                before is not None
                and before[0].record == opened.record
                and before[0].found.version == opened.found.version
            ):
                continue
            if before is not None:
                self._lake.discard(before[0], replace(before[1], adds=()))
            self._plans[name] = self._planned(log, staged, opened)
            self._lake.keep(*self._plans[name][:2])

    def _planned(self, log: Log, staged: StagedTable, opened: Opened) -> tuple[Opened, Plan, Form]:
        hidden, after = None, opened.form
        if staged.overlay.hidden:
            hidden, after = self._hidden(log, staged, opened)
        planner = Planner(opened.stored, opened.form, opened.found, staged.overlay, self._window.scope, hidden, after)
        plan = planner.plan(appends=self._staged.appends)
        if staged.writer is not None:
            name = staged.table.name
            if name not in self._adds:
                self._adds[name] = Plan(adds=staged.writer.finish())
            plan.adds = [*plan.adds, *self._adds[name].adds]
        return opened, plan, after

    def _hidden(self, log: Log, staged: StagedTable, opened: Opened) -> tuple[Hidden, Form]:
        """The table that takes the place of the scope's rows, and how the stored one is laid out then."""
        name, stored = staged.overlay.hidden, opened.form.table
        record = log.tables.get(name)
        if record is None:
            raise TaskError(f"there is no table {name!r}", hint="it was dropped meanwhile, or never migrated")
        source = self._lake.opened(name, record)
        looks = self._looks(opened)
        changes_with(stored, staged.table, MigrateMode.SAFE, self._window.scope, (), looks)
        fitting = left_as_stored(stored, staged.table, ())
        after = self._lake.form(replace(fitting, name=stored.name), opened.form.partition_by)
        return Hidden(source.stored, source.form, source.found, after), after

    def _store_sets(self) -> None:
        """Make what was delivered durable."""
        for name, delivered in self._staged.sets.items():
            if name in self._sets or not delivered.changed:
                continue
            table = delivered.settle()
            files = list(delivered.files)
            if table is not None:
                files.append(self._lake.store_delivered(table))
            self._sets[name] = tuple(files)

    # the entry -------------------------------------------------------------------------------------------------------

    def _entry(self, log: Log, number: int, *, planned: Log, commit: Commit) -> Entry:
        self._check(log)
        tables: dict[str, Record | None] = {}
        delivered: dict[tuple[StateKey, str], tuple[str, ...]] = {}
        key = self._window.key
        for name, files in self._sets.items():
            if log.delivered.get((key, name)) != planned.delivered.get((key, name)):
                raise ChangedError
            delivered[key, name] = files
        for name, (opened, plan, after) in self._plans.items():
            record = log.tables[name]
            if record != opened.record:
                raise ChangedError
            if plan.adds or plan.rewrites or after is not opened.form:
                intent = self._lake.intent(number, opened, plan, after)
                tables[name] = record_of(after, record.mark, record.owners, intent)
        dropped = self._drop(log, tables, delivered)
        for former, name in self._staged.former:
            delivered[former, name] = ()
            if (former, name) in log.delivered:
                delivered[key, name] = log.delivered[former, name]
        adoption = adopted(log, self._staged.former, key, tables)
        return Entry(adoption.tables, delivered, [*adoption.states, (key, commit)], dropped)

    def _drop(
        self, log: Log, tables: dict[str, Record | None], delivered: dict[tuple[StateKey, str], tuple[str, ...]]
    ) -> Mapping[str, str]:
        """Hidden tables whose rows have gone over, and what is forgotten."""
        key, dropped = self._window.key, {}
        for name, staged in self._staged.tables.items():
            hidden = staged.overlay.hidden
            if not hidden:
                continue
            delivered[key, name] = ()
            for place, files in log.delivered.items():
                if place[1] == hidden:
                    delivered |= {place: (), (key, name): files}
            tables[hidden] = None
            dropped[hidden] = log.tables[hidden].intent.id
        for name, drop in self._staged.forgotten.items():
            delivered[key, name] = ()
            if drop and name in log.tables:
                tables[name] = None
                delivered |= log.without_delivered(name)
                dropped[name] = log.tables[name].intent.id
        return dropped

    # after it --------------------------------------------------------------------------------------------------------

    def _settle(self, log: Log) -> None:
        """Make the tables' own logs say it, and remove what is needless now. It is committed, whatever fails."""
        try:
            for name, (opened, _, _) in self._plans.items():
                if log.tables[name] != opened.record:
                    self._lake.opened(name, log.tables[name])
            for name in [name for name in log.dropped if name not in log.tables]:
                self._lake.clear(name, log.dropped[name])
            named = {file for files in log.delivered.values() for file in files}
            self._lake.store.delete(self._former - named)
        except (StrandlineError, OSError) as error:
            raise StateError(
                f"{self._lake.where}: a commit is durable, and not in sight yet: {error}",
                hint="fix that; the next sync does the rest",
            ) from error
