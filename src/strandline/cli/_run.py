"""The run of one source, from its spec to its end."""

import signal
from datetime import UTC, datetime

from strandline.cli._errors import BUG
from strandline.cli._jobs import Choice, open_job
from strandline.cli._notify import notify
from strandline.engine.run import sync
from strandline.engine.window import Stop
from strandline.errors import StrandlineError
from strandline.runs import Observer, RunReport
from strandline.spec import Config, SourceSpec

__all__ = ["run_of"]


def run_of(config: Config, source: SourceSpec, choice: Choice, observer: Observer, stop: Stop) -> RunReport:
    """What came of it; ``notify`` is for the caller, once all sources have had their runs.

    Raises:
        Exception: it could not even be opened. There is no report of that, so whom the spec names have been told.
    """
    if stop.requested:
        return RunReport(
            "", source.name, datetime.now(UTC), signal=stop.signal or signal.SIGTERM, shard=str(choice.shard or "")
        )
    try:
        with open_job(config, source, choice) as job:
            return sync(job, observer=observer, stop=stop)
    except Exception as error:
        problem = error if isinstance(error, StrandlineError) else None
        report = RunReport("", source.name, datetime.now(UTC), error=problem, shard=str(choice.shard or ""))
        notify(source, report, BUG if problem is None else problem.exit_code, stop)
        raise
