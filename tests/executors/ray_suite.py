"""The executor `ray`, by `make executors`: each test begins a cluster, which takes seconds."""

from contextlib import contextmanager

import pytest
import ray.cluster_utils

from strandline.plugins import load_plugin
from strandline.testing.executor import ExecutorConformance

# of processes that Ray has killed and does not wait for
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


class TestRay(ExecutorConformance):
    @pytest.fixture
    def executor(self):
        cls = load_plugin("executor", "ray")
        return cls(cls.Spec(workers=2))


@contextmanager
def two_nodes():
    """Of one processor each; the address."""
    cluster = ray.cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100_000_000}
    )
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        yield cluster.address
    finally:
        cluster.shutdown()


class TestTwoNodes(ExecutorConformance):
    @pytest.fixture
    def executor(self):
        cls = load_plugin("executor", "ray")
        with two_nodes() as address:
            yield cls(cls.Spec(address=address))
