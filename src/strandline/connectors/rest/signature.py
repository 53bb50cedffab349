"""AWS Signature Version 4, as https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html has it."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlsplit

from strandline.connectors.rest.request import Request

__all__ = ["signature_headers"]

_ALGORITHM = "AWS4-HMAC-SHA256"


def signature_headers(
    request: Request, *, key_id: str, key: str, token: str | None, region: str, service: str, now: datetime
) -> dict[str, str]:
    """The headers that sign ``request``; ``now`` is UTC."""
    parts, stamp, day = urlsplit(request.target), now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    signed = {"host": parts.netloc.rpartition("@")[2], "x-amz-date": stamp} | (
        {"x-amz-security-token": token} if token else {}
    )
    digest = hashlib.sha256(request.content or b"").hexdigest()
    # every service but S3 wants the path encoded twice
    path = parts.path or "/"
    path = path if service == "s3" else quote(path, safe="/~")
    lines = (request.method, path, _query(parts.query), _headers(signed), ";".join(sorted(signed)), digest)
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()))
    secret = f"AWS4{key}".encode()
    for part in (day, region, service, "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    said = f"Credential={key_id}/{scope}, SignedHeaders={';'.join(sorted(signed))}, Signature={signature}"
    del signed["host"]
    return {**signed, "Authorization": f"{_ALGORITHM} {said}"}


def _query(query: str) -> str:
    pairs = sorted(
        (quote(name, safe="~"), quote(value, safe="~")) for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def _headers(signed: Mapping[str, str]) -> str:
    return "".join(f"{name}:{' '.join(value.split())}\n" for name, value in sorted(signed.items()))
