"""The document of `aar trust apply`, read strictly: every fault is told at once."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from aar_interface import Certificate, InvalidCertificate, Role
from regkit import documents
from regkit.errors import Invalid
from regkit.trust import Wanted


def _certificate(value: Any) -> Certificate:
    if not isinstance(value, str):
        raise ValueError("must be a text: a certificate in PEM")  # noqa: TRY004 - pydantic's way
    try:
        return Certificate.parse(value)
    except InvalidCertificate as error:
        raise ValueError(str(error)) from None


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    certificate: Annotated[Certificate, BeforeValidator(_certificate)]
    role: Role
    origin: str = ""
    architectures: tuple[str, ...] = ()

    def wanted(self) -> Wanted:
        return Wanted(self.certificate, self.role, self.origin, self.architectures)

    @model_validator(mode="after")
    def _possible(self) -> _Item:
        try:
            self.wanted()
        except Invalid as error:
            raise ValueError(str(error)) from None
        return self


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    trusted: list[_Item] = Field(max_length=10_000)


def read_wanted(raw: bytes, source: str, limit: int) -> list[Wanted]:
    """Read at most `limit` bytes of YAML or JSON; `source` begins every message. Raises Invalid.

    An empty document isn't one that wants nothing: that is `trusted: []`.
    """
    document = documents.parse(documents.load(raw, source, limit), source, _Document)
    return [item.wanted() for item in document.trusted]
