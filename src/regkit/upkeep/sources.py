"""Where sound content may be taken from: folders, backups, other registries.

What a source gives is hostile until its digest was compared, which `repair` does. Folders may be
another service's data, an OCI image layout or the storage of a Docker registry.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from regkit.errors import Invalid, Unavailable
from regkit.oci.digest import Digest

if TYPE_CHECKING:
    import requests

CHUNK = 1024 * 1024

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
    """Another registry, over its distribution API. `session` trusts it and nobody else."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.name = url.rstrip("/")
        self._session = session

    def read(self, digest: Digest, places: Sequence[str]) -> Iterator[bytes] | None:
        """Return the blob of the first repository that has it."""
        from requests import RequestException  # noqa: PLC0415 - costs 100 ms, seldom needed

        for place in places:
            try:
                response = self._session.get(
                    f"{self.name}/v2/{place}/blobs/{digest}",
                    stream=True,
                    allow_redirects=False,
                    headers={"Accept-Encoding": "identity"},
                )
            except RequestException as error:
                raise Unavailable(f"{self.name} can't be reached: {error}") from None
            if response.status_code == 200:
                return self._pieces(response)
            response.close()
            if response.status_code != 404:
                raise Unavailable(f"{self.name} answered {response.status_code} for {digest}")
        return None

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        from requests import RequestException  # noqa: PLC0415

        with response:
            try:
                yield from response.iter_content(CHUNK)
            except RequestException as error:
                raise Unavailable(f"{self.name} stopped sending: {error}") from None


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
