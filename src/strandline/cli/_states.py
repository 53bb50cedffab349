"""The states that a spec's source has, for people."""

from collections.abc import Iterator

from strandline.errors import UsageError
from strandline.spec import Config, SourceSpec
from strandline.state import RUN_TASK, KeepsState, State, StateBackend, StateKey

__all__ = ["backends_of", "source_named", "states_of"]


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
    for backend in backends_of(config, source):
        try:
            loaded = backend.load(source.name)
        finally:
            backend.close()
        yield from sorted((key, state) for key, state in loaded.items() if key.task != RUN_TASK)


def backends_of(config: Config, source: SourceSpec) -> Iterator[StateBackend]:
    """Opened; whoever takes one closes it."""
    if source.backend != "destination":
        yield source.open_backend()
        return
    for name in source.destinations:
        opened = config.destination(name).open()
        if isinstance(opened, KeepsState):
            yield opened.states
        opened.close()
