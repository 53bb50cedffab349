"""`on_failure` and `on_success` of a source: somebody is told how its run ended. Whatever becomes of that, rows and exit code stay."""

import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from strandline.engine.window import Stop
from strandline.errors import StrandlineError
from strandline.logs import as_json, redact, said
from strandline.runs import RunReport, Status, signal_name
from strandline.spec import Notification, SourceSpec
from strandline.warned import Code

__all__ = ["notify"]

_log = logging.getLogger(__name__)

_ERROR_CHARS_MAX = 1_000
_NAMES_MAX = 100
"""So many failed tables are named in the environment, which has bounds; in JSON there are all."""
_INTERRUPTED = 128 + signal.SIGINT
_LOOK_EVERY_S = 0.05
_KILLED_S = 5.0
_OUTPUT_BYTES_MAX = 2_000


def notify(source: SourceSpec, report: RunReport, code: int, stop: Stop) -> None:
    """Tell whom the spec names. Who stops a sync by Ctrl-C knows it already, and is not told; a signal also ends the telling."""
    wanted = source.on_success if code == 0 else source.on_failure
    if wanted is None or code == _INTERRUPTED:
        return
    told, name = _told(report, code), "on_success" if code == 0 else "on_failure"
    try:
        wrong = _run(wanted, told, stop) if wanted.command is not None else _post(wanted, told, stop)
    except (OSError, ValueError) as error:
        wrong = getattr(error, "strerror", None) or str(error)
    if wrong:
        text = "%s: nobody was told by %s: %s; nothing of the sync is changed by that"
        _log.warning(text, source.name, name, wrong, extra=Code.NOBODY_TOLD.extra)


def _told(report: RunReport, code: int) -> dict[str, Any]:
    failed = [
        {"table": task.task, "destination": task.destination, "error": _short(task.error)}
        for task in report.tasks
        if task.status is Status.FAILED and task.error is not None
    ]
    error = _short(report.error) if report.error is not None else None
    text = f"sync of {report.name}: exit code {code}"
    if report.signal is not None:
        text += f", stopped by {signal_name(report.signal)}"
    if failed:
        text += f", failed: {', '.join(dict.fromkeys(one['table'] for one in failed[:_NAMES_MAX]))}"
    return {
        "text": text,
        "run_id": report.run_id,
        "source": report.source,
        "shard": report.shard or None,
        "exit_code": code,
        "stopped_by": signal_name(report.signal),
        "started_at": report.started_at.isoformat(),
        "seconds": round(report.seconds, 3),
        "rows_read": sum(task.rows_read for task in report.tasks),
        "failed": failed,
        "error": error,
    }


def _short(error: StrandlineError) -> str:
    """Cut last: the half of a secret would not be known."""
    return redact(error.message)[:_ERROR_CHARS_MAX]


def _variables(told: Mapping[str, Any]) -> dict[str, str]:
    named = {
        "STRANDLINE_TEXT": told["text"],
        "STRANDLINE_RUN_ID": told["run_id"],
        "STRANDLINE_SOURCE": told["source"],
        "STRANDLINE_EXIT_CODE": str(told["exit_code"]),
    }
    failed = dict.fromkeys(said(one["table"]) for one in told["failed"][:_NAMES_MAX])
    return {name: said(value) for name, value in named.items()} | {"STRANDLINE_FAILED_TABLES": "\n".join(failed)}


def _run(wanted: Notification, told: Mapping[str, Any], stop: Stop) -> str:
    """Start the command, and wait within bounds. Files instead of pipes: whoever keeps one open holds nobody up."""
    assert wanted.command is not None
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(as_json(told).encode())
        given.seek(0)
        process = subprocess.Popen(  # noqa: S603 -- the spec names it, and no shell reads it
            wanted.command,
            stdin=given,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_variables(told)},
            start_new_session=True,  # Ctrl-C is for the sync, and what it has started goes with it
        )
        ended = _within(wanted.timeout.total_seconds(), stop, lambda: process.poll() is not None)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILLED_S)
        if not ended:
            return "the command was stopped, " + (
                "by a signal" if stop.requested else f"after {wanted.timeout.total_seconds():g} s"
            )
        if not process.returncode:
            return ""
        output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT_BYTES_MAX))
        last = output.read().decode(errors="replace").strip()
    how = f"exit code {process.returncode}" if process.returncode > 0 else str(signal_name(-process.returncode))
    return f"the command ended with {how}{': ' * bool(last)}{last}"


def _post(wanted: Notification, told: Mapping[str, Any], stop: Stop) -> str:
    """In a thread that nobody waits for: names are looked up, and answers dribble in, without any bound."""
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    assert wanted.webhook is not None

    class NoRedirects(HTTPRedirectHandler):
        """To follow one would be to GET, and to tell somebody else."""

        def redirect_request(self, *_: Any) -> None:
            return None

    request = Request(  # noqa: S310 -- the spec takes http and https only
        wanted.webhook.get_secret_value(),
        data=as_json(told).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "strandline"},
    )
    answers: list[str] = []

    def post() -> None:
        try:
            with build_opener(NoRedirects).open(request, timeout=wanted.timeout.total_seconds()):
                answers.append("")
        except HTTPError as error:
            answers.append(f"the webhook answered {error.code}")
            error.close()
        except Exception as error:  # noqa: BLE001 -- of a library, in a thread of its own; it is told below
            answers.append(f"the webhook was not reached: {getattr(error, 'reason', None) or type(error).__name__}")

    thread = threading.Thread(target=post, daemon=True, name="webhook")
    thread.start()
    if not _within(wanted.timeout.total_seconds(), stop, lambda: bool(answers)):
        return "the webhook was given up, " + (
            "by a signal" if stop.requested else f"after {wanted.timeout.total_seconds():g} s"
        )
    return answers[0]


def _within(timeout_s: float, stop: Stop, ended: Callable[[], bool]) -> bool:
    """Whether it ended before the time was up, or a signal came while it went on."""
    until_s, before = time.monotonic() + timeout_s, stop.requested
    while not ended():
        if time.monotonic() >= until_s or (stop.requested and not before):
            return ended()
        time.sleep(_LOOK_EVERY_S)
    return True
