"""The executor `dask`, by `make executors`: each test begins a cluster, which takes seconds."""

import pytest

from strandline.plugins import load_plugin
from strandline.testing.executor import ExecutorConformance


class TestDask(ExecutorConformance):
    @pytest.fixture
    def executor(self):
        cls = load_plugin("executor", "dask")
        return cls(cls.Spec(workers=2))
