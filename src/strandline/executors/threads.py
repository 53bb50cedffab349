"""Tasks are done by threads of the process that runs the sync, as many at once as `concurrency` says. This is the default."""

from pydantic import BaseModel, ConfigDict

__all__ = ["ThreadsExecutor"]


class ThreadsExecutor:
    """See ``strandline.executor.Executor``. What the run's own threads do needs no crew."""

    is_elsewhere = spans_hosts = False

    class Spec(BaseModel):
        """There is nothing to choose."""

        model_config = ConfigDict(extra="forbid")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def crew(self, at_once: int) -> None:
        """Nobody else."""
