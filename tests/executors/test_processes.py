"""The executor `processes`."""

import pytest

from strandline.plugins import load_plugin
from strandline.testing.executor import ExecutorConformance


class TestProcesses(ExecutorConformance):
    @pytest.fixture
    def executor(self):
        cls = load_plugin("executor", "processes")
        return cls(cls.Spec(workers=2))
