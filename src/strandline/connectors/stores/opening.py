"""How an object store is opened, and what its driver's errors mean; for all rooms that read or write one."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from strandline.connectors.stores.drivers import obstore_exceptions, obstore_store
from strandline.errors import UsageError

__all__ = ["OBJECT_SCHEMES", "advice", "first_line", "object_place", "opened", "refused", "shown_url"]

OBJECT_SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
"""Variables of the environment that say where a store is."""
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_REFUSED = re.compile(r"status code: 40[13]\b")
"""A list that is refused is a failure like others to the driver."""
_QUERY = re.compile(r"(?<=://)([^\s?]+)\?\S+")
"""Of a URL: where a signature stands."""
_ADVICE = {
    "ExpiredToken": "the credentials have expired: renew them, or use a role, whose credentials are renewed by themselves",
    "TokenRefreshRequired": "the credentials have expired: renew them",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "InvalidAccessKeyId": "the access key is not known there: check it, and the endpoint",
    "SignatureDoesNotMatch": "the secret key is another one: check it",
    "NoSuchBucket": "there is no such bucket: check its name, and `options: {region: …}`",
    "PermanentRedirect": "the bucket is in another region: set `options: {region: …}`",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set `options: {region: …}`",
    "IllegalLocationConstraintException": "the bucket is in another region: set `options: {region: …}`",
}


def object_place(url: str, options: Mapping[str, str]) -> str:
    """The name of a place in a store, for comparing; see ``strandline.place``."""
    return f"objects {options.get('endpoint', '')} {url}"


def shown_url(url: str) -> str:
    """For people: without what may be a key."""
    return url.partition(":")[0] if set("@?") & set(url) else url.rstrip("/")


def opened(url: str, options: Mapping[str, str], timeout_s: float, *, retries: int | None = None, what: str) -> Any:
    """A store of obstore. Passing failures are repeated by it, later and later and not all at one time.

    Args:
        url: of the bucket, perhaps with a prefix; of a server of HTTP.
        options: as obstore names them; of a server of HTTP, headers of each request. What is not there comes from the environment.
        timeout_s: of one request, and of all its repetitions where ``retries`` says how many.
        retries: as the driver likes where nothing is said: ten, for three minutes.
        what: the setting that is wrong, if it is.

    Raises:
        UsageError: a setting is wrong, or the driver is missing.
    """
    if find_spec("obstore") is None:
        raise UsageError(
            f"{shown_url(url)} needs obstore, which is not installed", hint="pip install 'strandline[objects]'"
        )
    is_http = url.startswith(("http://", "https://"))
    places = [value for name, value in options.items() if name.endswith(("endpoint", "base_url"))]
    places += [os.environ.get(name, "") for name in _ENDPOINTS]
    plain = any(one.startswith("http://") for one in (url, *places))
    client: dict[str, Any] = {"timeout": timedelta(seconds=timeout_s)} | ({"allow_http": True} if plain else {})
    more: dict[str, Any] = {"config": dict(options) or None}
    if is_http:
        client["default_headers"], more = dict(options), {}
    retry = None if retries is None else {"max_retries": retries, "retry_timeout": timedelta(seconds=timeout_s)}
    opens: Any = obstore_store.HTTPStore.from_url if is_http else obstore_store.from_url
    try:
        return opens(url, client_options=client, retry_config=retry, **more)
    except (obstore_exceptions.BaseError, ValueError, TypeError) as error:
        raise UsageError(f"{what} of {shown_url(url)}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """What the driver says, without the request, in which a signature may stand."""
    return _QUERY.sub(r"\1?…", str(error).strip().split("\n")[0])[:300]


def refused(error: BaseException) -> bool:
    """Whether these credentials, or none, are not enough."""
    kinds = obstore_exceptions.PermissionDeniedError, obstore_exceptions.UnauthenticatedError, PermissionError
    return isinstance(error, kinds) or _REFUSED.search(str(error)) is not None


def advice(error: BaseException, otherwise: str = "") -> str:
    """What to do about an error of the store, by the code that it gives for it."""
    text = str(error)
    if "without LOCATION" in text:
        return _ADVICE["PermanentRedirect"]
    code = _CODE.search(text)
    return _ADVICE.get(code[1] if code else "", otherwise)
