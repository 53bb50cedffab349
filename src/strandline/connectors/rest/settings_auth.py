"""What a spec says of credentials."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, model_validator

from strandline.connectors.rest.settings_pages import PlaceText

__all__ = ["AWS", "APIKey", "AuthSettings", "Basic", "Bearer", "OAuth2", "Session"]

_EXACT = ConfigDict(extra="forbid")


class Bearer(BaseModel):
    """A token that is sent with every request: ``Authorization: Bearer …``."""

    model_config = _EXACT
    type: Literal["bearer"]
    token: SecretStr = Field(min_length=1, description="The token, without the word Bearer.")


class Basic(BaseModel):
    """A user and a password: ``Authorization: Basic …``."""

    model_config = _EXACT
    type: Literal["basic"]
    username: str = Field(description="The user; with some APIs, the key.")
    password: SecretStr = Field(SecretStr(""), description="Empty where the user is the key.")


class APIKey(BaseModel):
    """A key in a header or in a parameter of the query."""

    model_config = _EXACT
    type: Literal["api_key"]
    key: SecretStr = Field(min_length=1, description="The key.")
    header: str | None = Field(None, min_length=1, description="The header that has it, as X-Api-Key.")
    query: str | None = Field(None, min_length=1, description="The parameter that has it, as api_key.")

    @model_validator(mode="after")
    def _one_place(self) -> "APIKey":
        if (self.header is None) == (self.query is None):
            raise ValueError("say where the key is sent: `header` or `query`, one of the two")
        return self


class OAuth2(BaseModel):
    """Tokens that a server gives for client credentials, or for a refresh token.

    Some servers give a new refresh token with each answer, after which the old one is worth nothing. So ``refresh_token`` needs a
    ``file``: the new one is durable there before anything is asked with what came with it.
    """

    model_config = _EXACT
    type: Literal["oauth2"]
    url: HttpUrl = Field(description="Where tokens are given.")
    client_id: str = Field(min_length=1, description="Of the application.")
    client_secret: SecretStr = Field(SecretStr(""), description="Of the application; empty for a public one.")
    client_in: Literal["header", "body"] = Field(
        "header", description="Where the application says who it is: in the header Authorization, or in the body."
    )
    refresh_token: SecretStr | None = Field(
        None, description="The first one. Without: the grant is client_credentials."
    )
    file: Path | None = Field(
        None, description="Where the refresh token is kept that the server gave last; needed for a `refresh_token`."
    )
    scope: str | None = Field(None, min_length=1, description="What is asked for, with blanks between.")
    parameters: dict[str, str] = Field({}, description="What else the server wants in the body, as an audience.")

    @model_validator(mode="after")
    def _keeps_tokens(self) -> "OAuth2":
        if (self.refresh_token is None) != (self.file is None):
            raise ValueError(
                "`refresh_token` and `file` go together: a server that gives a new refresh token takes the old one no more"
            )
        return self


class Session(BaseModel):
    """A login, which gives a token or cookies. It is repeated where an answer is 401."""

    model_config = _EXACT
    type: Literal["session"]
    path: str = Field(min_length=1, description="Below `base_url`, or a whole URL.")
    method: Literal["POST", "GET", "PUT"] = Field("POST", description="How it is asked.")
    body: dict[str, Any] | None = Field(None, description="What is sent: a user and a password, say.")
    form: bool = Field(False, description="The body is a form, and not JSON.")
    found_at: PlaceText | None = Field(
        None,
        description="Where the token is in the answer, as data.token. Default: there is none, and cookies are kept.",
    )
    header: str = Field("Authorization", min_length=1, description="The header that has the token.")
    prefix: str = Field("Bearer ", description="What stands before the token.")


class AWS(BaseModel):
    """Requests are signed: Signature Version 4."""

    model_config = _EXACT
    type: Literal["aws"]
    access_key_id: str = Field(min_length=1, description="The key's name.")
    secret_access_key: SecretStr = Field(min_length=1, description="The key.")
    session_token: SecretStr | None = Field(None, description="Of temporary credentials.")
    region: str = Field(min_length=1, description="As eu-central-1.")
    service: str = Field(min_length=1, description="As execute-api.")


AuthSettings: TypeAlias = Annotated[Bearer | Basic | APIKey | OAuth2 | Session | AWS, Field(discriminator="type")]
"""One of them, by its ``type``."""
