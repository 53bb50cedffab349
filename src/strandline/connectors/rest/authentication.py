"""Who asks: what each kind of credentials adds to a request, and how those are renewed that expire."""

import base64
import json
import threading
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urljoin

from strandline.connectors.rest.client import Clock, Credentials, Nobody, json_of
from strandline.connectors.rest.documents import one_at
from strandline.connectors.rest.request import Answer, Request, shown
from strandline.connectors.rest.settings_auth import AWS, APIKey, AuthSettings, Basic, Bearer, OAuth2, Session
from strandline.connectors.rest.signature import signature_headers
from strandline.connectors.rest.tokens import Kept, TokenFile
from strandline.errors import RetryableError, TaskError
from strandline.logs import register_secret

__all__ = ["credentials_of"]

_MARGIN_S = 30.0
"""A token that lives no longer than this is not begun with."""
_LIVES_S = 300.0
"""What a token is taken to live of which the server says nothing."""
_BUSY_FROM, _GOOD_TO, _TOO_OFTEN = 500, 300, 429


def credentials_of(said: AuthSettings | None, base_url: str, clock: Clock) -> Credentials:
    """What a spec says, as what signs requests. Asks nothing yet."""
    match said:
        case None:
            return Nobody()
        case Bearer():
            return _Fixed(headers={"Authorization": f"Bearer {said.token.get_secret_value()}"})
        case Basic():
            return _Fixed(headers={"Authorization": _basic(said.username, said.password.get_secret_value())})
        case APIKey():
            key = said.key.get_secret_value()
            return _Fixed(
                headers={said.header: key} if said.header else {}, query={said.query: key} if said.query else {}
            )
        case AWS():
            return _Signed(said, clock)
        case OAuth2():
            return _Granted(said, clock)
        case Session():
            return _LoggedIn(said, base_url)


class _Fixed:
    """The same with every request."""

    def __init__(self, *, headers: dict[str, str] | None = None, query: dict[str, str] | None = None) -> None:
        self._headers, self._query = headers or {}, query or {}
        for value in (*self._headers.values(), *self._query.values()):
            register_secret(value)

    def sign(self, request: Request, send: Callable[[Request], Answer]) -> Request:  # noqa: ARG002 -- of the contract
        return request.asking(headers=self._headers, query=self._query)

    def renew(self, refused: Request) -> bool:  # noqa: ARG002 -- of the contract
        return False


class _Signed(_Fixed):
    """By AWS."""

    def __init__(self, said: AWS, clock: Clock) -> None:
        super().__init__()
        self._said, self._clock = said, clock
        self._key = said.secret_access_key.get_secret_value()
        self._token = said.session_token.get_secret_value() if said.session_token else None
        for secret in (self._key, self._token or ""):
            register_secret(secret)

    def sign(self, request: Request, send: Callable[[Request], Answer]) -> Request:  # noqa: ARG002 -- of the contract
        said = self._said
        signed = signature_headers(
            request,
            key_id=said.access_key_id,
            key=self._key,
            token=self._token,
            region=said.region,
            service=said.service,
            now=self._clock.now(),
        )
        return request.asking(headers=signed)


class _Renewed:
    """Headers that are asked for when they are needed, by one thread at a time, and again when they are refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._headers: dict[str, str] = {}

    def sign(self, request: Request, send: Callable[[Request], Answer]) -> Request:
        with self._lock:
            if not self._headers or self._expires_soon():
                self._headers = self._asked(send)
            return request.asking(headers=self._headers)

    def renew(self, refused: Request) -> bool:
        with self._lock:
            if all(refused.headers.get(name) == value for name, value in self._headers.items()):
                self._headers = {}  # otherwise another thread has new ones already
                self._refused()
        return True

    def _asked(self, send: Callable[[Request], Answer]) -> dict[str, str]:
        raise NotImplementedError

    def _expires_soon(self) -> bool:
        return False

    def _refused(self) -> None:
        """The headers are worth nothing any more."""


class _LoggedIn(_Renewed):
    """With a token, or with cookies."""

    def __init__(self, said: Session, base_url: str) -> None:
        super().__init__()
        self._said = said
        self._url = urljoin(base_url.rstrip("/") + "/", said.path)
        for value in (said.body or {}).values():
            if isinstance(value, str):
                register_secret(value, pieces=False)

    def _asked(self, send: Callable[[Request], Answer]) -> dict[str, str]:
        said = self._said
        answer = send(Request(said.method, self._url, body=said.body, form=said.form))
        _check(answer, "the login")
        if said.found_at is None:
            return {"Cookie": _cookies(answer)}
        token = one_at(json_of(answer), said.found_at)
        if not isinstance(token, str) or not token:
            raise TaskError(f"{shown(self._url)} gives no token at {said.found_at!r}", hint="look at `found_at`")
        register_secret(token)
        return {said.header: f"{said.prefix}{token}"}


class _Granted(_Renewed):
    """With a token of OAuth 2."""

    def __init__(self, said: OAuth2, clock: Clock) -> None:
        super().__init__()
        self._said, self._clock, self._expires_at = said, clock, 0.0
        self._secret = said.client_secret.get_secret_value()
        self._file: TokenFile | None = None
        if said.refresh_token is not None and said.file is not None:
            self._file = TokenFile(said.file, said.refresh_token.get_secret_value())
        self._last = self._refused_token = ""
        for secret in (self._secret, said.refresh_token.get_secret_value() if said.refresh_token else ""):
            register_secret(secret)

    def _expires_soon(self) -> bool:
        return self._clock.now().timestamp() > self._expires_at - _MARGIN_S

    def _refused(self) -> None:
        self._refused_token = self._last

    def _asked(self, send: Callable[[Request], Answer]) -> dict[str, str]:
        if self._file is None:
            kept = self._grant(send, {"grant_type": "client_credentials"}, "")
        else:
            with self._file.held() as hold:
                kept = hold.kept
                lives = kept.expires_at - _MARGIN_S > self._clock.now().timestamp()
                if not lives or kept.access_token in {"", self._refused_token}:
                    hold.keep(kept)  # a file that cannot be written is known before the token is used up
                    asked = {"grant_type": "refresh_token", "refresh_token": kept.refresh_token}
                    kept = self._grant(send, asked, kept.refresh_token)
                    hold.keep(kept)
        self._expires_at, self._last = kept.expires_at, kept.access_token
        return {"Authorization": f"Bearer {kept.access_token}"}

    def _grant(self, send: Callable[[Request], Answer], asked: dict[str, str], before: str) -> Kept:
        said, headers = self._said, {}
        body = {**said.parameters, **asked} | ({"scope": said.scope} if said.scope else {})
        if said.client_in == "header" and self._secret:
            headers["Authorization"] = _basic(said.client_id, self._secret)
        else:
            body |= {"client_id": said.client_id} | ({"client_secret": self._secret} if self._secret else {})
        began = self._clock.now().timestamp()
        answer = send(Request("POST", str(said.url), headers=headers, body=body, form=True))
        _check(answer, "the server of tokens")
        given: Any = json_of(answer)
        token = given.get("access_token") if isinstance(given, dict) else None
        if not isinstance(token, str) or not token:
            raise TaskError(f"{shown(str(said.url))} gives no access_token", hint="look at `url` in `authentication`")
        lives_s, refresh = given.get("expires_in"), given.get("refresh_token")
        lives_s = float(lives_s) if str(lives_s).replace(".", "", 1).isdigit() else _LIVES_S
        kept = Kept(refresh if isinstance(refresh, str) and refresh else before, token, began + lives_s)
        for secret in (kept.access_token, kept.refresh_token):
            register_secret(secret)
        return kept


def _check(answer: Answer, who: str) -> None:
    if answer.status < _GOOD_TO:
        return
    where = shown(answer.request.url)
    if answer.status >= _BUSY_FROM or answer.status == _TOO_OFTEN:
        raise RetryableError(f"{who} at {where} answers with {answer.status}")
    try:
        told = json.loads(answer.content)
        why = told.get("error_description") or told.get("error") or ""
    except (ValueError, AttributeError):
        why = ""
    hint = "look at `authentication`; a refresh token that was used up needs a new one from the API"
    raise TaskError(f"{who} at {where} answers with {answer.status}{f': {why}' if why else ''}", hint=hint)


def _basic(user: str, password: str) -> str:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    register_secret(text)
    return f"Basic {text}"


def _cookies(answer: Answer) -> str:
    jar = SimpleCookie()
    try:
        for one in answer.headers.get("set-cookie", "").split("\n"):
            jar.load(one)
    except CookieError as error:
        raise TaskError(f"{shown(answer.request.url)} sends a cookie that cannot be understood: {error}") from error
    if not jar:
        raise TaskError(
            f"{shown(answer.request.url)} sends no cookie", hint="name the place of a token with `found_at`"
        )
    for morsel in jar.values():
        register_secret(morsel.value)
    return "; ".join(f"{name}={morsel.coded_value}" for name, morsel in jar.items())
