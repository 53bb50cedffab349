"""Ctrl-C: answered at once, and a second one leaves a terminal that can be used."""

import os
import pty
import queue
import signal
import subprocess
import sys

import pytest

from strandline.cli.sync import _Signals
from strandline.engine.window import Stop


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "stopping after the current commit; Ctrl-C again stops at once"),
        (signal.SIGTERM, "stopping after the current commit; another signal stops at once"),
    ],
)
def test_the_first_signal_is_answered_at_once(number, said):
    heard, stop = queue.SimpleQueue(), Stop()
    with _Signals(stop) as signals:
        signals.say = heard.put
        signal.raise_signal(number)
        assert heard.get(timeout=30) == said
    assert (stop.requested, stop.signal) == (True, number)


def test_the_second_leaves_the_prompt_a_line_of_its_own_and_a_cursor():
    script = (
        "import signal\nfrom strandline.cli.sync import _Signals\nfrom strandline.engine.window import Stop\n"
        "with _Signals(Stop()):\n    signal.raise_signal(signal.SIGINT)\n    signal.raise_signal(signal.SIGINT)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stderr=theirs)
    assert process.wait(timeout=60) == 130
    os.close(theirs)
    assert os.read(ours, 1000) == b"\x1b[?25h\r\n"
    os.close(ours)
