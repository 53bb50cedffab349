import pytest

pytest.register_assert_rewrite("strandline.testing")
