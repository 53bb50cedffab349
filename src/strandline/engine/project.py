"""Which project writes the states of a source: so that two of them with equal names do not overwrite each other's rows.

A project has no name of its own. Its first sync makes a random id, which is kept in the state ``@run``: in the destination's
states, and in the project's own backend, if it has another one. Beside the id stand the databases that its source reads; by
these it is recognised where its own backend has lost the id, or there is none (a container without a volume, ``backend:
destination``).
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from strandline.engine.ledger import Ledger
from strandline.errors import RetryableError, StateError, UsageError
from strandline.message import Cursor
from strandline.place import Placed, Reaches
from strandline.state import RUN_TASK

if TYPE_CHECKING:
    from strandline.engine.job import Job

__all__ = ["Project", "agreed", "places_of", "read_apart", "were_same"]


@dataclass(frozen=True, slots=True)
class Project:
    """As the state ``@run`` tells it."""

    id: str
    places: tuple[str, ...] = ()
    """Of its source; see ``strandline.place``. Empty: the source does not say."""

    @property
    def facts(self) -> Cursor:
        """As it is kept."""
        return {"project": self.id, "places": list(self.places)}

    @classmethod
    def of(cls, kept: Mapping[str, object] | None) -> "Project | None":
        """What is kept in a state ``@run``; ``None``: nothing, as by versions that knew no projects."""
        name, places = (kept or {}).get("project"), (kept or {}).get("places")
        return cls(name, tuple(map(str, places))) if isinstance(name, str) and isinstance(places, list) else None

    def is_same(self, other: "Project") -> bool:
        """Whether both are one project, as far as can be known: by their ids, or by what they read."""
        return self.id == other.id or bool(set(self.places) & set(other.places))


def places_of(job: "Job") -> tuple[str, ...]:
    """What the source of a job reads; no destination of it may be there, and no two of them in one place.

    Raises:
        UsageError: one is.
    """
    read = tuple(job.source.places()) if isinstance(job.source, Placed) else ()
    written: dict[str, set[str]] = {}
    for into in job.into:
        try:
            written[into.name] = set(into.destination.places()) if isinstance(into.destination, Placed) else set()
        except RetryableError:
            continue  # it fails by itself, and holds back no other
    for name, places in written.items():
        if places & set(read) or (isinstance(job.source, Reaches) and job.source.reaches(sorted(places))):
            raise UsageError(
                f"source {job.name!r} and destination {name!r} are the same database and schema: a sync would write into the "
                "tables that it reads",
                hint="choose another database, or another `schema` of the destination",
            )
    for one, other in combinations(written, 2):
        if written[one] & written[other]:
            raise UsageError(
                f"destinations {one!r} and {other!r} of source {job.name!r} are the same database and schema: every row would "
                "be written there twice",
                hint="name one of them in `destinations`, or give one another `schema`",
            )
    return read


def agreed(ledger: Ledger, places: Sequence[str], *, adopts: bool) -> Project:
    """The project of a run: its own, if the states of the destination are not another one's.

    Args:
        ledger: loaded.
        places: what the source reads.
        adopts: the spec takes over all tables of the source, whosever they are.

    Raises:
        UsageError: another project has a source and a destination of these names.
        StateError: probably; or the source's database is another one than it was, and nothing tells which.
    """
    theirs = Project.of(ledger.kept)
    mirrored = ledger.mirrored(ledger.key(RUN_TASK))
    mine = Project.of(mirrored.cursor) if mirrored is not None else None
    who = f"source {ledger.source!r} into destination {ledger.destination!r}"
    own = Project(mine.id if mine is not None else secrets.token_hex(8), tuple(places))
    if theirs is None:
        return own
    known = (mine or own).is_same(theirs)
    if adopts and not known:
        return own  # the other project, if there still is one, is kept out from now on
    if mine is not None and not known:
        raise UsageError(
            f"{who}: there is one of another project, whose tables this would write",
            hint="give the source another name, or choose another `schema` of the destination; if the other project is no "
            "more, take its tables over with `adopt: true` in table_settings",
        )
    if mine is None and theirs.places and not known:
        now = f"now {', '.join(places)}" if places else "now nobody knows which"
        raise StateError(
            f"{who}: its states are of a source that reads another database (then {', '.join(theirs.places)}; {now}), and this "
            "project has none of its own that tell whether it is the same source",
            hint="if it is another project's, give this source another name; if the database was moved, say `adopt: true` for "
            "its tables in table_settings for one sync",
        )
    return Project(theirs.id, tuple(places))


def were_same(former: Ledger, ledger: Ledger) -> bool:
    """Whether a project of names that are in no spec any more was this one, as far as can be known; if nothing is, it was.

    Its own backend remembers the project also under the old names.
    """
    theirs, mine = Project.of(former.facts), Project.of(ledger.facts)
    mirrored = former.mirrored(former.key(RUN_TASK))
    remembered = Project.of(mirrored.cursor) if mirrored is not None else None
    if theirs is None or (remembered is not None and remembered.id == theirs.id):
        return True
    if mine is not None and mine.places and theirs.places:
        return mine.is_same(theirs)
    return not former.mirrors


def read_apart(one: Ledger, other: Ledger) -> bool:
    """Whether two sources are known to read other databases."""
    both = [Project.of(ledger.facts) for ledger in (one, other)]
    places = [set(project.places) for project in both if project is not None and project.places]
    return len(places) == len(both) and not set.intersection(*places)
