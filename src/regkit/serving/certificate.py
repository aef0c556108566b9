"""The certificate that new connections are shown: the one on disk, also after it was replaced.

A connection that is there keeps what it began with, so that a new certificate costs no request.
How a pair is made or replaced is `regkit.identity`'s business.
"""

from __future__ import annotations

from OpenSSL import SSL

from regkit import identity, logs, tls
from regkit.errors import ServiceError
from regkit.identity import Identity

log = logs.get("regkit.serving")

_Stamp = tuple[tuple[int, int, int], ...]


class ServedCertificate:
    """One server's certificate. Each worker has a copy, and looks by itself."""

    def __init__(self, served: Identity, minimum_tls: str) -> None:
        """Begin with `served`. Raises what OpenSSL and the files do."""
        self._minimum = minimum_tls
        self.use(served)

    def use(self, served: Identity) -> None:
        """Show this one from now on."""
        self._files = (served.cert_path, served.key_path)
        seen = self._look()
        self._context = tls.server_context(served, self._minimum)
        self._served, self._seen = served.certificate, seen

    @property
    def context(self) -> SSL.Context:
        """What the next connection is to begin with; two stat(2) decide whether to read anew.

        A pair that can't be used, such as one that is being copied there, changes nothing.
        """
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                found = identity.load(*self._files)
                if found.certificate != self._served:
                    self._context = tls.server_context(found, self._minimum)
                    self._served = found.certificate
                    log.info("certificate-replaced", fingerprint=str(self._served.fingerprint))
            except (ServiceError, SSL.Error, OSError) as error:
                log.warning("certificate-not-used", reason=str(error))
        return self._context

    def _look(self) -> _Stamp:
        """Return what tells one pair of files from another."""
        try:
            found = [path.stat() for path in self._files]
        except OSError:
            return ()
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)
