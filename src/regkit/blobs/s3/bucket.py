"""The one network door to a bucket: single requests, and every foreign fault as one of ours.

What the objects mean is the business of the modules above. Requests are tried anew a few times,
so that each must be one that may be sent twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from regkit.blobs.protocol import StorageDown
from regkit.errors import Invalid, NoSpace, NotFound, TooLarge
from regkit.storage import BucketStorage

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 30, 4
"""A request is given up after about half a minute of refused connections, or two of silence."""
CONNECTIONS = 64

_GONE = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}
_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "InvalidToken",
         "ExpiredToken", "RequestTimeTooSkewed", "403", "401"}  # fmt: skip
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}

_making = threading.Lock()
"""Making a client is the one thing that boto3's sessions allow only one thread at a time."""


@dataclass(frozen=True)
class Item:
    """An object: its name without the prefix, size in bytes, time of writing (aware, UTC)."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Multipart:
    """A multipart upload that was begun and not ended."""

    key: str
    id: str
    begun: datetime


@dataclass(frozen=True)
class Part:
    """A part of a multipart upload that the server has."""

    number: int
    etag: str
    size: int


class Bucket:
    """A bucket below a prefix; names are without it. Methods raise StorageDown, NoSpace."""

    def __init__(self, settings: BucketStorage) -> None:
        self._settings = settings
        self._prefix = settings.prefix
        self._client: Any = None
        self._process = 0
        self._name = settings.bucket

    @property
    def client(self) -> Any:
        """The client of this process: connections don't survive a fork."""
        with _making:
            if self._client is None or self._process != os.getpid():
                with self._foreign_faults():
                    self._client = self._new_client()
                self._process = os.getpid()
            return self._client

    def _new_client(self) -> Any:
        settings = self._settings
        access, secret = settings.access_key, settings.secret_access_key
        config = Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": settings.addressing_style},
            # The newer checksums break Ceph 16, and we compare digests ourselves.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        make: Any = _session().client
        return make(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=access.get_secret_value() if access else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            verify=str(settings.ca_file) if settings.ca_file else None,
            config=config,
        )

    def close(self) -> None:
        """Close idle connections; the next request opens others."""
        with _making:
            client, self._client = self._client, None
        if client is not None and self._process == os.getpid():
            client.close()

    def check(self) -> None:
        """Ask for the bucket. Raises Invalid when the settings can't be right, StorageDown."""
        try:
            with self._foreign_faults():
                self.client.head_bucket(Bucket=self._name)
        except NotFound:
            raise Invalid(
                f"there is no bucket {self._name!r}: create it, or check storage.s3.bucket"
            ) from None

    # -- objects --------------------------------------------------------------------------------

    def put(self, key: str, content: bytes | memoryview) -> None:
        """Write an object, over what may have been there."""
        with self._foreign_faults():
            self.client.put_object(Bucket=self._name, Key=self._prefix + key, Body=content)

    def create(self, key: str, content: bytes) -> bool:
        """Write an object unless there is one; of several who try at once, one gets true.

        `content` must be the caller's alone: it tells whether a repeated request had won before.
        """
        try:
            with self._foreign_faults(conditional=True):
                self.client.put_object(
                    Bucket=self._name, Key=self._prefix + key, Body=content, IfNoneMatch="*"
                )
        except ClientError:
            return self.get(key) == content
        return True

    def get(self, key: str) -> bytes | None:
        """Return a small object; None when it isn't there."""
        try:
            with self._foreign_faults():
                answer = self.client.get_object(Bucket=self._name, Key=self._prefix + key)
                with answer["Body"] as body:
                    return body.read()
        except NotFound:
            return None

    def open(self, key: str, start: int, stop: int) -> Any:
        """Return the body of bytes `start` up to `stop`, of which there is one. NotFound."""
        with self._foreign_faults():
            return self.client.get_object(
                Bucket=self._name, Key=self._prefix + key, Range=f"bytes={start}-{stop - 1}"
            )["Body"]

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes; None when it isn't there."""
        try:
            with self._foreign_faults():
                answer = self.client.head_object(Bucket=self._name, Key=self._prefix + key)
        except NotFound:
            return None
        return int(answer["ContentLength"])

    def delete(self, key: str) -> None:
        """Drop an object; idempotent."""
        with suppress(NotFound), self._foreign_faults():
            self.client.delete_object(Bucket=self._name, Key=self._prefix + key)

    def page(self, start: str, after: str = "") -> tuple[list[Item], str | None, datetime]:
        """Return up to 1000 objects whose names begin with `start`, in the order of their names.

        With them comes where the next page begins (None: nowhere), and the server's time.
        """
        more = {"StartAfter": self._prefix + after} if after else {}
        with self._foreign_faults():
            answer = self.client.list_objects_v2(
                Bucket=self._name, Prefix=self._prefix + start, **more
            )
        items = [
            Item(entry["Key"].removeprefix(self._prefix), int(entry["Size"]),
                 entry["LastModified"].astimezone(timezone.utc))
            for entry in answer.get("Contents", [])
        ]  # fmt: skip
        last = items[-1].key if items and answer.get("IsTruncated") else None
        return items, last, _time_of(answer)

    def list(self, start: str) -> Iterator[Item]:
        """Go over all objects whose names begin with `start`, in the order of their names."""
        after: str | None = ""
        while after is not None:
            items, after, _ = self.page(start, after)
            yield from items

    def link(self, key: str, seconds: int) -> str:
        """Return a URL that gives the object to whoever has it, for so long. Asks nobody."""
        with self._foreign_faults():
            return self.client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._name,
                    "Key": self._prefix + key,
                    "ResponseContentType": "application/octet-stream",
                },
                ExpiresIn=seconds,
            )

    # -- multipart uploads ----------------------------------------------------------------------

    def begin(self, key: str) -> str:
        """Begin a multipart upload; return its id."""
        with self._foreign_faults():
            answer = self.client.create_multipart_upload(Bucket=self._name, Key=self._prefix + key)
        return answer["UploadId"]

    def put_part(self, key: str, upload: str, number: int, content: bytes) -> Part:
        """Send a part. NotFound when there is no such upload."""
        with self._foreign_faults():
            answer = self.client.upload_part(
                Bucket=self._name,
                Key=self._prefix + key,
                UploadId=upload,
                PartNumber=number,
                Body=content,
            )
        return Part(number, answer["ETag"], len(content))

    def copy_part(self, key: str, upload: str, number: int, source: str, span: range) -> Part:
        """Take bytes of the object `source` as a part. NotFound."""
        with self._foreign_faults():
            answer = self.client.upload_part_copy(
                Bucket=self._name,
                Key=self._prefix + key,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self._name, "Key": self._prefix + source},
                CopySourceRange=f"bytes={span.start}-{span.stop - 1}",
            )
        return Part(number, answer["CopyPartResult"]["ETag"], len(span))

    def complete(self, key: str, upload: str, parts: list[Part]) -> None:
        """Make the object of its parts. NotFound when there is no such upload."""
        with self._foreign_faults():
            self.client.complete_multipart_upload(
                Bucket=self._name,
                Key=self._prefix + key,
                UploadId=upload,
                MultipartUpload={
                    "Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
                },
            )

    def abort(self, key: str, upload: str) -> None:
        """Give a multipart upload up; idempotent."""
        with suppress(NotFound), self._foreign_faults():
            self.client.abort_multipart_upload(
                Bucket=self._name, Key=self._prefix + key, UploadId=upload
            )

    def has_upload(self, key: str, upload: str) -> bool:
        """Whether a multipart upload is still open."""
        try:
            with self._foreign_faults():
                self.client.list_parts(
                    Bucket=self._name, Key=self._prefix + key, UploadId=upload, MaxParts=1
                )
        except NotFound:
            return False
        return True

    def uploads(self, start: str) -> Iterator[Multipart]:
        """Go over the open multipart uploads of objects whose names begin with `start`."""
        more: dict[str, str] = {}
        while True:
            with self._foreign_faults():
                answer = self.client.list_multipart_uploads(
                    Bucket=self._name, Prefix=self._prefix + start, **more
                )
            for entry in answer.get("Uploads", []):
                key = entry["Key"].removeprefix(self._prefix)
                begun = entry["Initiated"].astimezone(timezone.utc)
                yield Multipart(key, entry["UploadId"], begun)
            if not answer.get("IsTruncated"):
                return
            more = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer["NextUploadIdMarker"],
            }

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn the faults of a body that is being read into StorageDown."""
        with self._foreign_faults():
            yield

    @contextmanager
    def _foreign_faults(self, *, conditional: bool = False) -> Iterator[None]:
        """Turn foreign faults into ours, but for a condition that isn't met."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))[:60]
            status = _status(error)
            if conditional and status in (409, 412):
                raise
            raise self._explained(code, status) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StorageDown(
                f"the bucket {self._name!r} can't be reached ({type(error).__name__}): "
                "check storage.s3 and the server"
            ) from error

    def _explained(self, code: str, status: int) -> Exception:
        if code == "NoSuchBucket":
            return StorageDown(
                f"there is no bucket {self._name!r}: create it, or check storage.s3.bucket"
            )
        if code in _GONE or status == 404:
            return NotFound("there is no such object")
        if code in _FULL or status == 507:
            return NoSpace(f"the bucket {self._name!r} is full ({code}): free some space")
        if code in _KEYS or status in (401, 403):
            return StorageDown(
                f"the bucket {self._name!r} refuses access ({code}): check storage.s3.access-key, "
                "secret-access-key and what they may do"
            )
        if code == "EntityTooLarge":
            return TooLarge(f"the bucket {self._name!r} takes no object of that size")
        return StorageDown(f"the bucket {self._name!r} answers {status} {code}: try again")


@cache
def _session() -> Any:
    """Return the session of this process, which has read the description of S3 only once."""
    return Session()


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _time_of(answer: dict[str, Any]) -> datetime:
    """Return the time by the server's clock, by which it also dates objects."""
    text = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return parsedate_to_datetime(text).astimezone(timezone.utc)
    except (TypeError, ValueError):
        return datetime.now(timezone.utc)
