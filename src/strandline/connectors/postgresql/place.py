"""Which schema of which server it is; see ``strandline.place``."""

__all__ = ["schema_place"]


def schema_place(system: str, database: str, schema: str) -> str:
    """The name of a schema on a server.

    Args:
        system: the server's system identifier. A standby has that of its primary.
        database: its oid.
        schema: its name.
    """
    return f"postgresql {system}/{database}/{schema}"
