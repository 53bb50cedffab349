"""How much of what is slow `make test` tries; `make matrix` tries all of it."""

import os

MATRIX = bool(os.environ.get("STRANDLINE_MATRIX"))
SHARE = 1.0 if MATRIX else 0.2
"""Of the calls at which a sync is killed, for each source whose own calls are few."""
