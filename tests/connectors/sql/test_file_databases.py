"""What databases in files have in common."""

from strandline.plugins import load_plugin


def test_a_file_is_taken_for_what_it_is_said_to_be_whatever_another_destination_took_it_for(tmp_path):
    kinds = [load_plugin("destination", name) for name in ("sqlite", "duckdb")]
    opened = [cls(cls.Spec(path=str(tmp_path / "w.db"))) for cls in (*kinds, *reversed(kinds))]
    for destination in opened:
        destination.close()
