"""The one network door to the registry: what the sync asks of it, in its own words.

Speaks `/1.0` (who am I, changes, removal) and the OCI distribution API (blobs, manifests). Which
requests make sense is decided elsewhere; how bytes reach the disk is `ams.sync.transfer`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import requests

from ams.sync.door import CHUNK, MAX_WAIT, BlobStream, Connect, Door, Hello
from ams.sync.endpoints import Endpoints
from ams.sync.feed import PAGE, Cursor, EpochChanged, FeedRefused, Page, parse_head, parse_page
from ams.sync.feed import went_back as _went_back
from ams.sync.transport import (
    Answer,
    NotARegistry,
    Transport,
    answered,
    foreign_faults,
    path_of,
)
from regkit.blobs import DigestMismatch
from regkit.elsewhere import Elsewhere, host_of
from regkit.errors import Conflict, Forbidden, Invalid, NotFound, ServiceError, Unavailable
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST, MAX_BYTES
from regkit.oci.names import repository_of

REDIRECT = 307
"""What a registry answers to a download from a bucket; no other redirection is followed."""


class Registry:
    """A registry behind a pinned certificate. Methods raise ServiceError kinds only."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._elsewhere: Elsewhere | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The URL in use."""
        return self._transport.url

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()
        with self._lock:
            if self._elsewhere is not None:
                self._elsewhere.close()

    def hello(self) -> Hello:
        """Ask who answers. Raises NotARegistry, WrongCertificate, Unavailable."""
        try:
            with self._transport.send("GET", "/1.0") as answer:
                metadata = answer.metadata()
        except (NotFound, Invalid) as fault:
            raise NotARegistry(
                f"{self.url} answers, but not as an application registry: check registry.url"
            ) from fault
        extensions = metadata.get("api_extensions") if isinstance(metadata, dict) else None
        if not isinstance(extensions, list) or "changes" not in {str(e) for e in extensions}:
            raise NotARegistry(
                f"{self.url} answers, but offers no change feed: check registry.url"
            )
        return Hello(
            trusted=metadata.get("auth") == "trusted",
            role=str(metadata.get("role") or ""),
            epoch=str(metadata.get("epoch") or ""),
            extensions=frozenset(str(extension) for extension in extensions),
            storage_authorities=str(metadata.get("storage_authorities") or ""),
        )

    def changes(self, since: Cursor | None, wait: int = 0) -> Page:
        """Return the changes after `since` (None: from the beginning), waiting up to `wait` s.

        Raises EpochChanged, FeedRefused.
        """
        params: dict[str, Any] = {"limit": PAGE}
        if since is not None:
            params["since"] = str(since)
        if wait:
            params["wait"] = min(wait, MAX_WAIT)
        try:
            with self._transport.send(
                "GET", "/1.0/changes", params=params, patience=wait
            ) as answer:
                return parse_page(answer.metadata())
        except ServiceError as fault:
            status, metadata = answered(fault)
            if status == 410 and metadata is not None:
                raise EpochChanged(parse_head(metadata).epoch) from fault
            if status == 409 and metadata is not None and since is not None:
                raise FeedRefused(_went_back(parse_head(metadata), since)) from fault
            raise

    def manifest(self, key: Key, digest: Digest) -> bytes:
        """Return the bytes of a version's manifest, which have this digest."""
        path = f"/v2/{repository_of(key.name)}/manifests/{digest}"
        with self._transport.send("GET", path, headers={"Accept": MANIFEST}) as answer:
            content = answer.content(MAX_BYTES)
        if Digest.of(content, digest.algorithm) != digest:
            raise DigestMismatch(f"the registry's manifest of {key} isn't what its digest says")
        return content

    def small_blob(self, key: Key, digest: Digest, size: int) -> bytes:
        """Return a blob of exactly `size` bytes, for what is parsed in memory."""
        with self._download(_blob_path(key, digest)) as answer:
            content = answer.content(size)
        if len(content) != size or Digest.of(content, digest.algorithm) != digest:
            raise DigestMismatch(f"the registry's blob {digest} isn't what its digest says")
        return content

    @contextmanager
    def blob(self, key: Key, digest: Digest, start: int = 0) -> Iterator[BlobStream]:
        """Open a blob from byte `start` on. Raises Unavailable when it is cut."""
        span = f"bytes={start}-" if start else ""
        with self._download(_blob_path(key, digest), span) as answer:
            offset = 0
            if answer.status == 206:
                offset = _range_start(answer.header("Content-Range"))
                if offset > start:
                    raise Invalid("the registry answers another range than was asked for")
            yield BlobStream(offset, answer.stream(CHUNK))

    @contextmanager
    def _download(self, path: str, span: str = "") -> Iterator[Answer]:
        """Ask for a blob, and go where the registry says that it is."""
        headers = {"Range": span} if span else {}
        with self._transport.send("GET", path, headers=headers, allow=[REDIRECT]) as answer:
            if answer.status != REDIRECT:
                yield answer
                return
            location = answer.header("Location")
        try:
            host = host_of(location)
        except Unavailable as fault:
            raise NotARegistry(str(fault)) from None
        with foreign_faults(host):
            response = self._followed().get(location, span)
        with response:
            yield Answer(response, host)

    def _followed(self) -> Elsewhere:
        with self._lock:
            if self._elsewhere is None:
                self._elsewhere = Elsewhere(self.hello().storage_authorities)
            return self._elsewhere

    def has_blob(self, key: Key, digest: Digest) -> bool:
        """Whether the application's repository holds the blob."""
        try:
            with self._transport.send("HEAD", _blob_path(key, digest)):
                return True
        except NotFound:
            return False

    def put_small_blob(self, key: Key, digest: Digest, content: bytes) -> None:
        """Upload a blob in one request."""
        path = f"/v2/{repository_of(key.name)}/blobs/uploads/"
        with self._transport.send(
            "POST",
            path,
            params={"digest": str(digest)},
            data=content,
            headers={"Content-Type": "application/octet-stream"},
        ) as answer:
            if answer.status != 201:
                raise Invalid("the registry didn't take a blob that was sent in one request")

    def begin_upload(self, key: Key) -> Upload:
        """Open an upload session."""
        path = f"/v2/{repository_of(key.name)}/blobs/uploads/"
        with self._transport.send("POST", path, headers={"Content-Length": "0"}) as answer:
            return Upload(self._transport, answer.base, path_of(answer.header("Location")))

    def put_manifest(self, key: Key, content: bytes) -> None:
        """Publish a version. Raises Conflict when the key has other content there."""
        path = f"/v2/{repository_of(key.name)}/manifests/{key.tag}"
        headers = {"Content-Type": MANIFEST}
        with self._transport.send("PUT", path, data=content, headers=headers) as answer:
            stated = answer.header("Docker-Content-Digest")
            if answer.status != 201 or (stated and stated != str(Digest.of(content))):
                raise Invalid(f"the registry stored {key} as something else: check the registry")

    def delete(self, name: str, number: int | None = None, architecture: str = "") -> None:
        """Remove an application, one of its versions, or one of an architecture. NotFound."""
        parts = [name] + ([] if number is None else [str(number)])
        parts += [architecture] if number is not None and architecture else []
        path = "/1.0/applications/" + "/".join(quote(part, safe="") for part in parts)
        with self._transport.send("DELETE", path) as answer:
            answer.metadata()


class Upload:
    """An upload session of one blob, which can go on after a cut."""

    def __init__(self, transport: Transport, base: str, path: str) -> None:
        self._transport = transport
        self._base = base
        self._path = path

    def send(self, chunks: Iterator[bytes], start: int, size: int) -> None:
        """Send bytes `start` to `size` (exclusive). Raises Unavailable when cut."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{start}-{size - 1}",
        }
        body = _Body(chunks, size - start)
        with self._transport.send(
            "PATCH", self._path, base=self._base, data=body, headers=headers
        ) as answer:
            self._path = path_of(answer.header("Location") or self._path)

    def offset(self) -> int:
        """Ask how many bytes have arrived. NotFound when the session is gone."""
        with self._transport.send("GET", self._path, base=self._base) as answer:
            self._path = path_of(answer.header("Location") or self._path)
            return _range_end(answer.header("Range"))

    def finish(self, digest: Digest) -> None:
        """Close the session: the blob is there now."""
        joint = "&" if "?" in self._path else "?"
        path = f"{self._path}{joint}digest={quote(str(digest), safe='')}"
        with self._transport.send(
            "PUT", path, base=self._base, headers={"Content-Length": "0"}
        ) as answer:
            if answer.status != 201:
                raise Unavailable("the registry didn't finish an upload: it will be sent anew")


class _Body:
    """A body of known length made of pieces: requests sends `Content-Length`, not chunks."""

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
        self._chunks = chunks
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


def refusal(fault: Forbidden, fingerprint: str, mode: str) -> Forbidden:
    """Say what an operator must do about a registry that refuses this service."""
    flag = " --publisher" if mode == "push" else ""
    return Forbidden(
        f"{fault}. The certificate of this service has the fingerprint {fingerprint[:12]}: on the "
        f"registry's machine, 'aar trust list' shows whether it is trusted, and 'aar trust add"
        f"{flag} client.crt' adds it (registry/client.crt under this service's state directory); "
        "one that was revoked needs a new key and certificate"
    )


def check_hello(hello: Hello, mode: str) -> None:
    """Check that the registry lets us do what `mode` needs. Raises Forbidden."""
    if not hello.trusted:
        raise Forbidden("the registry doesn't trust this service's certificate")
    if mode == "push" and hello.role != "publisher":
        raise Forbidden(
            "the registry knows this service as a client, which may only read: pushing needs it "
            "added as a publisher there"
        )


def _blob_path(key: Key, digest: Digest) -> str:
    return f"/v2/{repository_of(key.name)}/blobs/{digest}"


def _range_start(text: str) -> int:
    """Read the first byte of `bytes 5-9/10` (RFC 9110, section 14.4)."""
    unit, _, rest = text.partition(" ")
    first = rest.partition("-")[0]
    if unit != "bytes" or not (first.isascii() and first.isdigit()) or len(first) > 18:
        raise Invalid("the registry answers a range that can't be read")
    return int(first)


def _range_end(text: str) -> int:
    """Read how many bytes `0-9` means, the Range of an upload session (distribution-spec).

    `0-0` is what registries answer for none and for one byte alike; none is meant here, and one
    that has a byte refuses the resumption, after which the upload begins anew.
    """
    first, _, last = text.removeprefix("bytes=").partition("-")
    if not text or (first == "0" and last in ("", "0")):
        return 0
    if first != "0" or not (last.isascii() and last.isdigit()) or len(last) > 18:
        raise Conflict("the registry tells no usable offset for an upload")
    return int(last) + 1


def connector(
    open_session: Callable[[str], requests.Session], site: Callable[[], str] = lambda: ""
) -> Connect:
    """Make a Connect from what opens a session pinned to a fingerprint.

    What it opens shares what is known of the URLs: which fail, and which this `site` prefers.
    """
    known: dict[tuple[str, ...], Endpoints] = {}

    def connect(urls: Sequence[str], fingerprint: str) -> Door:
        key = (fingerprint, *urls)
        endpoints = known.get(key)
        if endpoints is None:
            known.clear()  # the registry is another one now
            endpoints = known[key] = Endpoints(urls, site())
        return Registry(Transport(endpoints, lambda: open_session(fingerprint)))

    return connect
