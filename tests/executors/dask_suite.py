"""The executor `dask`, by `make executors`: each test begins a cluster, which takes seconds."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from strandline.plugins import load_plugin
from strandline.testing.executor import ExecutorConformance

_SCHEDULER = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")


class TestDask(ExecutorConformance):
    @pytest.fixture
    def executor(self):
        cls = load_plugin("executor", "dask")
        return cls(cls.Spec(workers=2))


class TestScheduler(ExecutorConformance):
    """Of a cluster that was begun by hand, with the commands of Dask, and goes on after a run."""

    BEGINS_WORKERS = False

    @pytest.fixture
    def executor(self, tmp_path):
        cls = load_plugin("executor", "dask")
        file = tmp_path / "scheduler.json"
        with ExitStack() as stack:
            for words in (
                (*_SCHEDULER, "--scheduler-file", str(file)),
                ("worker", "--scheduler-file", str(file), "--nworkers", "2", "--nthreads", "1", "--host", "127.0.0.1"),
            ):
                process = subprocess.Popen(
                    [sys.executable, "-m", "dask", *words],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=tmp_path,
                )
                stack.enter_context(process)
                stack.callback(process.terminate)
            deadline_s = time.monotonic() + self.DEADLINE_S
            while not file.exists() or not file.stat().st_size:
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
            yield cls(cls.Spec(address=json.loads(file.read_text("utf-8"))["address"]))
