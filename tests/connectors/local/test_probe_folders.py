"""What a probe that was killed leaves is swept by a later one."""

import os
import time
from contextlib import closing

import pytest

from strandline.plugins import load_plugin


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [("destination", "files", "."), ("destination", "duckdb", "x.duckdb"), ("state_backend", "local", ".")],
)
def test_what_a_killed_probe_left_is_swept_and_what_another_makes_is_not(tmp_path, kind, name, path):
    for left, age_s in {"probe-old": 4000, "probe-new": 60, "other": 4000}.items():
        folder = tmp_path / f".strandline-{left}"
        folder.mkdir()
        (folder / "one").write_bytes(b"")
        os.utime(folder, (time.time() - age_s,) * 2)
    cls = load_plugin(kind, name)
    with closing(cls(cls.Spec(path=str(tmp_path / path)))) as plugin:
        list(plugin.probes())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".strandline-other", ".strandline-probe-new"]
