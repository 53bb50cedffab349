"""What stores keep of a state, behind the backend's back: see ``strandline.testing.state_raw.Raw``."""

from urllib.parse import quote

import obstore

from strandline.paths import encode_part

__all__ = ["RawCommit", "RawFile", "RawObject", "RawRow", "RawValue"]

_NUMBERS = ("epoch", "sequence")
_TEXTS = ("token", "state")


class RawFile:
    """A file; ``path`` finds that of a lineage."""

    def __init__(self, path):
        self._path, self._found = path, {}

    def read(self, key):
        self._found[key] = self._path(key)
        return {"content": self._found[key].read_bytes()}

    def write(self, key, fields):
        self._found[key].write_bytes(fields["content"])
        return True


class RawObject:
    """An object of a bucket."""

    def __init__(self, store):
        self._store = store

    def read(self, key):
        return {"content": bytes(obstore.get(self._store, self._name(key)).bytes())}

    def write(self, key, fields):
        obstore.put(self._store, self._name(key), fields["content"])
        return True

    def _name(self, key):
        return f"{encode_part(key.source)}/{key.task}@{key.destination}.json"


class RawValue:
    """A field of a hash of Redis."""

    def __init__(self, client):
        self._client = client

    def read(self, key):
        return {"value": self._client.hget(*self._names(key))}

    def write(self, key, fields):
        self._client.hset(*self._names(key), fields["value"])
        return True

    def _names(self, key):
        return f"strandline:{{{quote(key.source, safe='')}}}:states", f"{key.task} {key.destination}"


class RawCommit:
    """Token and text in a mapping of this process; ``commits`` gives it."""

    def __init__(self, commits):
        self._commits = commits

    def read(self, key):
        return dict(zip(_TEXTS, map(str.encode, self._commits()[key][0]), strict=True))

    def write(self, key, fields):
        try:
            commit = tuple(fields[name].decode() for name in _TEXTS)
        except ValueError:
            return False
        commits = self._commits()
        commits[key] = (commit, *commits[key][1:])
        return True


class RawRow:
    """A row of a SQL database.

    Args:
        run: executes a statement with values, and gives its rows, if it has any.
        table: in which the row lies.
        parameter: how the driver marks a value.
        text: how a text is written; its value is given as bytes, where the database can hold what is no text.
        refuses: what the driver raises where the database does not take a value.
    """

    def __init__(self, run, table, *, parameter="?", text=None, refuses=()):
        self._run, self._table, self._one, self._text = run, table, parameter, text
        self._refuses = (ValueError, *refuses)
        names = ("source", "task", "destination")
        self._where = " AND ".join(f"{name} = {parameter}" for name in names)

    def read(self, key):
        names = (*_NUMBERS, *_TEXTS)
        sql = f"SELECT {', '.join(names)} FROM {self._table} WHERE {self._where}"
        (row,) = self._run(sql, (key.source, key.task, key.destination))
        return {name: str(value).encode() for name, value in zip(names, row, strict=True)}

    def write(self, key, fields):
        text = self._text or self._one
        changes = [f"{name} = {text if name in _TEXTS else self._one}" for name in fields]
        try:
            values = [int(content) if name in _NUMBERS else self._value(content) for name, content in fields.items()]
            sql = f"UPDATE {self._table} SET {', '.join(changes)} WHERE {self._where}"
            self._run(sql, (*values, key.source, key.task, key.destination))
        except self._refuses:
            return False
        return True

    def _value(self, content):
        return content if self._text else content.decode()
