"""How MySQL and MariaDB spell what our own tables need."""

from strandline.connectors.sql.dialect import Dialect, Statement

__all__ = ["MySQLDialect", "marked"]


class MySQLDialect(Dialect):
    """Their spelling. A bound value stands as NUL, which no name and no SQL can hold; see ``marked``."""

    name = "MySQL"
    parameter = "\0"
    text_type = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    key_type = "VARBINARY(1000)"
    """Bytes: no text of MySQL tells 'a' from 'a '. Three of them fit into a key of InnoDB."""
    undoes_ddl = False

    def quote(self, name: str) -> str:
        """See ``Dialect``."""
        super().quote(name)
        return "`" + name.replace("`", "``") + "`"


def marked(statement: Statement) -> str:
    """A statement as the driver takes it."""
    return statement.text.replace("%", "%%").replace(MySQLDialect.parameter, "%s")
