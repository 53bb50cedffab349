"""The tables that a destination keeps beside the rows: states and their history, what was delivered, who writes which table."""

from strandline.table import Table

__all__ = ["CURSORS", "DELIVERED", "HISTORY", "OWN_TABLES", "REGISTER", "STATES", "is_own"]

STATES = "cq_state"
HISTORY = "cq_state_history"
DELIVERED = "cq_delivered"
REGISTER = "cq_tables"
"""Versions before 0.2 had none."""
CURSORS = "cq_cursors"
"""Where a backend keeps states, unless its settings say otherwise."""
_KEY = ("source", "task", "destination")
OWN_TABLES = {
    STATES: (*_KEY, "epoch", "sequence", "token", "state"),
    HISTORY: (*_KEY, "number", "token", "state"),
    DELIVERED: (*_KEY, "table", "version", "pass", "seen", "delivered", "numbered"),
    REGISTER: ("table", "source", "destination", "shared"),
}
"""Names that no user's table can have, and the columns that tell one of ours from somebody's of the same name."""
_OF_BACKENDS = (set(OWN_TABLES[STATES]), set(OWN_TABLES[HISTORY]))
"""Whatever a backend calls its tables."""


def is_own(table: Table) -> bool:
    """Whether a source that is somebody's destination, or keeps somebody's states, offers ``table`` as one of these."""
    if set(table.schema.names) in _OF_BACKENDS:
        return True
    for own, columns in OWN_TABLES.items():
        name = table.spec_name or table.name
        # as a schema, or a prefix in its place
        if (name == own or name.endswith((f".{own}", f"_{own}"))) and set(columns) <= set(table.schema.names):
            return True
    return False
