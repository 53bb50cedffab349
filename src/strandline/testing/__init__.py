"""The conformance suites, and the faults to run them under. One module for each; they need ``strandline[testing]``.

For assertions that show their values, a plugin's ``conftest.py`` says ``pytest.register_assert_rewrite("strandline.testing")``
before it imports a suite.
"""

__all__ = ["state_backend"]
