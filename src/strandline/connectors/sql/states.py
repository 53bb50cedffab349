"""States in two tables of a SQL database: beside the rows of a destination, or by themselves, as a backend.

The history of a lineage has its commits under the numbers from 1 on. Its parts (``strandline.parted``) lie below, from -1 down, each
with its name in the place of a token.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import OwnSession
from strandline.connectors.sql.tables import HISTORY, STATES
from strandline.destination import Fence, check_token
from strandline.errors import StateConflictError, StateError
from strandline.parted import Part
from strandline.seen import Seen, key_of
from strandline.state import HISTORY_MAX, State, StateKey, Token, is_run
from strandline.state_format import (
    LARGE_BYTES,
    PartOf,
    decode_state,
    encode_parted,
    kept_of,
    load_state,
    parts_of,
    renews,
    sizes_of,
)

__all__ = ["Sessions", "SqlStates", "StateTables", "check_fence", "give_up", "save_state"]

_KEY = ("source", "task", "destination")
_NO_TEXT = "\ufffd"
"""In what was read of bytes that are no text."""


@dataclass(frozen=True, slots=True)
class StateTables:
    """Where states and their history are kept."""

    states: str = STATES
    history: str = HISTORY


_BESIDE = StateTables()
"""Beside the rows."""


def _where(session: OwnSession, key: StateKey) -> Statement:
    sql = session.dialect
    text = " AND ".join(f"{sql.quote(name)} = {sql.parameter}" for name in _KEY)
    return Statement(text, (key.source, key.task, key.destination))


def check_fence(
    session: OwnSession, fence: Fence, *, key: StateKey | None = None, expected: Token | None = None
) -> None:
    """Compare with the epoch that is stored, where one is; and the token of the state of ``key``, if that is given.

    Raises:
        StateConflictError: another run has taken over.
    """
    keys = [fence.key] if key is None else [fence.key, key]
    _lock(session, fence.key, shared=True)
    if key is not None:
        _lock(session, key)
    found = _stored(session, keys)
    fence.check(found.get(fence.key, (fence.epoch, None))[0])
    if key is not None:
        check_token(key, found.get(key, (0, None))[1], expected)


def _lock(session: OwnSession, key: StateKey, tables: StateTables = _BESIDE, *, shared: bool = False) -> None:
    """Keep ``key`` as it is, or for this transaction alone, until it ends.

    Rows could be locked instead; but one that is not there cannot, and one that others share without a pause is never
    free for a run that wants to take over. A lock has a queue.
    """
    statement = session.dialect.lock(f"{session.relation(tables.states)} {key}", shared=shared)
    if statement is not None:
        session.fetch(statement)


def _stored(
    session: OwnSession, keys: Sequence[StateKey], tables: StateTables = _BESIDE
) -> dict[StateKey, tuple[int, Token]]:
    """Epoch and token of each key of one source and destination that has a state."""
    sql, one = session.dialect, session.dialect.parameter
    tasks = ", ".join(one for _ in keys)
    rows = session.fetch(
        Statement(
            f"SELECT task, epoch, {_read(session, 'token')} FROM {session.relation(tables.states)} "
            f"WHERE source = {one} AND {sql.quote('destination')} = {one} AND task IN ({tasks})",
            (keys[0].source, keys[0].destination, *(key.task for key in keys)),
        )
    )
    found = {StateKey(keys[0].source, task, keys[0].destination): (epoch, _text(token)) for task, epoch, token in rows}
    if len(found) < len(rows):
        raise StateError(f"{keys[0]}: {tables.states} has two states of it", hint="restore the database from a backup")
    return found


def _renews(session: OwnSession, key: StateKey, text: str, tables: StateTables) -> bool:
    """Whether a state takes the place of the newest commit in its history; ``text`` is the state, encoded."""
    where = _where(session, key)
    select = f"SELECT {_read(session, 'state')} FROM {session.relation(tables.states)} WHERE {where.text}"
    rows = session.fetch(Statement(select, where.values))
    return bool(rows) and renews(key, _text(rows[0][0]), text)


def save_state(
    session: OwnSession, key: StateKey, state: State, *, expected: Token | None, tables: StateTables = _BESIDE
) -> State:
    """Save ``state`` with its history; ``expected`` was compared before. Returns it with its new token."""
    body, parts = encode_parted(key, state)
    text = json.dumps(body)
    decode_state(
        key, json.loads(text), where=tables.states, part=parts.get
    )  # what could not be read back is never kept
    large = len(text) > LARGE_BYTES
    again = (large or is_run(key.task)) and _renews(session, key, text, tables)
    token, where = secrets.token_hex(16), _where(session, key)
    one, states, history = session.dialect.parameter, session.relation(tables.states), session.relation(tables.history)
    if parts:
        _add_parts(session, parts, where, history)
    values: tuple[object, ...] = (state.epoch, state.sequence, token, text, *where.values)
    if expected is None:
        save = f"INSERT INTO {states} (epoch, sequence, token, state, source, task, destination) VALUES ({one}{f', {one}' * 6})"
    else:
        save = f"UPDATE {states} SET epoch = {one}, sequence = {one}, token = {one}, state = {one} WHERE {where.text}"
        if _NO_TEXT not in expected:  # what is no text equals none, and was compared in this transaction
            save, values = f"{save} AND token = {one}", (*values, expected)
    if session.run(Statement(save, values)) != 1:
        raise StateConflictError(f"{key}: another run has saved a state meanwhile; nothing was written")
    newest = f"UPDATE {history} SET token = {one}, state = {one} WHERE {where.text} AND token = {one}"
    if not (again and session.run(Statement(newest, (token, text, *where.values, expected)))):
        _add_to_history(session, token, text, where, history)
    if (
        large or parts or state.sequence % HISTORY_MAX == 0
    ):  # not at every commit: it is the dearest statement of a small one
        _shorten(session, where, history)
    return replace(state, token=token)


def _add_parts(session: OwnSession, parts: Mapping[str, Part], where: Statement, history: str) -> None:
    """Those that are not there yet, before the state that names them."""
    one, known = session.dialect.parameter, set(_part_names(session, where, history))
    for name, part in parts.items():
        if name not in known:
            insert = (
                f"INSERT INTO {history} (source, task, destination, number, token, state) "
                f"SELECT {one}, {one}, {one}, coalesce(min(number), 0) - 1, {one}, {one} FROM {history} "
                f"WHERE {where.text} AND number < 0"
            )
            session.run(Statement(insert, (*where.values, name, part.text(), *where.values)))


def _part_names(session: OwnSession, where: Statement, history: str) -> list[str]:
    names = f"SELECT {_read(session, 'token')} FROM {history} WHERE {where.text} AND number < 0"
    return [_text(name) for (name,) in session.fetch(Statement(names, where.values))]


def _parts(
    session: OwnSession, where: Statement, history: str, texts: Iterable[str | bytes]
) -> Callable[[StateKey], PartOf]:
    """Finds the parts of lineages that encoded states name; asks for none where there are none."""
    found: dict[tuple[StateKey, str], str | bytes] = {}
    if any(parts_of(_text(text)) for text in texts):
        columns = f"source, task, {session.dialect.quote('destination')}, {_read(session, 'token', 'state')}"
        rows = session.fetch(
            Statement(f"SELECT {columns} FROM {history} WHERE {where.text} AND number < 0", where.values)
        )
        found = {(StateKey(*row[:3]), _text(row[3])): row[4] for row in rows}

    def of(key: StateKey) -> PartOf:
        return cache(lambda name: Part.read(name, _text(found[key, name])) if (key, name) in found else None)

    return of


def _shorten(session: OwnSession, where: Statement, history: str) -> None:
    """Remove the commits that no history needs, and then the parts."""
    one = session.dialect.parameter
    all_ = f"SELECT number, {_read(session, 'state')} FROM {history} WHERE {where.text} AND number > 0 ORDER BY number DESC"
    commits = session.fetch(Statement(all_, where.values))
    kept = kept_of(sizes_of(_text(text) for _, text in commits))
    if kept < len(commits):
        delete = f"DELETE FROM {history} WHERE {where.text} AND number > 0 AND number <= {one}"
        session.run(Statement(delete, (*where.values, commits[kept][0])))
    named = {name for _, text in commits[:kept] for name in parts_of(_text(text))}
    spent = [name for name in _part_names(session, where, history) if name not in named]
    if spent:
        tokens = ", ".join(one for _ in spent)
        delete = f"DELETE FROM {history} WHERE {where.text} AND number < 0 AND token IN ({tokens})"
        session.run(Statement(delete, (*where.values, *spent)))


def give_up(session: OwnSession, former: StateKey, *, follower: StateKey) -> None:
    """Save that a lineage goes on under another name; see ``strandline.message.Adopt``."""
    _lock(session, former)
    where = _where(session, former)
    select = f"SELECT {_columns(session)} FROM {session.relation(STATES)} WHERE {where.text}"
    rows = session.fetch(Statement(select, where.values))
    part = _parts(session, where, session.relation(HISTORY), [row[-1] for row in rows])
    for row in rows:
        state = _state(former, row, STATES, part(former))
        if not state.is_blank:
            save_state(session, former, state.followed(follower), expected=state.token)


def _add_to_history(session: OwnSession, token: Token, text: str, where: Statement, history: str) -> None:
    one = session.dialect.parameter
    session.run(
        Statement(
            f"INSERT INTO {history} (source, task, destination, number, token, state) "
            f"SELECT {one}, {one}, {one}, coalesce(max(number), 0) + 1, {one}, {one} FROM {history} WHERE {where.text} AND number > 0",
            (*where.values, token, text, *where.values),
        )
    )


class Sessions(Protocol):
    """A database that has the two tables."""

    def reading(self) -> AbstractContextManager[OwnSession | None]:
        """A consistent view; ``None``: they are not there."""

    def writing(self) -> AbstractContextManager[OwnSession]:
        """A transaction that commits unless something is raised; they are there."""


class SqlStates:
    """Implements ``strandline.state.StateBackend``.

    Args:
        sessions: the database; closed by whoever has opened it.
        where: in words.
        tables: in which states and history are kept.
        fenced: whether a save compares the epoch of ``@run``, too, as an atomic destination does.
    """

    def __init__(self, sessions: Sessions, where: str, tables: StateTables = _BESIDE, *, fenced: bool = True) -> None:
        self._sessions, self._place, self._tables, self._fenced = sessions, where, tables, fenced
        self._seen = Seen()

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``."""
        with self._sessions.reading() as session:
            if session is None:
                return {}
            where = Statement(f"source = {session.dialect.parameter}", (source,))
            columns = f"task, destination, {_columns(session)}"
            states_of = f"SELECT {columns} FROM {session.relation(self._tables.states)} WHERE {where.text}"
            rows = session.fetch(Statement(states_of, where.values))
            part = _parts(session, where, session.relation(self._tables.history), [row[-1] for row in rows])
        states = {}
        for task, destination, *row in rows:
            key = key_of(source, task, destination)
            if key in states:
                raise StateError(f"{key}: {self._place} has two states of it", hint="restore the database")
            states[key] = self._decoded(key, row, part(key))
        return states

    def _decoded(self, key: StateKey, row: Sequence[Any], part: PartOf) -> State:
        content = repr(row).encode()
        if (same := self._seen.at(key, content)) is not None:
            return same[1]
        state = _state(key, row, self._place, part)
        if state.untrusted is None and not parts_of(_text(row[-1])):
            self._seen.add(key, content, key, state)
        return state

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest."""
        tables = self._tables
        with self._sessions.writing() as session:
            if self._fenced and not is_run(key.task):
                fence = Fence(key.source, key.destination, state.epoch, state.run_id)
                check_fence(session, fence, key=key, expected=expected)
            else:
                # a sign of life leaves the epoch alone: the windows that compare it need not wait for it, nor it for them
                alive = self._fenced and _renews(session, key, json.dumps(encode_parted(key, state).body), tables)
                _lock(session, key, tables, shared=alive)
                check_token(key, _stored(session, [key], tables).get(key, (0, None))[1], expected)
            saved = save_state(session, key, state, expected=expected, tables=tables)
        if saved.token is None:
            raise AssertionError("a saved state has a token")
        return saved.token

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        with self._sessions.reading() as session:
            if session is None:
                return []
            where, history = _where(session, key), session.relation(self._tables.history)
            commits = (
                f"SELECT {_read(session, 'token', 'state')} FROM {history} WHERE {where.text} AND number > 0 "
                f"ORDER BY number DESC LIMIT {HISTORY_MAX}"
            )
            rows = session.fetch(Statement(commits, where.values))
            kept = rows[: kept_of(sizes_of(_text(text) for _, text in rows))]
            part = _parts(session, where, history, [text for _, text in kept])(key)
        return [
            load_state(key, _parsed(text), where=self._place, token=_text(token), part=part) for token, text in kept
        ]

    def close(self) -> None:
        """Do nothing: the destination closes what it opened."""


def _read(session: OwnSession, *texts: str) -> str:
    """Columns of texts, whatever their bytes are; see ``_text``."""
    return ", ".join(session.dialect.unread_text.format(name) for name in texts)


def _columns(session: OwnSession) -> str:
    """Of a row, as ``_state`` takes it."""
    return f"epoch, sequence, {_read(session, 'token', 'state')}"


def _state(key: StateKey, row: Sequence[Any], where: str, part: PartOf) -> State:
    """The state in a row. It has epoch and sequence twice, and they are one, or it is damaged."""
    epoch, sequence, token, text = row
    body = _parsed(text)
    if isinstance(body, dict) and (body.get("epoch"), body.get("sequence")) != (epoch, sequence):
        body["checksum"] = None  # of one of the two, and nobody knows of which
    return load_state(key, body, where=where, token=_text(token), epoch=epoch, part=part)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def _parsed(text: str | bytes) -> object:
    """What is not JSON is no state, which is what decoding then says."""
    try:
        return json.loads(text)
    except ValueError:
        return None
