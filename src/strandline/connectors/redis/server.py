"""One Redis or Valkey server: how it is reached, what its errors mean, and whether it can lose what it has acknowledged."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from strandline.connectors.redis.drivers import redis, redis_backoff, redis_retry, redis_sentinel
from strandline.errors import StateError, StrandlineError, UnreachableError, UsageError
from strandline.probe import Probe, Verdict, clock_probe
from strandline.risks import Risk, probe_risks

if TYPE_CHECKING:
    from strandline.connectors.redis.state import RedisState

__all__ = ["connected", "explained", "place", "probed", "risks"]

_VERSION_MIN = (6, 0)
_SENTINEL = 26379
"""The port of Sentinels that say nothing else."""
_URL = "redis://host:6379/0, rediss://host:6379/0 with TLS, or unix:///path; in a password, %2F for /, %40 for @, %3A for :"
_KEEPS = ("noeviction", "volatile-")
"""Policies that evict no key without a time to live; ours have none."""


def connected(spec: "RedisState.Spec") -> Any:
    """A ``redis.Redis`` that repeats nothing by itself: a save that is sent again conflicts with the first one.

    Raises:
        UsageError: a setting is wrong.
    """
    never = redis_retry.Retry(redis_backoff.NoBackoff(), 0)
    more: dict[str, Any] = {"socket_timeout": spec.timeout, "socket_connect_timeout": spec.timeout, "retry": never}
    for name in ("username", "password"):
        if getattr(spec, name):
            more[name] = getattr(spec, name)
    try:
        client = redis.Redis.from_url(spec.url, **more)
    except (ValueError, TypeError):
        # the error quotes what it cannot read, which may be a part of a password
        raise UsageError("`url` is none of Redis", hint=_URL) from None
    if not spec.sentinels:
        return client
    try:
        found = [urlsplit(f"//{one}") for one in spec.sentinels]
        pairs = [(one.hostname, one.port or _SENTINEL) for one in found]
    except ValueError:
        raise UsageError("`sentinels` has something else than host:port", hint="host:26379, or [::1]:26379") from None
    known = {**client.connection_pool.connection_kwargs}
    for name in ("host", "port", "path"):
        known.pop(name, None)
    watching = {"password": spec.sentinel_password} if spec.sentinel_password else {}
    sentinel: Any = redis_sentinel.Sentinel
    watched = sentinel(pairs, sentinel_kwargs={"socket_timeout": spec.timeout, "retry": never, **watching})
    ssl = client.connection_pool.connection_class is redis.SSLConnection
    return watched.master_for(spec.service, **known, **({"ssl": True} if ssl else {}))


def place(spec: "RedisState.Spec", client: Any) -> str:
    """The server, for people."""
    if spec.sentinels:
        return f"Redis {spec.service}"
    known = client.connection_pool.connection_kwargs
    return f"Redis {known.get('path') or '{host}:{port}'.format(**{'host': 'localhost', 'port': 6379} | known)}"


@contextmanager
def explained(place: str, what: str, *, saves: bool = False) -> Iterator[None]:
    """Turns the driver's errors into ours, if ``what`` cannot be done; of a save, nobody knows whether it was."""
    try:
        yield
    except redis.RedisError as error:
        raise _meaning(error, place, what, saves=saves) from error


def _meaning(error: Exception, place: str, what: str, *, saves: bool) -> StrandlineError:
    said = f"{place}: could not {what}: {str(error).strip() or type(error).__name__}"
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.NoPermissionError)):
        return UsageError(said, hint="check user and password, and what the ACL of the user allows (see `doctor`)")
    hint = "is the server up, and can it be reached from here?"
    if isinstance(error, redis.ReadOnlyError):
        hint = "this is a replica; name the primary, or let `sentinels` find it"
    elif isinstance(error, redis.OutOfMemoryError):
        hint = "raise maxmemory of the server"
    elif isinstance(error, redis.ResponseError):
        hint = "see the log of the server"
    if saves:
        return StateError(said, hint=hint)
    return UnreachableError(said, hint=hint)


def _told(client: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """What INFO and CONFIG tell; of the latter nothing where the server, or the user's ACL, does not let us ask."""
    info = {str(name): value for name, value in client.info("everything").items()}
    try:
        settings = client.config_get("appendfsync")
    except redis.ResponseError:
        settings = {}
    return info, {_text(name): _text(value) for name, value in settings.items()}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def risks(client: Any, place: str) -> list[Risk]:
    """All of them.

    Raises:
        UsageError: it is no server for this: a replica, or too old.
    """
    info, settings = _told(client)
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    if tuple(map(int, version.split(".")[:2])) < _VERSION_MIN:
        raise UsageError(f"{place}: version {version} is too old", hint="Redis 6 or newer, or Valkey")
    if info.get("role") != "master":
        raise UsageError(f"{place} is a replica, which takes no states", hint="name the primary, or `sentinels`")
    found = []
    policy = str(info.get("maxmemory_policy", "unknown"))
    if not policy.startswith(_KEEPS):
        fix = "CONFIG SET maxmemory-policy noeviction, and in its configuration file"
        found.append(Risk("eviction", f"maxmemory-policy is {policy}: a full server drops cursors", fix))
    if not info.get("aof_enabled"):
        fix = "CONFIG SET appendonly yes, and appendfsync always, and in its configuration file"
        found.append(Risk("no-persistence", "appendonly is off: a restart loses what was saved lately", fix))
        return found
    sync = settings.get("appendfsync", "unknown")
    if sync != "always":
        fix = "CONFIG SET appendfsync always, and in its configuration file"
        found.append(Risk("everysec", f"appendfsync is {sync}: a crash of the machine loses the last saves", fix))
    return found


def probed(client: Any, place: str, accepted: frozenset[str]) -> Iterator[Probe]:
    """What `doctor` says of the server."""
    info, _ = _told(client)
    version = info.get("valkey_version") or info.get("redis_version")
    yield Probe("connection", Verdict.OK, f"{place}, version {version}")
    seconds, microseconds = client.time()
    yield clock_probe(seconds + microseconds / 1e6 - time.time(), whose="the server's clock")
    yield from probe_risks(risks(client, place), accepted)
    if info.get("connected_slaves"):
        said = "replicas follow later: after a failover, the last saves may be gone"
        fix = "after one, `strandline plan` says what a sync would read again"
        yield Probe("replicas", Verdict.WARNING, said, fix)
