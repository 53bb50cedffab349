"""The engine: plan (pure), run (control), pipeline (data), window and lineage (pure)."""
