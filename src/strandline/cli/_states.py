"""The states that a spec's source has, for people."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from strandline.destination import Destination
from strandline.errors import UsageError
from strandline.spec import Config, DestinationBackend, SourceSpec
from strandline.state import RUN_TASK, KeepsState, State, StateBackend, StateKey

__all__ = ["backends_of", "kept_by", "source_named", "states_of"]


def source_named(config: Config, name: str) -> SourceSpec:
    """The one that a person has named.

    Raises:
        UsageError: there is none of that name.
    """
    for source in config.sources:
        if source.name == name:
            return source
    names = ", ".join(source.name for source in config.sources)
    raise UsageError(f"the spec has no source {name!r}", hint=f"its sources are {names}")


def states_of(config: Config, source: SourceSpec) -> Iterator[tuple[StateKey, State]]:
    """From the configured backend; from the destinations where that is where they live. No driver otherwise."""
    with backends_of(config, source) as backends:
        for loaded in [backend.load(source.name) for backend in backends]:
            yield from sorted((key, state) for key, state in loaded.items() if key.task != RUN_TASK)


@contextmanager
def backends_of(config: Config, source: SourceSpec) -> Iterator[Sequence[StateBackend]]:
    """Opened, and closed at the end: the configured one; or each destination that keeps its own states."""
    settings = source.backend_settings
    with ExitStack() as stack:
        if not isinstance(settings, DestinationBackend):
            yield [stack.enter_context(closing(source.open_backend()))]
            return
        names = [settings.destination] if settings.destination else source.destinations
        opened = [stack.enter_context(closing(config.destination(name).open())) for name in names]
        if settings.destination:
            yield [kept_by(settings.destination, *opened)]
        else:
            yield [one.states for one in opened if isinstance(one, KeepsState)]


def kept_by(name: str, destination: Destination) -> StateBackend:
    """The states in a destination that a spec names as the backend.

    Raises:
        UsageError: it keeps none.
    """
    if not isinstance(destination, KeepsState):
        raise UsageError(f"destination {name!r} cannot keep states", hint="choose another backend")
    return destination.states
