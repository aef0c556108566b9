"""The errors of the distribution API, and what they are called there.

`code` is from the OCI distribution specification 1.1 ("Error Codes"), `status` its HTTP status.
They are kinds of the errors in `regkit.errors`, so that `/1.0` and the command line understand
them as well. How they are written on the wire is the doors' business.
"""

# ruff: noqa: N818 - the names state the fault

from __future__ import annotations

from typing import Any

from regkit import errors


class DistributionError(errors.ServiceError):
    """A fault that the specification has a code for. `detail` is JSON data for the client."""

    code = "UNSUPPORTED"

    def __init__(self, message: str, detail: Any = None) -> None:
        super().__init__(message)
        self.detail = detail


class BlobUnknown(DistributionError, errors.NotFound):
    """The repository has no such blob."""

    code = "BLOB_UNKNOWN"
    status = 404


class BlobUploadInvalid(DistributionError, errors.Invalid):
    """The upload can't go on like this."""

    code = "BLOB_UPLOAD_INVALID"
    status = 400


class BlobUploadBusy(DistributionError, errors.Conflict):
    """Another request is writing this upload."""

    code = "BLOB_UPLOAD_INVALID"
    status = 409


class RangeInvalid(DistributionError, errors.Invalid):
    """A chunk that doesn't continue the upload. `size` is where the next one must begin."""

    code = "BLOB_UPLOAD_INVALID"
    status = 416

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message, {"size": size})
        self.size = size


class BlobUploadUnknown(DistributionError, errors.NotFound):
    """The repository has no such upload."""

    code = "BLOB_UPLOAD_UNKNOWN"
    status = 404


class DigestInvalid(DistributionError, errors.Invalid):
    """Not a digest, or not that of the content."""

    code = "DIGEST_INVALID"
    status = 400


class ManifestBlobUnknown(DistributionError, errors.NotFound):
    """The manifest refers to content that the repository lacks; `detail` lists the digests."""

    code = "MANIFEST_BLOB_UNKNOWN"
    status = 404


class ManifestInvalid(DistributionError, errors.Invalid):
    """The manifest or the tag can't be taken."""

    code = "MANIFEST_INVALID"
    status = 400


class ManifestTooLarge(DistributionError, errors.TooLarge):
    """The manifest is over the limit."""

    code = "SIZE_INVALID"
    status = 413


class UploadTooLarge(DistributionError, errors.TooLarge):
    """The upload is over the limit."""

    code = "SIZE_INVALID"
    status = 413


class ManifestUnknown(DistributionError, errors.NotFound):
    """The repository has no such manifest or tag."""

    code = "MANIFEST_UNKNOWN"
    status = 404


class NameInvalid(DistributionError, errors.Invalid):
    """Not a repository name."""

    code = "NAME_INVALID"
    status = 400


class NameUnknown(DistributionError, errors.NotFound):
    """No such repository."""

    code = "NAME_UNKNOWN"
    status = 404


class SizeInvalid(DistributionError, errors.Invalid):
    """The content doesn't have the size that was stated."""

    code = "SIZE_INVALID"
    status = 400


class Denied(DistributionError, errors.Forbidden):
    """The caller may not do this."""

    code = "DENIED"
    status = 403


class Immutable(DistributionError, errors.Conflict):
    """What is published stays as it is."""

    code = "DENIED"
    status = 409


class Unsupported(DistributionError, errors.Invalid):
    """The registry doesn't do this."""

    code = "UNSUPPORTED"
    status = 400


class TooManyRequests(DistributionError, errors.Unavailable):
    """The caller should slow down, and try again after `retry_after` seconds."""

    code = "TOOMANYREQUESTS"
    status = 429

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
