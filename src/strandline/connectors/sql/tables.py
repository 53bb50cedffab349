"""Our own tables in a database: states with their history, what was delivered, and who writes which table."""

from strandline.connectors.sql.delivered import DELIVERED_COLUMNS
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import OwnSession
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
    "create_state_tables",
    "has_own_tables",
    "has_register",
    "has_state_tables",
]

_LINEAGE = ("source", "task", "destination")


def has_own_tables(session: OwnSession, where: str) -> bool:
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


def has_register(session: OwnSession) -> bool:
    """Whether it is there. Of a database that a version before the register has written, it is not."""
    return bool(session.columns(REGISTER))


def create_own_tables(session: OwnSession) -> None:
    """All of them, empty."""
    sql = session.dialect
    number, text = sql.integer_type, sql.text_type
    for table in (STATES, HISTORY):
        _create(session, table, _state_columns(session, table))
    types = dict.fromkeys(DELIVERED_COLUMNS[:4], text) | {"version": sql.blob_type}
    _create(session, DELIVERED, {name: types.get(name, number) for name in DELIVERED_COLUMNS})
    create_register(session)


def create_register(session: OwnSession) -> None:
    """Empty: of tables that are there already, the states tell."""
    text = session.dialect.text_type
    _create(session, REGISTER, dict.fromkeys(OWN_TABLES[REGISTER], text) | {"shared": session.dialect.integer_type})


def has_state_tables(session: OwnSession, states: str, history: str, where: str) -> bool:
    """Whether the two tables of a state backend are there.

    Raises:
        UsageError: one of that name is somebody else's.
        StateError: only one is there.
    """
    found = {states: (session.columns(states), STATES), history: (session.columns(history), HISTORY)}
    for name, (columns, own) in found.items():
        if columns and set(columns) != set(OWN_TABLES[own]):
            raise UsageError(
                f"{where}: there is a table {name}, which keeps no states",
                hint="choose another `table` in backend_spec, one that is not there yet",
            )
    missing = [name for name, (columns, _) in found.items() if not columns]
    if (
        missing == [states]
        and not session.dialect.undoes_ddl
        and not session.ask(f"SELECT 1 FROM {session.relation(history)} LIMIT 1")
    ):
        return False  # whoever began to make them came no further
    if len(missing) == 1:
        raise StateError(f"{where}: the table {missing[0]} is gone", hint="restore both of them from a backup")
    return not missing


def create_state_tables(session: OwnSession, states: str, history: str) -> None:
    """Empty, and the history first. Their keys keep two runs from making two states of one lineage."""
    sql = session.dialect
    lineage = sql.quoted(_LINEAGE)
    for name, own, key in ((history, HISTORY, f"{lineage}, number"), (states, STATES, lineage)):
        columns = _state_columns(session, own) | dict.fromkeys(_LINEAGE, sql.key_type or sql.text_type)
        _create(session, name, columns, f", PRIMARY KEY ({key})")


def _state_columns(session: OwnSession, table: str) -> dict[str, str]:
    types = dict.fromkeys(("epoch", "sequence", "number"), session.dialect.integer_type)
    return {name: types.get(name, session.dialect.text_type) for name in OWN_TABLES[table]}


def _create(session: OwnSession, table: str, columns: dict[str, str], more: str = "") -> None:
    definition = ", ".join(f"{session.dialect.quote(name)} {kind} NOT NULL" for name, kind in columns.items())
    create = "CREATE TABLE" if session.dialect.undoes_ddl else "CREATE TABLE IF NOT EXISTS"
    session.run(Statement(f"{create} {session.relation(table)} ({definition}{more})"))
