"""The engine: plan (pure), job (what a run needs), run (control), pipeline (data), window and lineage (pure)."""
