"""Connection strings: what is secret in one, however it is broken; and whether one of PostgreSQL's means only one thing.

Whoever looks for secrets takes rather too much for one than too little: a mask that was not needed hides a word, a password
that was not found is read by everybody.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

__all__ = [
    "HINT",
    "NOT_UNDERSTOOD",
    "has_readable_words",
    "is_secret_name",
    "passwords",
    "pieces",
    "understood",
    "without_secrets",
]

NOT_UNDERSTOOD = "`connection_string` can be understood in more than one way, or in none"
HINT = (
    "write postgresql://user:password@host:5432/database, and in its parts %40 for @, %2F for /, %3A for :, %20 for a blank, "
    "%25 for %; or settings such as host='…' password='…', with \\' for ' and \\\\ for \\"
)

_PIECE_MIN = 3
"""Characters of a part of a password that is masked where it stands alone."""
_LENGTH_MAX = 8_192
"""Characters; anything longer is no connection string."""
_PLAIN_KEYS = (
    "cluster|cursor|dedup|distribution|foreign|group|hash|incremental|order|partition|primary|range|row|sort|unique"
)
_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|(^|_)pwd|secret|token|credential|cookie|connection_?string|(^|_)dsn|bearer|signature|certificate"
    rf"|(^|_)sas(_|$)|(^|_)auth(orization)?$|key_?(id|file|data|json|pem)$|^(?!({_PLAIN_KEYS})_?keys?$).*keys?$",
    re.IGNORECASE,
)
_LIBPQ_NAMES = (
    "service user password passfile channel_binding connect_timeout dbname host hostaddr port client_encoding options "
    "application_name fallback_application_name keepalives keepalives_idle keepalives_interval keepalives_count "
    "tcp_user_timeout sslmode sslnegotiation sslcompression sslcert sslkey sslcertmode sslpassword sslrootcert sslcrl "
    "sslcrldir sslsni requirepeer require_auth min_protocol_version max_protocol_version ssl_min_protocol_version "
    "ssl_max_protocol_version gssencmode krbsrvname gsslib gssdelegation replication target_session_attrs "
    "load_balance_hosts scram_client_key scram_server_key oauth_issuer oauth_client_id oauth_client_secret oauth_scope "
    "sslkeylogfile ssl"
)
_LIBPQ = frozenset(_LIBPQ_NAMES.split())
_OTHERS = r"driver|server|database|uid|pwd|user id|data source|initial catalog|encrypt|trustservercertificate"
_KNOWN = "|".join([*sorted(_LIBPQ, key=len, reverse=True), _OTHERS])

# What is secret ------------------------------------------------------------------------------------------------------
_USERS = (
    re.compile(r"//[^/?#\s@:]{0,256}:([^\s@]{0,1024})@"),
    re.compile(r"(?:^|//)[^:/?#\s@]{0,256}:(?!//)(\S{1,1024})@"),
    re.compile(r"https?://([^:/?#\s@]{1,1024})@"),
    re.compile(r"postgres(?:ql)?://[^@:\n]{0,256}:([^\n]{1,1024})@"),
    re.compile(r"postgres(?:ql)?://[^@:\n]{0,256}:([^\n@]{1,1024})@"),
)
_URL_ALONE = re.compile(r"(?s)\s*([A-Za-z][\w+.-]*)://(.*)")
_SETTING = re.compile(
    r"(?<!\w)([A-Za-z][\w -]{0,40}?)\s{0,8}=\s{0,8}('(?:\\.|[^'\\]){1,1024}'|\"[^\"]{1,1024}\"|[^\s;&'\"]{1,1024})"
)
_NAME = re.compile(r"(?<!\w)([A-Za-z]\w{0,40})\s{0,8}=\s{0,8}")
_NEXT = re.compile(rf"(?i)[\s;&]\s*(?:{_KNOWN})\s*=")
_NEXT_IN_QUERY = re.compile(r"&[\w.-]+=")
_SETTINGS_ALONE = re.compile(rf"(?i)\s*(?:{_KNOWN})\s*=")
_DSN = re.compile(r"[^:/?#\s@]{0,256}:(?!//)\S{1,1024}@(?:(?:tcp|unix)?\(|[\w.-]+:\d+/)")


def is_secret_name(name: str) -> bool:
    """Whether a field or variable of this name holds a secret, as ``password`` or ``api_key``, unlike ``primary_key``."""
    return _SECRET_NAME.search(name.replace("-", "_").replace(".", "_")) is not None


def passwords(value: str) -> set[str]:
    """The secrets inside a URL, a libpq string or an ODBC string, as written and as meant; also where it is broken."""
    if len(value) > _LENGTH_MAX:
        return set()
    found = {*_in_users(value), *_in_settings(value)}
    meant = {re.sub(r"(?s)\\(.)", r"\1", one) for one in found}
    return {one for one in (*found, *meant, *map(unquote, found)) if one.strip()}


def _in_users(value: str) -> Iterator[str]:
    if "@" in value:
        for pattern in _USERS:
            yield from (match[1] for match in pattern.finditer(value))
    alone = _URL_ALONE.fullmatch(value)
    if alone is None or (alone[1].startswith("postgres") and understood(value) is not None):
        return
    scheme, body = alone.groups()
    user, at, _ = body.rpartition("@")
    # the driver may see an end at the first of these, where there are several
    if at and ":" in user:
        yield user.partition(":")[2]
    elif scheme.startswith("postgres") and (at or not _hosts(re.split("[/?#]", body)[0])):
        # without a colon, or without a host behind it
        yield user if at else body.partition(":")[2]


def _in_settings(value: str) -> Iterator[str]:
    if "=" not in value:
        return
    for match in _SETTING.finditer(value):
        if is_secret_name(match[1].strip().replace(" ", "_")):
            yield match[2]
            if match[2][0] in "'\"":
                yield match[2][1:-1]
    is_url = _URL_ALONE.fullmatch(value)
    if not is_url and not _SETTINGS_ALONE.match(value):
        return
    following = _NEXT_IN_QUERY if is_url and not is_url[1].startswith("postgres") else _NEXT
    for match in _NAME.finditer(value):
        if is_secret_name(match[1]):
            # whatever stands before the next setting that is known: it may have blanks, and half a quote
            end = following.search(value, match.end())
            whole = value[match.end() : end.start() if end else len(value)].strip()
            yield whole
            yield whole.strip("'\"")


def has_readable_words(value: str) -> bool:
    """Whether ``value`` is a connection string, whose words may be read but for its passwords."""
    return "://" in value or _DSN.match(value) is not None or any(_in_settings(value))


def pieces(password: str) -> set[str]:
    """What is left where a password is taken apart at its special characters, in its words of three characters or more."""
    words = {*re.split(r"\W+", password), *re.split(r"[\W_]+", password)}
    return {word for word in words if len(word) >= _PIECE_MIN}


# What is understood --------------------------------------------------------------------------------------------------
_URL = re.compile(
    r"(postgres(?:ql)?)://(?:([^:@/\s]*)(?::([^@/\s]*))?@)?([^@/?#\s]*)(?:/([^@/?#\s]*))?(?:\?([^@#\s]*))?"
)
_HOST = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]*)(?::(\d*))?")
_PAIR = re.compile(r"(?s)\s*([A-Za-z_]\w*)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)")
_BROKEN_CODE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


def understood(value: str) -> Mapping[str, str] | None:
    """The settings of a connection string of PostgreSQL; ``None`` where somebody could take it for something else.

    Stricter than libpq, which takes ``postgresql://user:pa/ss@host`` for a host ``user`` with a port ``pa``, and says so.
    """
    found = _of_url(value) if "://" in value.partition("=")[0] else _of_settings(value)
    return found if found is not None and found.keys() <= _LIBPQ else None


def _of_url(value: str) -> dict[str, str] | None:
    match = _URL.fullmatch(value)
    if match is None or _BROKEN_CODE.search(value):
        return None
    _, user, password, places, dbname, query = match.groups()
    hosts = _hosts(places)
    pairs = [one.split("=") for one in (query or "").split("&")] if query else []
    if not hosts or any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004 -- a name and a value
        return None
    ports = ",".join(host[2] or "" for host in hosts)
    settings = {
        "user": user,
        "password": password,
        "host": ",".join(host[1].strip("[]") for host in hosts),
        "port": "" if not ports.strip(",") else ports,
        "dbname": dbname,
        **dict(pairs),
    }
    return {name: unquote(text) for name, text in settings.items() if text}


def _hosts(places: str) -> list[re.Match[str]]:
    """Hosts and ports of a URL; none where one is neither."""
    found = [_HOST.fullmatch(one) for one in places.split(",")]
    return [one for one in found if one] if all(found) else []


def _of_settings(value: str) -> dict[str, str] | None:
    settings: dict[str, str] = {}
    at = 0
    while value[at:].strip():
        match = _PAIR.match(value, at)
        if match is None:
            return None
        name, text = match.groups()
        if text.startswith("'"):
            text = text[1:-1]
        elif name != "options" and not is_secret_name(name) and ("=" in text or "://" in text):
            return None  # another setting behind a comma, say
        settings[name] = re.sub(r"(?s)\\(.)", r"\1", text)
        at = match.end()
    return settings


def without_secrets(value: str) -> str:
    """A connection string that is understood, for people."""
    url = _URL.fullmatch(value)
    if url is None:
        settings = understood(value) or {}
        shown = [(name, text) for name, text in settings.items() if not is_secret_name(name)]
        return " ".join(f"{name}={_quoted(text)}" for name, text in shown)
    scheme, user, _, places, dbname, query = url.groups()
    kept = [one for one in (query or "").split("&") if one and not is_secret_name(one.partition("=")[0])]
    path = f"/{dbname}" if dbname is not None else ""
    return f"{scheme}://{user + '@' if user else ''}{places}{path}{'?' + '&'.join(kept) if kept else ''}"


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w./:,-]+", text) else "'" + re.sub(r"(['\\])", r"\\\1", text) + "'"
