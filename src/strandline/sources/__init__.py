"""What reads tables: one file per source. Files that begin with ``_`` are shared between them."""
