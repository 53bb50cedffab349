"""Our own tables in a database: states with their history, what was delivered, and who writes which table."""

from strandline.connectors.sql.delivered import DELIVERED_COLUMNS
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import Session
from strandline.errors import StateError, UsageError
from strandline.own_tables import DELIVERED, HISTORY, OWN_TABLES, REGISTER, STATES

__all__ = [
    "DELIVERED",
    "HISTORY",
    "OWN_TABLES",
    "REGISTER",
    "STATES",
    "create_own_tables",
    "create_register",
    "has_own_tables",
    "has_register",
]


def has_own_tables(session: Session, where: str) -> bool:
    """Whether they are there.

    Raises:
        UsageError: one of that name is somebody else's.
        StateError: some are, some are not: what is missing was dropped, and with it what is known of the rows.
    """
    found = {name: session.columns(name) for name in OWN_TABLES}
    for name, columns in found.items():
        if columns and not set(OWN_TABLES[name]) <= set(columns):
            raise UsageError(
                f"{where}: there is a table {name}, which is not Strandline's",
                hint="choose another `schema` of the destination: Strandline keeps its states in tables of that name",
            )
    missing = [name for name in (STATES, HISTORY, DELIVERED) if not found[name]]
    if missing and any(found.values()):
        raise StateError(
            f"{where}: the table {missing[0]} is gone, so it is not known what was delivered",
            hint="restore it from a backup; or choose another `schema` of the destination, and read everything again",
        )
    return not missing


def has_register(session: Session) -> bool:
    """Whether it is there. Of a database that a version before the register has written, it is not."""
    return bool(session.columns(REGISTER))


def create_own_tables(session: Session) -> None:
    """All of them, empty."""
    sql = session.dialect
    number, text = sql.integer_type, sql.text_type
    for table in (STATES, HISTORY):
        types = dict.fromkeys(("epoch", "sequence", "number"), number)
        _create(session, table, {name: types.get(name, text) for name in OWN_TABLES[table]})
    types = dict.fromkeys(DELIVERED_COLUMNS[:4], text) | {"version": sql.blob_type}
    _create(session, DELIVERED, {name: types.get(name, number) for name in DELIVERED_COLUMNS})
    create_register(session)


def create_register(session: Session) -> None:
    """Empty: of tables that are there already, the states tell."""
    text = session.dialect.text_type
    _create(session, REGISTER, dict.fromkeys(OWN_TABLES[REGISTER], text) | {"shared": session.dialect.integer_type})


def _create(session: Session, table: str, columns: dict[str, str]) -> None:
    definition = ", ".join(f"{session.dialect.quote(name)} {kind} NOT NULL" for name, kind in columns.items())
    session.run(Statement(f"CREATE TABLE {session.relation(table)} ({definition})"))
