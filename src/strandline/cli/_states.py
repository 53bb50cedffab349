"""The states that a spec's source has, for people."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from strandline.destination import Destination
from strandline.errors import UsageError
from strandline.spec import Config, DestinationBackend, SourceSpec
from strandline.state import KeepsState, State, StateBackend, StateKey, is_run

__all__ = ["backends_of", "histories_of", "kept_by", "source_named", "states_of", "task_named"]


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


def task_named(config: Config, source: str, written: str) -> str:
    """The id of the task that a person calls so: ``sales.orders`` is ``sales_orders``, and ``public.orders`` is ``orders``.

    Raises:
        UsageError: there is no such source.
    """
    if "." not in written:
        return written
    known = {key.task for key, _ in states_of(config, source_named(config, source))}
    # as nobody asks the source: a table of a schema before one of the usual schema
    spellings = [written, written.replace(".", "_", 1), written.partition(".")[2]]
    return next((one for one in spellings if one in known), written)


def states_of(config: Config, source: SourceSpec) -> Iterator[tuple[StateKey, State]]:
    """From the configured backend; from the destinations where that is where they live. No driver otherwise."""
    with backends_of(config, source) as backends:
        for loaded in [backend.load(source.name) for backend in backends]:
            yield from sorted((key, state) for key, state in loaded.items() if not is_run(key.task))


def histories_of(config: Config, source: str, task: str) -> list[tuple[StateKey, Sequence[State]]]:
    """The last commits of a task, the newest first, of each destination.

    Raises:
        UsageError: it has no state.
    """
    named, found = source_named(config, source), []
    with backends_of(config, named) as backends:
        for backend in backends:
            keys = sorted(key for key in backend.load(source) if key.task == task and not is_run(key.task))
            found += [(key, backend.history(key)) for key in keys]
    if not found:
        raise UsageError(f"source {source!r} has no state of {task!r}", hint="`strandline state list` shows them all")
    return found


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
