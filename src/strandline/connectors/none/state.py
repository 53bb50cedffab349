"""No state at all."""

import secrets
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from strandline.describe import Description
from strandline.probe import Probe, Verdict
from strandline.state import State, StateKey, Token

__all__ = ["NoState"]


class NoState:
    """Keeps nothing: the engine finds no cursor, so every sync reads every table in full.

    The one backend that breaks the contract on purpose: it forgets what it saves, and so notices no conflict. Fence and
    pass still live in an atomic destination.
    """

    description = Description(keeps_nothing=True)

    class Spec(BaseModel):
        """The backend ``none`` has no settings."""

        model_config = ConfigDict(extra="forbid")

    def __init__(self, spec: Spec) -> None:
        del spec

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Nothing, always."""
        del source
        return {}

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Forget ``state``; the token is fresh, as everywhere."""
        del key, state, expected
        return secrets.token_hex(16)

    def history(self, key: StateKey) -> Sequence[State]:
        """Nothing, always."""
        del key
        return []

    def probes(self) -> Iterator[Probe]:
        """See ``strandline.probe``."""
        fix = "leave `backend` out to keep cursors"
        yield Probe("cursors", Verdict.WARNING, "none are kept, so every sync reads everything", fix)

    def close(self) -> None:
        """Do nothing."""
