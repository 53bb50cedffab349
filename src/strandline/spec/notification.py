"""Whom a spec wants to be told how a run of a source ended."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from strandline.settings import Duration

__all__ = ["Notification"]


def _http(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("https://", "http://")):
        raise ValueError("should be a URL of https or http")
    return url


class Notification(BaseModel):
    """A command or a webhook, told once after a run of the source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: list[str] | None = Field(
        None,
        min_length=1,
        description="A program and its arguments, without a shell; told by its environment and on stdin.",
    )
    webhook: Annotated[SecretStr, AfterValidator(_http)] | None = Field(
        None, description="A URL of https or http, to which the same JSON is posted. It is a secret."
    )
    timeout: Duration = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="How long it may take. After that it is stopped.",
        json_schema_extra={"default": "30s"},
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.command is None) == (self.webhook is None):
            raise ValueError("should have `command` or `webhook`")
        return self
