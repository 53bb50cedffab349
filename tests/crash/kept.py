"""State backends that keep their states elsewhere than in files: what is kept, to be put back before each kill."""

from contextlib import closing

import obstore

__all__ = ["InObjects", "InRedis", "InTables"]


class InTables:
    """In the two tables of a database.

    Args:
        backend: the state backend.
        connect: to the same database.
        parameter: how the driver marks a value.
    """

    def __init__(self, backend, connect, parameter):
        self.backend, self._connect, self._parameter = backend, connect, parameter
        self._tables = [backend._tables.states, backend._tables.history]

    def snapshot(self):
        self.backend.load("shop")
        self.backend.close()
        with closing(self._connect()) as connection:
            try:
                return [_execute(connection, f"SELECT * FROM {table}").fetchall() for table in self._tables]
            except Exception as error:
                if any(said in str(error) for said in ("no such table", "does not exist", "doesn't exist")):
                    return None
                raise

    def restore(self, kept):
        self.backend.close()
        with closing(self._connect()) as connection:
            for number, table in enumerate(self._tables):
                _execute(connection, f"DELETE FROM {table}" if kept else f"DROP TABLE IF EXISTS {table}")
                for row in kept[number] if kept else ():
                    values = ", ".join([self._parameter] * len(row))
                    _execute(connection, f"INSERT INTO {table} VALUES ({values})", row)
            connection.commit()


def _execute(connection, statement, values=()):
    cursor = connection.cursor()
    cursor.execute(statement, values)
    return cursor


class InRedis:
    """In a server.

    Args:
        backend: the state backend.
        client: of the same server.
    """

    def __init__(self, backend, client):
        self.backend, self._client = backend, client

    def snapshot(self):
        return {key: self._client.dump(key) for key in self._client.scan_iter()}

    def restore(self, kept):
        self._client.flushall()
        for key, value in kept.items():
            self._client.restore(key, 0, value)


class InObjects:
    """In a bucket.

    Args:
        backend: the state backend.
        store: the bucket.
    """

    def __init__(self, backend, store):
        self.backend, self._store = backend, store

    def _names(self):
        return [one["path"] for some in obstore.list(self._store) for one in some]

    def snapshot(self):
        return {name: bytes(obstore.get(self._store, name).bytes()) for name in self._names()}

    def restore(self, kept):
        for name in self._names():
            obstore.delete(self._store, name)
        for name, content in kept.items():
            obstore.put(self._store, name, content)
