"""Where sound content may be taken from: folders, backups, other registries.

What a source gives is hostile until its size and digest were compared, which `repair` does.
Folders may be another service's data, an OCI image layout or the storage of a Docker registry. A
registry may send on to where it keeps its blobs (`regkit.elsewhere`).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from regkit.errors import Invalid, Unavailable
from regkit.oci.digest import Digest

if TYPE_CHECKING:
    import requests

    from regkit.elsewhere import Elsewhere

CHUNK = 1024 * 1024
MAX_JSON = 1024 * 1024
REDIRECT = 307
"""What a registry answers to a download from a bucket; no other redirection is followed."""

_LAYOUTS = (
    "blobs/{algorithm}/{start}/{hex}",
    "data/blobs/{algorithm}/{start}/{hex}",
    "blobs/{algorithm}/{hex}",
    "docker/registry/v2/blobs/{algorithm}/{start}/{hex}/data",
)
"""This project's, with and without the state root; OCI image layouts and zot; distribution."""


class Source(Protocol):
    """A place that may have blobs. Its `name` is for people."""

    name: str

    def read(self, digest: Digest, places: Sequence[str]) -> Iterator[bytes] | None:
        """Return the content of a blob, unchecked; None when it isn't there.

        `places` are repositories where registries may have it. Raises Unavailable, also while the
        content is read.
        """
        ...

    def close(self) -> None:
        """Let go of what was opened; idempotent."""
        ...


class Folder:
    """Files below a folder, in any of the known layouts."""

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root

    def read(self, digest: Digest, places: Sequence[str]) -> Iterator[bytes] | None:
        """Return the content of the first file that has the blob's name."""
        parts = {"algorithm": digest.algorithm, "start": digest.hex[:2], "hex": digest.hex}
        for layout in _LAYOUTS:
            path = self._root / layout.format(**parts)
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unavailable(f"{path}: {error.strerror}") from None
            return _pieces(file, str(path))
        return None

    def close(self) -> None:
        """Nothing is kept open."""


class Archive:
    """A backup that `aar backup` or `ams backup` made."""

    def __init__(self, path: Path) -> None:
        """Raises Invalid for what is no tar archive."""
        self.name = str(path)
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by close()
        except (tarfile.TarError, EOFError):
            raise Invalid(f"{path} is neither a folder nor a backup") from None
        self._members: dict[str, tarfile.TarInfo] | None = None

    def read(self, digest: Digest, places: Sequence[str]) -> Iterator[bytes] | None:
        """Return the content of the member that has the blob's name."""
        try:
            if self._members is None:
                self._members = {member.name: member for member in self._tar if member.isreg()}
            name = f"blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"
            member = self._members.get(name)
            file = self._tar.extractfile(member) if member else None
        except (tarfile.TarError, OSError) as error:
            raise Unavailable(f"{self.name} can't be read: {error}") from None
        return _pieces(file, self.name) if file else None

    def close(self) -> None:
        """Close the file."""
        self._tar.close()


class Registry:
    """Another registry, over its distribution API. `session` trusts it and nobody else.

    Where it keeps its blobs in a bucket it answers 307, which is followed once: to an https URL
    whose server is certified by a public authority or by one that the registry names. That server
    gets neither our certificate nor a header.
    """

    def __init__(self, url: str, session: requests.Session) -> None:
        self.name = url.rstrip("/")
        self._session = session
        self._elsewhere: Elsewhere | None = None

    def read(self, digest: Digest, places: Sequence[str]) -> Iterator[bytes] | None:
        """Return the blob of the first repository that has it."""
        for place in places:
            response = self._get(f"/v2/{place}/blobs/{digest}")
            if response.status_code == 200:
                return self._pieces(response, self.name)
            location = response.headers.get("Location", "")
            response.close()
            if response.status_code == REDIRECT:
                return self._follow(location)
            if response.status_code != 404:
                raise Unavailable(f"{self.name} answered {response.status_code} for {digest}")
        return None

    def close(self) -> None:
        """Close its connections."""
        self._session.close()
        if self._elsewhere is not None:
            self._elsewhere.close()

    def _get(self, path: str) -> requests.Response:
        with _foreign_faults(f"{self.name} can't be reached"):
            return self._session.get(
                self.name + path,
                stream=True,
                allow_redirects=False,
                headers={"Accept-Encoding": "identity"},
            )

    def _follow(self, location: str) -> Iterator[bytes]:
        from regkit.elsewhere import Elsewhere, host_of  # noqa: PLC0415 - as in _foreign_faults

        try:
            host = host_of(location)
        except Unavailable as error:
            raise Unavailable(f"{self.name}: {error}") from None
        if self._elsewhere is None:
            self._elsewhere = Elsewhere(self._authorities())
        with _foreign_faults(f"{host}, where {self.name} keeps its files, can't be reached"):
            return self._pieces(self._elsewhere.get(location), host)

    def _authorities(self) -> str:
        """Ask, in PEM, who may certify where it keeps its blobs; empty: public authorities."""
        content = b""
        with self._get("/1.0") as response:
            for piece in self._pieces(response, self.name):
                content += piece
                if len(content) > MAX_JSON:
                    raise Unavailable(f"{self.name} answers with too much: is it a registry?")
        try:
            found = json.loads(content)["metadata"].get("storage_authorities", "")
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            raise Unavailable(f"{self.name} says not where it keeps its files") from None
        return found if isinstance(found, str) else ""

    def _pieces(self, response: requests.Response, name: str) -> Iterator[bytes]:
        # As it comes: what is packed could be a thousand times as large.
        with response, _foreign_faults(f"{name} stopped sending"):
            yield from response.raw.stream(CHUNK, decode_content=False)


@contextmanager
def _foreign_faults(what: str) -> Iterator[None]:
    """Turn the faults of requests, urllib3 and sockets into Unavailable; `what` says so."""
    from requests import RequestException  # noqa: PLC0415 - costs 100 ms, seldom needed
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    from regkit.pinned import reason  # noqa: PLC0415

    try:
        yield
    except (RequestException, HTTPError, OSError) as error:
        raise Unavailable(f"{what}: {reason(error)}") from None


@contextmanager
def opened(
    places: Sequence[str], connect: Callable[[], requests.Session]
) -> Iterator[list[Source]]:
    """Open folders, archives and registries, given as the operator did.

    `connect` opens a session that trusts the registry that was pinned. Raises Invalid.
    """
    with ExitStack() as stack:
        found: list[Source] = []
        for place in places:
            source = _open(place, connect)
            stack.callback(source.close)
            found.append(source)
        yield found


def _open(place: str, connect: Callable[[], requests.Session]) -> Source:
    if place.startswith("https://"):
        return Registry(place, connect())
    if "://" in place:
        raise Invalid(f"{place[:200]} can't be read: give a folder, a backup or an https:// URL")
    path = Path(place)
    try:
        if path.is_dir():
            return Folder(path)
        return Archive(path)
    except OSError as error:
        raise Invalid(f"{place} can't be read: {error.strerror or error}") from None


def _pieces(file: IO[bytes], name: str) -> Iterator[bytes]:
    with file:
        while True:
            try:
                piece = file.read(CHUNK)
            except (OSError, tarfile.TarError) as error:
                raise Unavailable(f"{name} can't be read: {error}") from None
            if not piece:
                return
            yield piece
