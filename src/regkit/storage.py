"""`storage` of both services' `conf/main.yaml`, and the blob store that it describes.

What a blob store does is `regkit.blobs`' business; nothing is opened or asked here but files that
the settings name.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from regkit.blobs import BlobStore, FileBlobStore
from regkit.errors import Invalid
from regkit.settings import Duration, Section

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()/-]{0,512}", re.ASCII)
"""What every S3 server takes without quoting (AWS, "Naming Amazon S3 objects")."""
_LONGEST = timedelta(days=7)
"""The longest that a presigned URL may be valid (AWS, Signature Version 4)."""


def _url(text: str, what: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises for one that is none
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in schemes or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"{text[:200]!r} is not {what}: write it like https://s3.example.com")
    if parts.query or parts.fragment or not text.isprintable():
        raise ValueError(f"{text[:200]!r} is not {what}: leave out what follows the path")
    return text.rstrip("/")


def _endpoint(text: str) -> str:
    return _url(text, "an endpoint", ("https", "http"))


def _base_url(text: str) -> str:
    return _url(text, "a base URL", ("https",))


def _bucket(text: str) -> str:
    if not _BUCKET.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not the name of a bucket")
    return text


def _prefix(text: str) -> str:
    text = text.strip("/")
    if not _PREFIX.fullmatch(text) or any(part in ("", ".", "..") for part in text.split("/")[1:]):
        raise ValueError("a prefix is made of letters, digits and !_.*'()- with / in between")
    return f"{text}/" if text else ""


def _present(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("write an absolute path")
    return path


class FileStorage(Section):
    """`storage.fs`: blobs as files."""

    root_directory: Path | None = None
    """A path, absolute or below the state root; not given: its `data`."""


class CloudFront(Section):
    """`storage.s3.cloudfront`: downloads through CloudFront rather than from the bucket."""

    base_url: Annotated[str, AfterValidator(_base_url)]
    """Where the distribution is, such as `https://d111111abcdef8.cloudfront.net`."""
    private_key: Annotated[Path, AfterValidator(_present)]
    """A file with the RSA key, in PEM, that signs URLs."""
    keypair_id: Annotated[str, Field(pattern=r"^[A-Z0-9]{4,64}$")]
    """The id under which CloudFront knows the key."""
    duration: Duration | None = None
    """How long a signed URL is valid; not given: `redirect-for`."""


class BucketStorage(Section):
    """`storage.s3`: blobs in a bucket."""

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    """Where the server is, such as `https://s3.example.com`; not given: AWS in `region`."""
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "us-east-1"
    """The region that requests are signed for."""
    bucket: Annotated[str, AfterValidator(_bucket)]
    """The bucket, which must be there already."""
    access_key: SecretStr | None = None
    """With `secret-access-key`; not given: the environment's, or those of the instance profile."""
    secret_access_key: SecretStr | None = None
    """The secret of `access-key`; `conf/main.yaml` must not be readable by everybody then."""
    prefix: Annotated[str, AfterValidator(_prefix)] = ""
    """What the names of all objects begin with, so that several may share a bucket."""
    ca_file: Annotated[Path, AfterValidator(_present)] | None = None
    """Authorities that may have signed the server's certificate; not given: those of boto3."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """Whether the bucket's name is in the path or the host name of a URL."""

    @model_validator(mode="after")
    def _both_keys(self) -> BucketStorage:
        if (self.access_key is None) != (self.secret_access_key is None):
            raise ValueError("access-key and secret-access-key go together: give both or none")
        return self


class S3Storage(BucketStorage):
    """`storage.s3` of a service whose clients may fetch blobs from the bucket themselves."""

    redirect: bool = True
    """Whether clients fetch blobs from the bucket themselves, by URLs that are signed for them."""
    redirect_for: Duration = timedelta(minutes=15)
    """How long such a URL is valid, also after a revocation; from `1s` to `168h`."""
    cloudfront: CloudFront | None = None
    """Downloads through CloudFront: `base-url`, `private-key`, `keypair-id`, `duration`."""

    @model_validator(mode="after")
    def _sensible(self) -> S3Storage:
        for validity in (self.redirect_for, self.cloudfront and self.cloudfront.duration):
            if validity is not None and not timedelta(seconds=1) <= validity <= _LONGEST:
                raise ValueError("redirect-for and cloudfront.duration must be from 1s to 168h")
        plain = self.endpoint is not None and self.endpoint.startswith("http://")
        if plain and self.redirect and self.cloudfront is None:
            raise ValueError(
                "clients follow no redirect to an endpoint without TLS: use https, or set "
                "redirect: false"
            )
        return self


class Storage(Section):
    """`storage`: where blobs are kept, as files or in a bucket."""

    fs: FileStorage = FileStorage()
    s3: BucketStorage | None = None

    @model_validator(mode="after")
    def _one(self) -> Storage:
        if self.s3 is not None and "fs" in self.model_fields_set:
            raise ValueError("fs and s3 exclude each other: give one of them")
        return self


def authorities(storage: Storage) -> str:
    """Return, in PEM, the authorities that clients need in order to follow redirects to a bucket.

    Empty when public ones do, or there are no redirects. Raises Invalid for a file that can't be
    read.
    """
    s3 = storage.s3
    if not isinstance(s3, S3Storage) or not s3.redirect or s3.cloudfront is not None:
        return ""
    if s3.ca_file is None:
        return ""
    try:
        return s3.ca_file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise Invalid(f"storage.s3.ca-file: {s3.ca_file} can't be read: {error}") from None


def open_blobs(storage: Storage, folder: Path) -> BlobStore:
    """Return the blob store that the settings describe; nothing is asked of a server yet.

    `folder` is for files, unless the settings name another.
    Raises Invalid when S3 is wanted and can't be used, OSError for a folder that can't.
    """
    if storage.s3 is None:
        return FileBlobStore(folder)
    try:
        from regkit.blobs.s3 import S3BlobStore  # noqa: PLC0415 - slow, and an optional engine
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("boto3", "botocore"):
            raise
        raise Invalid(
            "storage.s3 needs boto3, which isn't installed: install anbox-registry[s3], or use "
            "storage.fs"
        ) from None
    return S3BlobStore(storage.s3)
