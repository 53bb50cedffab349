"""The delivered set: which versions of re-read rows are stored already, and how often. Pure SQL, by dialect.

One row for each version that lies in the region which a source reads again, or which has to be numbered in this pass.
It lives in a table beside the rows and changes in their transaction. Counts of an older pass than the window's are 0.
"""

from strandline.connectors.sql.dialect import VERSION, Dialect, Statement
from strandline.connectors.sql.staging import Step
from strandline.destination import Window
from strandline.state import StateKey
from strandline.table import CQ_ID

__all__ = ["DELIVERED_COLUMNS", "Delivered"]

DELIVERED_COLUMNS = ("source", "task", "destination", "table", "version", "pass", "seen", "delivered", "numbered")
"""``pass``: the last one that read the version, its sync time in µs. ``seen``: how often it was re-read in that pass.
``delivered``: how many rows of it are stored. ``numbered``: how many ``_cq_id`` it was given in that pass."""

_FRESH = '"_cq_stage_nth"'


class Delivered:
    """The statements for one window."""

    def __init__(self, dialect: Dialect, relation: str, window: Window) -> None:
        self._sql, self._relation, self._key, self._pass = dialect, relation, window.key, window.pass_.sync_time_us
        self._version = dialect.quote(VERSION)

    def _lineage(self, step: Step) -> Statement:
        text = " AND ".join(f"d.{self._sql.quote(name)} = {self._sql.parameter}" for name in DELIVERED_COLUMNS[:4])
        return Statement(text, (self._key.source, self._key.task, self._key.destination, step.table.name))

    def _ranked(self, step: Step, stage: str) -> Statement:
        """A stage's rows, each with its number among those of its version, beside what is known of the version."""
        lineage = self._lineage(step)
        names = self._sql.quoted((*step.columns, VERSION))
        return Statement(
            f"(SELECT {names}, row_number() OVER (PARTITION BY {self._version}) AS {_FRESH} FROM {stage}) AS s "
            f"LEFT JOIN (SELECT * FROM {self._relation} AS d WHERE {lineage.text}) AS d ON d.version = s.{self._version}",
            lineage.values,
        )

    def _known(self, column: str, *, of_pass: bool) -> str:
        """A count, 0 where the version is unknown; of this pass only where it is asked for."""
        if of_pass:
            return f"CASE WHEN d.pass = {self._pass} THEN d.{column} ELSE 0 END"
        return f"coalesce(d.{column}, 0)"

    def _is_new(self, step: Step) -> str:
        """Whether a ranked row is to be stored in append mode."""
        if not step.reread:
            return "TRUE"
        if _by_key(step):
            return f"{self._known('delivered', of_pass=False)} = 0 AND s.{_FRESH} = 1"
        occurrence = f"{self._known('seen', of_pass=True)} + s.{_FRESH}"
        return f"{occurrence} > {self._known('delivered', of_pass=False)}"

    def told_apart(self, step: Step, stage: str, id_type: str) -> Statement:
        """A query: the rows of a stage that are not in the delivered set; where they need one, with their ``_cq_id``."""
        ranked, columns = self._ranked(step, stage), self._sql.quoted(step.columns, "s.")
        if step.numbered:
            number = f"{self._known('numbered', of_pass=True)} + s.{_FRESH} - 1"
            columns += f", {self._sql.numbered_id(f's.{self._version}', number, id_type)} AS {self._sql.quote(CQ_ID)}"
        return Statement(f"SELECT {columns} FROM {ranked.text} WHERE {self._is_new(step)}", ranked.values)

    def strangers(self, step: Step, stage: str) -> Statement:
        """A query: how many versions a stage has, and how many of them are known."""
        lineage, known = self._lineage(step), self._sql.among(["version"], "d", [VERSION], stage)
        return Statement(
            f"SELECT count(DISTINCT {self._version}), (SELECT count(*) FROM {self._relation} AS d WHERE {lineage.text} "
            f"AND {known}) FROM {stage}",
            lineage.values,
        )

    def first(self, step: Step, stage: str, id_type: str) -> str:
        """A stage of versions that are all different and unknown, as a relation with ``_cq_id``: each is number 0."""
        cq_id = self._sql.numbered_id(self._version, "0", id_type)
        return f"(SELECT {self._sql.quoted(step.columns)}, {cq_id} AS {self._sql.quote(CQ_ID)} FROM {stage})"

    def remember(self, step: Step, stage: str) -> Statement:
        """The counts of such versions."""
        lineage, one = self._lineage(step), self._sql.parameter
        return Statement(
            f"INSERT INTO {self._relation} ({self._sql.quoted(DELIVERED_COLUMNS)}) "
            f"SELECT {one}, {one}, {one}, {one}, {self._version}, {one}, {one}, {one}, {one} FROM {stage}",
            (*lineage.values, self._pass, int(step.reread), int(step.reread), int(step.numbered)),
        )

    def counts(self, step: Step, stage: str) -> Statement:
        """A query: version, seen, delivered and numbered as they are after a stage."""
        lineage = self._lineage(step)
        seen = f"{self._known('seen', of_pass=True)} + {'n' if step.reread else '0'}"
        stored = self._known("delivered", of_pass=False)
        delivered = f"CASE WHEN {seen} > {stored} THEN {seen} ELSE {stored} END" if step.reread else stored
        numbered = f"{self._known('numbered', of_pass=True)} + {'n' if step.numbered else '0'}"
        return Statement(
            f"SELECT s.{self._version} AS version, {seen} AS seen, {delivered} AS delivered, {numbered} AS numbered "
            f"FROM (SELECT {self._version}, count(*) AS n FROM {stage} GROUP BY {self._version}) AS s "
            f"LEFT JOIN (SELECT * FROM {self._relation} AS d WHERE {lineage.text}) AS d ON d.version = s.{self._version}",
            lineage.values,
        )

    def replace(self, step: Step, counts: str) -> tuple[Statement, ...]:
        """The counts of these versions instead of what was known."""
        lineage, one = self._lineage(step), self._sql.parameter
        return (
            Statement(
                f"DELETE FROM {self._relation} AS d WHERE {lineage.text} "
                f"AND {self._sql.among(['version'], 'd', ['version'], counts)}",
                lineage.values,
            ),
            Statement(
                f"INSERT INTO {self._relation} ({self._sql.quoted(DELIVERED_COLUMNS)}) "
                f"SELECT {one}, {one}, {one}, {one}, version, {one}, seen, delivered, numbered FROM {counts}",
                (*lineage.values, self._pass),
            ),
        )

    def disclaim(self) -> Statement:
        """Before rows are overwritten or deleted: no version of this lineage is known to be stored any more."""
        key = (self._key.source, self._key.task, self._key.destination)
        text = " AND ".join(f"d.{self._sql.quote(name)} = {self._sql.parameter}" for name in DELIVERED_COLUMNS[:3])
        return Statement(f"DELETE FROM {self._relation} AS d WHERE {text} AND d.delivered > 0", key)

    def trim(self, step: Step, *, forget: bool) -> tuple[Statement, ...]:
        """At the end of a pass: keep what it has re-read, or nothing."""
        lineage = self._lineage(step)
        if forget:
            return (Statement(f"DELETE FROM {self._relation} AS d WHERE {lineage.text}", lineage.values),)
        return (
            Statement(
                f"DELETE FROM {self._relation} AS d "
                f"WHERE {lineage.text} AND (d.pass <> {self._sql.parameter} OR d.seen = 0)",
                (*lineage.values, self._pass),
            ),
            Statement(
                f"UPDATE {self._relation} AS d SET delivered = seen, numbered = 0 "
                f"WHERE {lineage.text} AND (d.delivered <> d.seen OR d.numbered <> 0)",
                lineage.values,
            ),
        )

    def adopt(self, step: Step) -> tuple[Statement, ...]:
        """The hidden table's versions instead of the table's own; a refresh has a lineage of its own."""
        lineage, one = self._lineage(step), self._sql.parameter
        task, table = self._sql.quote("task"), self._sql.quote("table")
        source, destination = self._sql.quote("source"), self._sql.quote("destination")
        return (
            Statement(f"DELETE FROM {self._relation} AS d WHERE {lineage.text}", lineage.values),
            Statement(
                f"UPDATE {self._relation} SET {task} = {one}, {table} = {one} "
                f"WHERE {source} = {one} AND {destination} = {one} AND {table} = {one}",
                (self._key.task, step.table.name, self._key.source, self._key.destination, step.hidden),
            ),
        )

    def follow(self, step: Step, former: StateKey) -> Statement:
        """What another lineage has delivered into the table is this one's."""
        one, names = self._sql.parameter, [self._sql.quote(name) for name in DELIVERED_COLUMNS[:4]]
        values = ", ".join(f"{name} = {one}" for name in names[:3])
        theirs = " AND ".join(f"{name} = {one}" for name in names)
        mine, old = ((key.source, key.task, key.destination) for key in (self._key, former))
        return Statement(f"UPDATE {self._relation} SET {values} WHERE {theirs}", (*mine, *old, step.table.name))


def _by_key(step: Step) -> bool:
    """Whether a version is stored once at most: its row has a key of its own."""
    return bool(step.table.primary_key) and not step.numbered
